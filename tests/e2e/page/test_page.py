"""What a person does with the page: words, pictures, crops, mixes, filters, more like this, pages, back and forward."""

import base64
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.slow


def address(shop) -> dict[str, list[str]]:
    return parse_qs(urlsplit(shop.page.url).query)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def draw_crop(shop, left: float, top: float, right: float, bottom: float) -> dict:
    area = shop.page.locator("#crop").bounding_box()
    x, y, width, height = (area[key] for key in ("x", "y", "width", "height"))
    mouse = shop.page.mouse
    with shop.searched() as answer:
        mouse.move(x + left * width, y + top * height)
        mouse.down()
        mouse.move(x + right * width, y + bottom * height, steps=6)
        mouse.up()
    return answer


def test_words_are_searched_while_typing_and_by_enter(shop, api):
    shop.open()
    with shop.searched():
        shop.page.locator("#q").press_sequentially("blue", delay=20)
    assert shop.ids() == api.search({"text": "blue"})
    answer = shop.search("yellow face")
    assert shop.ids() == api.search({"text": "yellow face"})
    assert address(shop) == {"q": ["yellow face"]}
    expect(shop.page.locator("#summary")).to_have_text(f"Best 24 of {answer['matching']:,} items")
    expect(shop.page.locator("#answered")).to_contain_text(f"Release {answer['release']} · ")
    expect(shop.page.locator(".card .part")).to_have_count(0)  # one part: its score is the whole score


def test_an_example_leads_into_the_catalogue(shop):
    shop.open()
    expect(shop.page.locator("#welcome")).to_be_visible()
    with shop.searched():
        shop.page.click("#categories a >> nth=0")
    expect(shop.page.locator("#welcome")).to_be_hidden()
    assert set(address(shop)) == {"q", "category"}


@pytest.mark.parametrize("way", ["drop", "paste", "choose"])
def test_a_picture_finds_its_own_item(shop, api, an_item, way):
    picture = api.picture(an_item)
    shop.open()
    shop.give_picture(picture, way)
    assert shop.ids() == api.search({"picture": encoded(picture)})
    assert an_item in shop.ids()[:3]  # a brand may draw two items alike
    expect(shop.page.locator("#crop")).to_be_visible()


def test_a_file_that_is_no_picture_is_named(shop):
    shop.open()
    shop.page.set_input_files("#file", {"name": "x.png", "mimeType": "image/png", "buffer": b"not a picture"})
    expect(shop.page.locator("#note")).to_contain_text("not a picture that can be read")


def test_a_picture_survives_a_reload_but_not_a_link(shop, api, an_item, browser):
    shop.open()
    shop.give_picture(api.picture(an_item))
    before = shop.ids()
    with shop.searched():
        shop.page.reload()
    assert shop.ids() == before
    link = shop.page.url
    shop.page.evaluate("sessionStorage.clear()")
    shop.page.goto(link)
    expect(shop.page.locator("#note")).to_contain_text("pictures stay on the device")
    expect(shop.page.locator("#welcome")).to_be_visible()


def test_a_crop_drawn_by_mouse_changes_the_results(shop, api, an_item):
    picture = api.picture(an_item)
    shop.open()
    shop.give_picture(picture)
    whole = shop.ids()
    draw_crop(shop, 0.1, 0.15, 0.55, 0.6)
    left, top, width, height = (float(value) for value in address(shop)["crop"][0].split(","))
    assert (left, top, width, height) == pytest.approx((0.1, 0.15, 0.45, 0.45), abs=0.02)
    crop = {"left": left, "top": top, "width": width, "height": height}
    assert shop.ids() == api.search({"picture": encoded(picture), "crop": crop}) != whole
    shop.page.click("#crop-reset")
    shop.wait_for(whole)


def test_a_crop_by_keys_moves_grows_and_goes(shop, api, an_item):
    shop.open()
    shop.give_picture(api.picture(an_item))
    area = shop.page.locator("#crop")
    steps = [
        ("ArrowRight", "left 20 %, top 20 %, width 60 %, height 60 %"),  # the first key makes a crop
        ("ArrowRight", "left 22 %, top 20 %, width 60 %, height 60 %"),
        ("Shift+ArrowDown", "left 22 %, top 20 %, width 60 %, height 62 %"),
        ("Delete", "whole picture"),
    ]
    for key, said in steps:
        with shop.searched() if key != "Delete" else shop.page.expect_event("framenavigated"):
            area.press(key)
        expect(area).to_have_attribute("aria-label", f"Crop of your picture: {said}")
    assert "crop" not in address(shop)


def test_the_slider_goes_from_words_alone_to_the_picture_alone(shop, api, an_item):
    picture = api.picture(an_item)
    shop.open()
    shop.give_picture(picture)
    words, both = {"text": "blue water"}, [{"text": "blue water", "weight": 0.5}]
    shop.search("blue water")
    assert shop.ids() == api.search(*both, {"picture": encoded(picture), "weight": 0.5})
    expect(shop.page.locator(".card").first.locator(".part .label")).to_have_text(["words", "picture"])
    slider = shop.page.locator("#mix")
    with shop.searched():
        slider.press("Home")
    assert shop.ids() == api.search(words)
    expect(shop.page.locator("#mix-value")).to_have_text("100 % words, 0 % picture")
    with shop.searched():
        slider.press("End")
    assert shop.ids() == api.search({"picture": encoded(picture)})


def test_filters_hold_for_every_hit_and_come_off_by_their_chips(shop, api):
    shop.open("/?q=red")
    free = shop.ids()
    brand = api.get("/v1/facets").json()["brand"][1]["value"]
    with shop.searched() as answer:
        shop.page.check(f'input[name="brand"][value="{brand}"]')
    assert {hit["product"]["brand"] for hit in answer["hits"]} == {brand}
    assert set(shop.page.locator(".card .brand").all_inner_texts()) == {brand}
    with shop.searched() as answer:
        shop.page.check('input[name="stock"]')
    with shop.searched() as answer:
        shop.page.fill('input[name="max"]', "30")
        shop.page.press('input[name="max"]', "Tab")
    products = [hit["product"] for hit in answer["hits"]]
    assert products
    assert all(p["brand"] == brand and p["stock"] > 0 and p["price"] <= 30 for p in products)
    chips = shop.page.locator("#chips .chip")
    expect(chips).to_have_count(3)
    expect(chips.first).to_have_accessible_name(f"Remove Brand: {brand}")
    shop.page.click("text=Clear all filters")
    shop.wait_for(free)
    assert address(shop) == {"q": ["red"]}


def test_more_like_this_is_the_similar_search(shop, api):
    shop.open("/?q=tree")
    target = shop.ids()[1]
    with shop.searched():
        shop.page.click(".card:nth-child(2) .more-like")
    expected = [hit["item_id"] for hit in api.get(f"/v1/items/{target}/similar?k=24").json()["hits"]]
    assert shop.ids() == expected
    assert target not in expected
    assert address(shop) == {"like": [target]}
    expect(shop.page.locator("#likes .chip")).to_contain_text("Like ")


def test_less_like_this_pushes_away(shop, api):
    shop.open("/?q=tree")
    target = shop.ids()[0]
    with shop.searched():
        shop.page.click(".card:nth-child(1) .less-like")
    assert shop.ids() == api.search({"text": "tree"}, {"item_id": target, "weight": -0.5})
    assert target not in shop.ids()
    expect(shop.page.locator(".card").first.locator(".away .label")).to_have_text("unlike")
    with shop.page.expect_event("framenavigated"):
        shop.page.click("#likes .chip")
    assert address(shop) == {"q": ["tree"]}


def test_pages_follow_without_duplicates(shop, api):
    shop.open("/?q=flag")
    for pages in (2, 3):
        with shop.searched():
            shop.page.click("#more")
        ids = shop.ids()
        assert len(ids) == len(set(ids)) == 24 * pages
    assert ids == api.pages({"text": "flag"}, pages=3)


def test_back_and_forward_walk_through_the_searches(shop):
    shop.open()
    first = [hit["item_id"] for hit in shop.search("house")["hits"]]
    with shop.searched() as answer:
        shop.page.click(".card:nth-child(1) .more-like")
    second = [hit["item_id"] for hit in answer["hits"]]
    shop.page.go_back()
    shop.wait_for(first)
    expect(shop.page.locator("#q")).to_have_value("house")
    shop.page.go_forward()
    shop.wait_for(second)
    expect(shop.page.locator("#q")).to_have_value("")
    with shop.searched():
        shop.page.reload()
    assert shop.ids() == second


def test_typed_words_are_not_lost_to_another_change(shop):
    shop.open("/?q=car")
    shop.page.fill("#q", "green car")
    with shop.searched():
        shop.page.evaluate("""document.querySelector('input[name="stock"]').click()""")  # within the typing pause
    assert address(shop) == {"q": ["green car"], "stock": ["1"]}
    expect(shop.page.locator("#q")).to_have_value("green car")


def test_the_dialog_tells_all_and_leads_on(shop, api):
    shop.open("/?q=cat")
    target = shop.ids()[0]
    shop.page.click(".card:nth-child(1) .open")
    dialog = shop.page.locator("#detail")
    expect(dialog.locator(".similar li")).to_have_count(12)
    product = api.get(f"/v1/items/{target}").json()
    expect(dialog).to_have_accessible_name(product["title"])
    for tag in product["tags"]:
        expect(dialog.locator(".tags")).to_contain_text(tag)
    expect(dialog.locator(".detail-body .credit")).to_contain_text(product["licence"])
    assert address(shop)["item"] == [target]
    dialog.locator(".similar .open").first.click()
    shop.page.wait_for_function("(id) => !location.search.includes(encodeURIComponent(id))", arg=target)
    shop.page.go_back()
    expect(dialog).to_be_hidden()
    assert address(shop) == {"q": ["cat"]}


def test_licence_and_author_stand_on_every_card(shop):
    shop.open("/?q=animal")
    cards = shop.page.locator(".card")
    expect(cards).to_have_count(24)
    for card in cards.all():
        credit = card.locator(".credit")
        assert credit.is_visible()
        assert re.search(r"\w+ · \w+", credit.inner_text())
        assert credit.locator("a").first.get_attribute("href").startswith("https://")


def test_made_up_prices_are_marked_as_such(shop):
    with shop.searched() as answer:
        shop.open("/?q=animal")
    synthetic = [bool(hit["product"]["synthetic"]) for hit in answer["hits"]]
    marked = [card.locator(".synthetic").count() == 1 for card in shop.page.locator(".card").all()]
    assert marked == synthetic
    assert any(synthetic)
