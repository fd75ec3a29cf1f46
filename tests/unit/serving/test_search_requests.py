"""POST /v1/search and /similar over a real tiny release: what is found, and how each bad request is told."""

import base64
import json

import pytest

from lookalike.serving.problems import MEDIA_TYPE
from lookalike.serving.schemas import SEARCH_EXAMPLES


def search(client, *parts, **more):
    return client.post("/v1/search", json={"parts": list(parts)} | more)


def ids(answer):
    assert answer.status_code == 200, answer.text
    return [hit["item_id"] for hit in answer.json()["hits"]]


def problem(answer, status, kind):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == MEDIA_TYPE
    body = answer.json()
    assert body["type"] == f"urn:lookalike:problem:{kind}" and body["status"] == status
    assert body["title"] and body["detail"] and body["instance"].startswith("/")
    return body


def picture_of(png_bytes):
    return {"picture": base64.b64encode(png_bytes).decode()}


@pytest.fixture
def coloured(shared_kit):
    """A picture whose vector is that of a word: TinyEncoder hashes the first pixel."""
    from PIL import Image  # noqa: F401

    stored = next(path for path in shared_kit.settings.pictures_root.rglob("*.png"))
    return stored.read_bytes()


def test_words_find_the_item_of_that_name_with_everything_to_show(client):
    answer = search(client, {"text": "guitar"}, k=3)
    assert ids(answer)[0] == "first:guitar"
    body = answer.json()
    hit = body["hits"][0]
    assert hit["score"] == pytest.approx(1.0, abs=1e-3) and hit["part_scores"] == pytest.approx([1.0], abs=1e-3)
    product = hit["product"]
    assert product["title"] == "guitar of first" and product["author"] == "Ada" and product["licence"] == "CC0-1.0"
    assert set(product["synthetic"]) == {"price", "stock"} and product["category_path"] == ["things"]
    assert "image_path" not in product
    assert client.get(product["picture_url"]).headers["content-type"] == "image/png"
    assert body["release"] == answer.headers["lookalike-release"] == "1" and body["matching"] == 12
    assert {"encode", "search", "enrich", "total"} <= set(body["took_ms"])


def test_a_negative_weight_pushes_away(client):
    pushed = search(client, {"text": "guitar"}, {"text": "dog", "weight": -1.0}, k=12)
    assert ids(pushed)[0] == "first:guitar" and ids(pushed)[-1] == "first:dog"
    assert all(len(hit["part_scores"]) == 2 for hit in pushed.json()["hits"])


def test_filters_k_and_cursor(client):
    filters = [{"field": "price", "at_least": 2, "at_most": 7}]
    first = search(client, {"text": "dog"}, filters=filters, k=4)
    second = search(client, {"text": "dog"}, filters=filters, k=4, cursor=first.json()["next_cursor"])
    assert len(set(ids(first)) | set(ids(second))) == 6
    assert first.json()["matching"] == 6 and second.json()["next_cursor"] is None


def test_items_are_left_out_of_their_own_results(client):
    assert "first:dog" not in ids(search(client, {"item_id": "first:dog"}, k=20))
    assert ids(search(client, {"item_id": "first:dog"}, exclude_query_items=False))[0] == "first:dog"
    similar = client.get("/v1/items/first:dog/similar", params={"k": 20, "price_at_most": 5})
    assert "first:dog" not in ids(similar) and similar.json()["matching"] == 6
    assert ids(client.get("/v1/items/first%3Adog/similar?k=2&brand=nobody")) == []


def test_a_picture_as_base64_as_data_uri_and_as_upload_give_the_same(client, coloured):
    plain = search(client, picture_of(coloured))
    uri = search(client, {"picture": "data:image/png;base64," + picture_of(coloured)["picture"]})
    crop = {"left": 0.0, "top": 0.0, "width": 0.5, "height": 1.0}
    query = json.dumps({"parts": [{"upload": 0, "crop": crop}]})
    upload = client.post("/v1/search", data={"query": query}, files=[("picture", ("a.png", coloured, "image/png"))])
    assert ids(plain) == ids(uri) == ids(upload)
    assert plain.json()["hits"][0]["score"] == pytest.approx(upload.json()["hits"][0]["score"], abs=1e-6)


def test_the_example_picture_is_a_picture(client):
    ids(client.post("/v1/search", json=SEARCH_EXAMPLES["picture"]["value"]))


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"parts": []}, "#/parts"),
        ({"parts": [{"text": "a"}], "k": 0}, "#/k"),
        ({"parts": [{"text": "a"}], "k": 201}, "#/k"),
        ({"parts": [{"text": "a"}], "page": 2}, "#/page"),
        ({"parts": [{"text": "a", "item_id": "b"}]}, "#/parts/0"),
        ({"parts": [{"text": "a"}, {}]}, "#/parts/1"),
        ({"parts": [{"text": "a"}, {"text": "b", "weight": 0}]}, "#/parts/1"),
        ({"parts": [{"text": "a", "weight": 11}]}, "#/parts/0/weight"),
        ({"parts": [{"picture": "!!"}]}, "#/parts/0/picture"),
        ({"parts": [{"upload": 0}]}, "#/parts/0/upload"),
        ({"parts": [{"text": "a"}], "filters": [{"field": "brand"}]}, "#/filters/0"),
        ({"parts": [{"item_id": "x", "crop": {"left": 0.5, "top": 0, "width": 0.6, "height": 1}}]}, "#/parts/0/crop"),
    ],
)
def test_each_wrong_value_is_pointed_at(client, body, pointer):
    found = problem(client.post("/v1/search", json=body), 422, "invalid-request")
    assert [error["pointer"] for error in found["errors"]] == [pointer]


def test_unknown_filter_field_names_those_there_are(client):
    body = problem(search(client, {"text": "a"}, filters=[{"field": "colour", "any_of": ["red"]}]), 422, "bad-query")
    assert "colour" in body["detail"] and "brand" in body["detail"]


def test_what_is_no_picture_is_refused_with_its_reason(client, coloured):
    assert "picture" in problem(search(client, picture_of(b"no picture at all")), 422, "bad-query")["detail"]
    problem(search(client, picture_of(coloured[: len(coloured) // 2])), 422, "bad-query")


@pytest.mark.parametrize(
    ("content", "content_type", "status", "kind"),
    [
        (b"{", "application/json", 400, "malformed-body"),
        (b"", "application/json", 400, "malformed-body"),
        (b"a=1", "application/x-www-form-urlencoded", 415, "unsupported-media-type"),
        (b"{}", "", 415, "unsupported-media-type"),
        (b"xx", "multipart/form-data; boundary=b", 400, "bad-request"),
        (b"--b\r\nContent-Disposition: form-data; name=other\r\n\r\n1\r\n--b--\r\n", "multipart/form-data; boundary=b",
         400, "malformed-body"),
    ],
)  # fmt: skip
def test_bodies_that_cannot_be_read(client, content, content_type, status, kind):
    problem(client.post("/v1/search", content=content, headers={"content-type": content_type}), status, kind)


def test_a_body_over_the_limit_is_refused_while_it_is_read(client):
    taken = []

    def endless():
        for _ in range(10_000):
            taken.append(1)
            yield b" " * 10_000

    headers = {"content-type": "application/json"}
    problem(client.post("/v1/search", content=endless(), headers=headers), 413, "payload-too-large")
    big = [("picture", ("a.png", b"\0" * 300_000, "image/png"))]
    problem(client.post("/v1/search", data={"query": "{}"}, files=big), 413, "payload-too-large")
    chunked = {"content-type": "multipart/form-data; boundary=b"}
    problem(client.post("/v1/search", content=endless(), headers=chunked), 413, "payload-too-large")


def test_missing_things_and_wrong_methods(client):
    problem(search(client, {"item_id": "first:nothing"}), 404, "not-found")
    problem(client.get("/v1/items/first:nothing"), 404, "not-found")
    problem(client.get("/v1/items/first:nothing/similar"), 404, "not-found")
    problem(client.get("/v1/items/first:nothing/picture"), 404, "not-found")
    problem(client.get("/v2/anything"), 404, "not-found")
    problem(client.get("/page/nothing.js"), 404, "not-found")
    assert problem(client.get("/v1/search"), 405, "method-not-allowed")
    body = problem(client.get("/v1/items/first:dog/similar?k=1000"), 422, "invalid-request")
    assert body["errors"][0]["pointer"] == "k"
    body = problem(client.get("/v1/items/first:dog/similar?price_at_most=nan"), 422, "invalid-request")
    assert body["errors"][0]["pointer"] == "price_at_most"
    problem(search(client, {"text": "a"}, cursor="nonsense"), 422, "bad-query")


def test_parts_that_cancel_each_other_leave_nothing_to_look_for(client):
    problem(search(client, {"text": "dog"}, {"text": "dog", "weight": -1.0}), 422, "bad-query")


def test_a_fault_of_ours_tells_nothing_to_the_caller(client, monkeypatch):
    serving = client.app.state.serving
    with serving.follower.pin() as loaded:
        monkeypatch.setattr(type(loaded.engine), "facets", lambda self: 1 / 0)
    body = problem(client.get("/v1/facets"), 500, "internal-error")
    assert "division" not in body["detail"] and "log" in body["detail"]
