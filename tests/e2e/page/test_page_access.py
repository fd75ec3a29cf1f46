"""The page for everybody: by keyboard alone, with a screen reader, on a phone, by touch, in a dark room."""

import base64

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.slow

FOCUSED = "document.activeElement.closest('.card')?.dataset.item ?? document.activeElement.id"
UNNAMED = """() => [...document.querySelectorAll("button, a, input:not([hidden]), select, [role=application]")]
  .filter((node) => node.checkVisibility())
  .filter((node) => !(node.ariaLabel || node.labels?.[0]?.textContent.trim() || node.textContent.trim()))
  .map((node) => node.outerHTML)"""
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True, "device_scale_factor": 2}


def tab_until(shop, wanted: str, most: int = 60) -> None:
    """Press Tab until the element of this id, or a card, has the focus."""
    for _ in range(most):
        shop.page.keyboard.press("Tab")
        if shop.page.evaluate(f"document.activeElement.matches({wanted!r})"):
            return
    raise AssertionError(f"{wanted} was not reached by {most} Tabs")


def test_the_whole_way_by_keyboard(shop):
    keys = shop.page.keyboard
    shop.open()
    keys.press("/")
    assert shop.page.evaluate(FOCUSED) == "q"
    with shop.searched():
        keys.type("happy cat", delay=5)
        keys.press("Enter")
    keys.press("ArrowDown")
    ids = shop.ids()
    assert shop.page.evaluate(FOCUSED) == ids[0]
    shop.page.locator("#q").focus()
    tab_until(shop, ".card .open")
    columns = shop.page.evaluate(
        "getComputedStyle(document.querySelector('#grid')).gridTemplateColumns.split(' ').length"
    )
    for key, place in [("ArrowRight", 1), ("ArrowDown", 1 + columns), ("ArrowLeft", columns), ("End", 23), ("Home", 0)]:
        keys.press(key)
        assert shop.page.evaluate(FOCUSED) == ids[place]
    outline = shop.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    keys.press("Enter")
    dialog = shop.page.locator("#detail")
    expect(dialog).to_be_visible()
    assert shop.page.evaluate("document.activeElement.closest('#detail') !== null")
    keys.press("Escape")
    expect(dialog).to_be_hidden()
    assert shop.page.evaluate(FOCUSED) == ids[0]
    keys.press("Tab")
    assert shop.page.evaluate("document.activeElement.className") == "more-like"
    with shop.searched():
        keys.press("Enter")
    assert shop.page.evaluate(FOCUSED) == shop.ids()[0]
    tab_until(shop, "#more")
    before = len(shop.ids())
    with shop.searched():
        keys.press("Enter")
    assert shop.page.evaluate(FOCUSED) == shop.ids()[before]


def test_a_screen_reader_hears_names_and_counts(shop):
    shop.open("/?q=fish")
    expect(shop.page.get_by_role("status").first).to_contain_text("Best 24 of")
    expect(shop.page.get_by_role("searchbox", name="Search products by words")).to_be_visible()
    expect(shop.page.get_by_role("list", name="Found products").get_by_role("listitem").first).to_be_visible()
    expect(shop.page.get_by_role("main")).to_have_count(1)
    assert shop.page.evaluate(UNNAMED) == []
    shop.page.click(".card:nth-child(1) .open")
    expect(shop.page.get_by_role("dialog")).to_be_visible()
    expect(shop.page.locator(".similar li").first).to_be_visible()
    assert shop.page.evaluate(UNNAMED) == []


class TestPhone:
    @pytest.fixture
    def context_options(self):
        return PHONE

    def test_nothing_scrolls_sideways(self, shop, api, an_item):
        def fits() -> bool:
            widths = "Math.max(document.documentElement.scrollWidth, innerWidth)"  # a phone zooms out to show all
            return shop.page.evaluate(widths) == PHONE["viewport"]["width"]

        shop.open()
        assert fits()
        shop.search("face with a very long description of everything that can be seen in it")
        assert fits()
        shop.give_picture(api.picture(an_item))
        assert fits()
        shop.page.click("#filters-toggle")
        expect(shop.page.locator("#filters")).to_be_visible()
        assert fits()
        shop.page.click("#filters-done")
        expect(shop.page.locator("#filters")).to_be_hidden()
        shop.page.locator(".card .open").first.click()
        expect(shop.page.locator(".similar li").first).to_be_visible()
        assert fits()
        assert shop.page.evaluate("document.querySelector('#detail').scrollWidth < innerWidth")

    def test_a_crop_is_drawn_by_touch(self, shop, api, an_item):
        picture = api.picture(an_item)
        shop.open()
        shop.give_picture(picture)
        area = shop.page.locator("#crop").bounding_box()
        touch = shop.page.context.new_cdp_session(shop.page)

        def send(kind: str, *points: tuple[float, float]) -> None:
            at = [{"x": area["x"] + x * area["width"], "y": area["y"] + y * area["height"]} for x, y in points]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

        with shop.searched():
            send("touchStart", (0.2, 0.2))
            send("touchMove", (0.5, 0.5))
            send("touchMove", (0.8, 0.7))
            send("touchEnd")
        label = shop.page.locator("#crop").get_attribute("aria-label")
        numbers = [int(word) / 100 for word in label.replace("%", "").replace(",", "").split() if word.isdigit()]
        assert numbers == pytest.approx([0.2, 0.2, 0.6, 0.5], abs=0.03)
        crop = dict(zip(("left", "top", "width", "height"), address_crop(shop), strict=True))
        assert shop.ids() == api.search({"picture": base64.b64encode(picture).decode(), "crop": crop})


def address_crop(shop) -> list[float]:
    text = shop.page.evaluate("new URLSearchParams(location.search).get('crop')")
    return [float(value) for value in text.split(",")]


class TestDark:
    @pytest.fixture
    def context_options(self):
        return {"color_scheme": "dark", "reduced_motion": "reduce"}

    def test_the_scheme_is_dark_but_pictures_stay_on_white(self, shop):
        shop.open("/?q=fish")

        def light(selector: str) -> int:
            script = f"getComputedStyle(document.querySelector({selector!r})).backgroundColor"
            return max(int(part) for part in shop.page.evaluate(script).strip("rgb()").split(","))

        assert light("body") < 60
        assert light(".card") < 60
        assert light(".tile") == 255
