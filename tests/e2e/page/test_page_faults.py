"""The page when something is wrong: errors of the server, late answers, an expired cursor, hostile texts."""

import contextlib
import json

import pytest
from playwright.sync_api import Error, expect

pytestmark = pytest.mark.slow

HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'


def test_a_problem_of_the_server_is_told_and_can_be_tried_again(shop, console, answer_with):
    shop.open()
    shop.page.route("**/v1/search", lambda route: answer_with(route, 503, "The server is busy", "Ask again soon."))
    shop.page.fill("#q", "boat")
    shop.page.press("#q", "Enter")
    problem = shop.page.get_by_role("alert")
    expect(problem).to_contain_text("The server is busy")
    expect(problem).to_contain_text("Ask again soon.")
    assert shop.ids() == []
    shop.page.unroute("**/v1/search")
    with shop.searched():
        problem.get_by_role("button", name="Try again").click()
    expect(problem).to_be_hidden()
    assert all("503" in line for line in console)
    console.clear()


def test_a_real_problem_document_is_shown(shop, console):
    shop.open("/?like=no-such%3Aitem")
    problem = shop.page.get_by_role("alert")
    expect(problem).to_be_visible()
    expect(problem).to_contain_text("no-such:item")
    assert all("404" in line for line in console)
    console.clear()


def test_a_server_that_is_gone_is_named(shop, console):
    shop.open()
    shop.page.route("**/v1/search", lambda route: route.abort())
    shop.page.fill("#q", "boat")
    expect(shop.page.get_by_role("alert")).to_contain_text("The server cannot be reached")
    console.clear()


@pytest.mark.parametrize("status", [409, 410])
def test_an_expired_cursor_starts_again_with_a_note(shop, console, answer_with, status):
    shop.open("/?q=boat")
    first = shop.ids()

    def refuse_cursors(route):
        if json.loads(route.request.post_data)["cursor"]:
            answer_with(route, status, "The cursor is no longer valid", "release 1 is gone")
        else:
            route.continue_()

    shop.page.route("**/v1/search", refuse_cursors)
    shop.page.click("#more")
    expect(shop.page.locator("#note")).to_contain_text("start again from the first page")
    assert shop.ids() == first
    expect(shop.page.get_by_role("alert")).to_be_hidden()
    console.clear()


def test_a_late_answer_does_not_replace_the_right_one(shop, api):
    shop.open()
    held = []

    def hold_the_first(route):
        if json.loads(route.request.post_data)["parts"][0]["text"] == "slow snail":
            held.append(route)
        else:
            route.continue_()

    shop.page.route("**/v1/search", hold_the_first)
    shop.page.fill("#q", "slow snail")
    shop.page.press("#q", "Enter")
    expect(shop.page.locator("#results")).to_have_attribute("aria-busy", "true")
    shop.search("fast car")
    assert len(held) == 1
    with contextlib.suppress(Error):  # when the page has cancelled the request, nothing can come any more
        held[0].continue_()
    shop.page.wait_for_timeout(300)
    assert shop.ids() == api.search({"text": "fast car"})
    expect(shop.page.locator("#results")).to_have_attribute("aria-busy", "false")


def test_hostile_texts_are_shown_as_text(shop):
    def poison(product: dict) -> None:
        product |= dict.fromkeys(("title", "brand", "author", "licence", "currency"), HOSTILE)
        product |= {"licence_url": "javascript:window.hacked=1", "author_url": "data:text/html,<script>1</script>"}
        product |= {"tags": [HOSTILE], "category_path": [HOSTILE], "picture_url": "https://elsewhere.example/x.png"}
        product |= {"keywords": {HOSTILE: [HOSTILE], "en": [HOSTILE]}, "attributes": {HOSTILE: HOSTILE}}

    def poisoned(route):
        body = route.fetch().json()
        for product in [hit["product"] for hit in body["hits"]] if "hits" in body else [body]:
            poison(product)
        route.fulfill(json=body)

    def poisoned_facets(route):
        route.fulfill(json={name: [{"value": HOSTILE, "count": 1}] for name in ("brand", "category", "licence")})

    shop.page.route("**/v1/search", poisoned)
    shop.page.route("**/v1/items/*", poisoned)
    shop.page.route("**/v1/items/*/similar*", poisoned)
    shop.page.route("**/v1/facets", poisoned_facets)
    shop.open("/?q=boat")
    expect(shop.page.locator(".card .name").first).to_have_text(HOSTILE)
    shop.page.locator(".card .open").first.click()
    expect(shop.page.locator("#detail-title")).to_have_text(HOSTILE)
    expect(shop.page.locator("#detail .tags li")).to_have_text(HOSTILE)
    expect(shop.page.locator(".similar .name").first).to_have_text(HOSTILE)
    assert shop.page.evaluate("window.hacked") is None
    assert shop.page.locator("a[href^='javascript'], a[href^='data'], .card script, [onerror]").count() == 0


def test_the_page_forbids_inline_scripts_and_strangers(shop):
    policy = shop.page.goto(shop.url).headers["content-security-policy"]
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}
    assert rules["default-src"] == ["'none'"]
    for kind in ("script-src", "style-src", "connect-src"):
        assert rules[kind] == ["'self'"]


def test_a_state_comes_back_from_its_address(shop):
    shop.open()
    same = shop.page.evaluate("""async () => {
      const { addressOf, readState, EMPTY } = await import("/page/state.js");
      const states = [
        { ...EMPTY },
        { ...EMPTY, q: "rot & grün = ?#%", brand: ["a b", "ü/ö"], category: ["x/y"], licence: ["CC BY-SA 4.0"] },
        { ...EMPTY, picture: "abc", crop: { left: 0.1, top: 0, width: 0.333, height: 1 }, mix: 0, inStock: true },
        { ...EMPTY, likes: ["noto:red-apple", "a/b?c"], unlikes: ["d&e"], atLeast: 0, atMost: 9.5, item: "x:y" },
      ];
      return states.map((state) => {
        const back = readState(new URL(addressOf(state), location.origin).search);
        return Object.keys(EMPTY).every((key) => JSON.stringify(back[key]) === JSON.stringify(state[key]));
      });
    }""")
    assert same == [True] * 4
    nonsense = "?mix=x&crop=1,2&min=a&picture=p&max="
    state = shop.page.evaluate("async (s) => (await import('/page/state.js')).readState(s)", nonsense)
    assert (state["mix"], state["crop"], state["atLeast"], state["atMost"]) == (50, None, None, None)
