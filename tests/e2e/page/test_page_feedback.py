"""What a shopper opens goes back to a server that notes impressions, as a click on the answer that showed it."""

import time

import pytest
from playwright.sync_api import expect

from lookalike.contracts.change import Topic
from lookalike.contracts.feedback import Click, Impression, decode_feedback
from lookalike.contracts.settings import load_settings
from lookalike.line.server_process import start_server
from lookalike.storage.log.opening import open_log

pytestmark = pytest.mark.slow
PATIENCE_SECONDS = 15
SETTLE_SECONDS = 1


@pytest.fixture(scope="module")
def noting(demo_home):
    """A server over the demo's release that notes what it shows."""
    server = start_server(load_settings(home=demo_home.home, feedback={"impressions": True}), port=0)
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


@pytest.fixture
def impressions() -> bool:
    """Overridden by the tests of a server that notes nothing, which is the default."""
    return True


@pytest.fixture
def server_url(request, impressions) -> str:
    return request.getfixturevalue("noting" if impressions else "served_demo").url


@pytest.fixture
def told(demo_home):
    """told(n): what has come to the topic since the test began, as soon as there are n clicks: clicks, impressions."""
    log = open_log(load_settings(home=demo_home.home))
    begin = [log.high_watermark(Topic.FEEDBACK, partition) for partition in range(log.partitions)]

    def new(kind):
        found = []
        for partition, offset in enumerate(begin):
            records = log.read(Topic.FEEDBACK, partition, offset, 1_000)
            found += [(each.appended_ms, each.offset, decode_feedback(each.value)) for each in records]
        return [each for _, _, each in sorted(found, key=lambda one: one[:2]) if isinstance(each, kind)]

    def wait(clicks):
        until = time.monotonic() + PATIENCE_SECONDS
        while len(new(Click)) < clicks and time.monotonic() < until:
            time.sleep(0.05)
        return new(Click), new(Impression)

    yield wait
    log.close()


@pytest.fixture
def beacons(shop) -> list:
    """Requests to /v1/feedback that the page makes."""
    made = []
    shop.page.on("request", lambda request: made.append(request) if request.url.endswith("/v1/feedback") else None)
    return made


def follow_all_ways(shop) -> list[tuple[str, str]]:
    """Open a hit, one like it, one of page two, one in a tab; follow "More like this". (Search id, item) of each."""
    page, followed = shop.page, []
    shop.open()
    first = shop.search("red apple")
    with shop.searched() as second:
        page.click("#more")
    cards = page.locator(".card")
    with page.expect_response(lambda response: "/similar?" in response.url) as got:
        cards.nth(1).locator(".open").click()
    followed.append((first["search_id"], first["hits"][1]["item_id"]))
    like = got.value.json()
    page.locator(".similar .open").nth(2).click()
    expect(page.locator("#detail-title")).to_have_text(like["hits"][2]["product"]["title"])
    followed.append((like["search_id"], like["hits"][2]["item_id"]))
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()
    with page.context.expect_page() as tab:
        cards.nth(26).locator(".open").click(modifiers=["ControlOrMeta"])
    tab.value.close()
    followed.append((second["search_id"], second["hits"][2]["item_id"]))
    with page.context.expect_page() as tab:
        cards.nth(4).locator(".open").click(button="middle")
    tab.value.close()
    followed.append((first["search_id"], first["hits"][4]["item_id"]))
    with shop.searched():
        cards.nth(0).get_by_role("button", name="More like this").click()
    followed.append((first["search_id"], first["hits"][0]["item_id"]))
    return followed


def test_what_is_opened_comes_to_the_topic_as_a_click_on_the_answer_that_showed_it(shop, told, beacons):
    followed = follow_all_ways(shop)
    clicks, shown = told(len(followed))
    assert sorted((each.search_id, each.item_id) for each in clicks) == sorted(followed)
    assert {each.event for each in clicks} == {"click"} and len(beacons) == len(followed)
    items = {each.search_id: each.items for each in shown}
    assert all(item in items[search_id] for search_id, item in followed)


def test_looking_at_results_without_opening_any_is_no_click(shop, told, beacons):
    shop.open()
    answer = shop.search("red apple")
    with shop.searched():
        shop.page.locator(".card").nth(3).get_by_role("button", name="Less like this").click()
    shop.page.goto(f"{shop.url}/?item={answer['hits'][0]['item_id']}")  # a link from elsewhere: no search showed it
    expect(shop.page.locator("#detail")).to_be_visible()
    assert beacons == [] and told(0)[0] == []


@pytest.mark.parametrize("impressions", [False])
def test_nothing_is_sent_to_a_server_that_notes_nothing(shop, told, beacons):
    followed = {search_id for search_id, _ in follow_all_ways(shop)}
    time.sleep(SETTLE_SECONDS)
    clicks, shown = told(0)  # what the other server showed may still arrive, of other searches
    assert followed and beacons == [] and clicks == []
    assert not followed & {each.search_id for each in shown}


@pytest.mark.parametrize("without", ["an answer", "sendBeacon", "success", "search_id"])
def test_the_page_goes_on_when_feedback_cannot_be_sent(shop, beacons, console, answer_with, without):
    if without == "an answer":
        shop.page.route("**/v1/feedback", lambda route: route.abort())
    elif without == "success":
        shop.page.route("**/v1/feedback", lambda route: answer_with(route, 503, "The log is away", "Later."))
    elif without == "sendBeacon":
        shop.page.add_init_script("delete Navigator.prototype.sendBeacon")
    else:

        def nameless(route):
            answer = route.fetch().json()
            del answer["search_id"]
            route.fulfill(json=answer)

        shop.page.route("**/v1/search", nameless)
    shop.open("/?q=boat")
    shop.page.locator(".card .open").first.click()
    expect(shop.page.locator("#detail")).to_be_visible()
    expect(shop.page.locator(".similar .open")).to_have_count(12)
    expect(shop.page.get_by_role("alert")).to_have_count(0)
    expect(shop.page.locator("#note")).to_be_hidden()
    assert len(beacons) == (without in ("an answer", "success"))
    assert all("Failed to load resource" in line for line in console)  # the browser's own line, and nothing of ours
    console.clear()
