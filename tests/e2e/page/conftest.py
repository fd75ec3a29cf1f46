"""The page in a real browser against a real server. Every test also fails on an error in the console, on a fault in a
script, and on a request that leaves the server's origin."""

import base64
import json
import os
import shutil
from contextlib import contextmanager

import httpx
import pytest
from playwright.sync_api import sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-quic"),
]
PATIENCE_MS = 15_000

GIVE_FILE = """async ([way, bytes]) => {
  const data = Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([data], "picture.png", { type: "image/png" }));
  if (way === "paste") {
    document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true }));
    return;
  }
  for (const name of ["dragover", "drop"]) {
    document.body.dispatchEvent(new DragEvent(name, { dataTransfer: transfer, bubbles: true, cancelable: true }));
  }
}"""


class Shop:
    """The page with the acts of a person, each of which waits until the page shows the server's answer."""

    def __init__(self, page, url: str) -> None:
        self.page, self.url = page, url

    def open(self, path: str = "/") -> None:
        self.page.goto(self.url + path)
        self.page.wait_for_selector("#filter-form > *", state="attached")
        self.page.wait_for_selector(".card, #welcome:not([hidden]), #problem:not([hidden])")

    def ids(self) -> list[str]:
        return self.page.eval_on_selector_all(".card", "cards => cards.map(card => card.dataset.item)")

    @contextmanager
    def searched(self):
        """Wait for the search that the block sets off; the dict given is filled with the server's answer."""
        answer: dict = {}
        with self.page.expect_response(lambda response: response.url.endswith("/v1/search")) as got:
            yield answer
        assert got.value.ok, got.value.text()
        answer.update(got.value.json())
        self.wait_for([hit["item_id"] for hit in answer["hits"]])

    def wait_for(self, ids: list[str]) -> None:
        """Until the last cards are these, in this order."""
        self.page.wait_for_function(
            """(ids) => JSON.stringify([...document.querySelectorAll(".card")].slice(-ids.length)
               .map((card) => card.dataset.item)) === JSON.stringify(ids)""",
            arg=ids,
        )

    def search(self, words: str) -> dict:
        with self.searched() as answer:
            self.page.fill("#q", words)
            self.page.press("#q", "Enter")
        return answer

    def give_picture(self, data: bytes, way: str = "drop") -> dict:
        with self.searched() as answer:
            if way == "choose":
                self.page.set_input_files("#file", {"name": "picture.png", "mimeType": "image/png", "buffer": data})
            else:
                self.page.evaluate(GIVE_FILE, [way, base64.b64encode(data).decode()])
        return answer


class Api:
    """The same server without the page: what the page shows is compared with it."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=30)

    def search(self, *parts: dict, **more) -> list[str]:
        answer = self._client.post("/v1/search", json={"parts": parts, **more})
        assert answer.status_code == 200, answer.text
        return [hit["item_id"] for hit in answer.json()["hits"]]

    def pages(self, *parts: dict, pages: int) -> list[str]:
        ids, cursor = [], None
        for _ in range(pages):
            answer = self._client.post("/v1/search", json={"parts": parts, "cursor": cursor}).json()
            ids += [hit["item_id"] for hit in answer["hits"]]
            cursor = answer["next_cursor"]
        return ids

    def get(self, path: str) -> httpx.Response:
        answer = self._client.get(path)
        assert answer.status_code == 200, answer.text
        return answer

    def picture(self, item_id: str) -> bytes:
        return self.get(f"/v1/items/{item_id}/picture").content

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="session")
def server_url(request) -> str:
    """E2E_URL names a server that runs already (for work on the page); else the demo is built and served."""
    return os.environ.get("E2E_URL") or request.getfixturevalue("served_demo").url


@pytest.fixture(scope="session")
def api(server_url):
    client = Api(server_url)
    yield client
    client.close()


@pytest.fixture(scope="session")
def an_item(api) -> str:
    """Some item of the served release, by a search that any catalogue of pictures answers."""
    return api.search({"text": "red apple"}, k=1)[0]


@pytest.fixture(scope="session")
def browser():
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.fail("the tests of the page need Chromium on the PATH: apt-get install chromium", pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def console() -> list[str]:
    """Errors and warnings of the page. A test that provokes one clears the list."""
    return []


@pytest.fixture
def context_options() -> dict:
    """Overridden by tests that need another device."""
    return {"viewport": {"width": 1280, "height": 860}}


@pytest.fixture
def shop(browser, server_url, console, context_options):
    context = browser.new_context(locale="en-GB", **context_options)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda entry: console.append(entry.text) if entry.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: console.append(str(error)))
    yield Shop(page, server_url)
    context.close()
    assert console == []
    strangers = [url for url in asked if not url.startswith((server_url + "/", "data:", "blob:"))]
    assert strangers == []


@pytest.fixture
def answer_with():
    """Body and headers for `route.fulfill` that make a problem document."""

    def fulfil(route, status: int, title: str, detail: str) -> None:
        body = json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail})
        route.fulfill(status=status, content_type="application/problem+json", body=body)

    return fulfil
