"""Items, their pictures, facets, and the page's files."""

import pytest

from lookalike.serving.app import PAGE


def test_an_item_with_all_its_columns(client):
    body = client.get("/v1/items/first:dog").json()
    assert (body["item_id"], body["release"], body["title"], body["group_id"]) == (
        "first:dog", "1", "dog of first", "dog",
    )  # fmt: skip
    assert (
        body["picture_url"] == f"/v1/items/first%3Adog/picture?v={body['content_hash'][:12]}"
        and "image_path" not in body
    )


def test_a_stored_picture_is_sent_as_it_is_and_again_only_when_it_changed(client, shared_kit):
    first = client.get("/v1/items/first:dog/picture")
    assert first.status_code == 200 and first.headers["content-type"] == "image/png"
    files = {path.read_bytes() for path in shared_kit.settings.pictures_root.rglob("*.png")}
    assert first.content in files
    again = client.get("/v1/items/first:dog/picture", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    other = client.get("/v1/items/first:cat/picture", headers={"If-None-Match": first.headers["etag"]})
    assert other.status_code == 200


def test_no_file_outside_the_store_is_ever_sent(kit, serve, tmp_path):
    secret = tmp_path / "secret.png"
    kit.settings.pictures_root.mkdir(parents=True)
    (kit.settings.pictures_root / "link.png").symlink_to(secret)
    (kit.settings.pictures_root / "page.html").write_text("<script>alert(1)</script>")
    paths = {"apple": "../../secret.png", "pear": "link.png", "dog": "page.html", "cat": "gone.png", "cup": ""}
    kit.live_release = kit.release("1", "first", image_paths=paths)
    next(kit.settings.pictures_root.rglob("*/*.png")).rename(secret)
    server = serve(kit)
    for word in paths:
        answer = server.http.get(f"/v1/items/first:{word}/picture")
        assert answer.status_code == 404, word
        assert str(tmp_path) not in answer.text


def test_a_picture_elsewhere_is_read_through_intake(kit, serve, tmp_path):
    elsewhere = tmp_path / "elsewhere.png"
    paths = {"apple": str(elsewhere), "pear": elsewhere.as_uri(), "dog": str(tmp_path / "gone.png")}
    kit.live_release = kit.release("1", "first", image_paths=paths)
    data = next(kit.settings.pictures_root.rglob("*/*.png")).read_bytes()
    elsewhere.write_bytes(data)
    http = serve(kit).http
    for word in ("apple", "pear"):
        answer = http.get(f"/v1/items/first:{word}/picture")
        assert (answer.status_code, answer.content) == (200, data), answer.text
    assert http.get("/v1/items/first:dog/picture").status_code == 404
    elsewhere.write_text("<svg/>")
    assert http.get("/v1/items/first:apple/picture").status_code == 404


def test_facets_count_what_is_there(client):
    facets = client.get("/v1/facets").json()
    assert facets["brand"] == [{"value": "first", "count": 12}]
    assert facets["price"] == {"min": 0.0, "max": 11.0}


def test_page_files_come_with_a_strict_content_policy(client):
    names = ["/", *(f"/page/{path.name}" for path in PAGE.iterdir() if path.is_file())]
    for name in names:
        answer = client.get(name)
        assert answer.status_code == 200, name
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-cache" and answer.headers["etag"]
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/page/../app.py", "/page/%2e%2e/app.py", "/page/..%2fapp.py"])
def test_page_files_do_not_lead_out_of_their_folder(client, path):
    assert client.get(path).status_code == 404
