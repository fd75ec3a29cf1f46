import base64
import csv
import gzip
import json
import time
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lookalike.catalogue import importer
from lookalike.catalogue.importer import import_catalogue
from lookalike.catalogue.intake import read_picture
from lookalike.catalogue.snapshot import read_snapshot
from lookalike.catalogue.validation import parse_product
from lookalike.contracts.errors import BadQuery, LookalikeError, NotFound, SettingsError
from lookalike.contracts.product import Product, Refusal, RefusalReason
from lookalike.contracts.progress import LogProgress

MAPPING = """
ignore = ["internal"]
[columns]
item_id = "sku"
title = "name"
price = "cost"
category_path = "shelf"
version = "changed"
image_path = "photo"
[constants]
currency = "EUR"
licence = "own"
"""
ROWS = [
    {"sku": "001", "name": "Red apple", "cost": "€ 1,299.50", "shelf": "food > fruit", "changed": "5",
     "photo": "a.png", "tags": "red, round", "colour": "red", "internal": "x"},
    {"sku": "002", "name": "Pear", "cost": "cheap", "shelf": "", "changed": "2024-02-01T00:00:00Z",
     "photo": "gone.png", "tags": "", "colour": "", "internal": "x"},
]  # fmt: skip


@pytest.fixture
def shop(tmp_path, encode):
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "a.png").write_bytes(encode())
    (tmp_path / "mapping.toml").write_text(MAPPING)
    return folder


@pytest.fixture
def run(settings, tmp_path):
    def imported(path, mapping="mapping.toml", **options):
        return import_catalogue(settings, str(path), mapping and tmp_path / mapping, LogProgress(), **options)

    return imported


def write(folder, form, rows=ROWS):
    path = folder / f"rows.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif form.startswith("jsonl"):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        path.write_bytes(gzip.compress(text.encode()) if form.endswith("gz") else text.encode())
    else:
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="\t" if form == "tsv" else ";")
            writer.writeheader()
            writer.writerows(rows)
    return path


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def parsed(snapshot, settings):
    """What ingest makes of each row."""
    return [parse_product(json.dumps(row), time.time_ns() // 10**6, settings.intake) for row in snapshot.rows()]


@pytest.mark.parametrize("form", ["parquet", "csv", "tsv", "jsonl", "jsonl.gz"])
def test_each_format_gives_the_same_products(shop, run, settings, form):
    snapshot = run(write(shop, form), source="shop", complete=True)
    assert (snapshot.items, snapshot.source, snapshot.complete) == (2, "shop", True)
    assert read_snapshot(snapshot.folder) == snapshot
    apple, pear = parsed(snapshot, settings)
    assert apple == Product(
        item_id="001", version=5, title="Red apple", image_path=str(shop / "a.png"), price=1299.5, currency="EUR",
        category_path=("food", "fruit"), tags=("red", "round"), licence="own", attributes={"colour": "red"},
    )  # fmt: skip
    assert isinstance(pear, Refusal)
    assert (pear.reason, pear.item_id) == (RefusalReason.BAD_PRICE, "002")
    assert "cheap" in pear.detail
    received = list(snapshot.rows())[1]
    assert received["version"] == str(int(datetime(2024, 2, 1, tzinfo=UTC).timestamp() * 1_000))
    assert read_picture(received["image_path"], settings.pictures_root, settings.intake).reason == "picture_missing"


def test_batches_of_a_table_opened_by_the_caller(shop, run, settings):
    table = pa.table({
        "item_id": ["a"], "title": ["Apple"], "image_path": ["a.png"], "version": pa.array([7], pa.int64()),
        "price": pa.array([1.5]), "tags": [["x", None]], "size": pa.array([42]), "sale": pa.array([True]),
        "seen": pa.array([datetime(2024, 1, 2)], pa.timestamp("us")),
        "attributes": pa.array([[("k", "v")]], pa.map_(pa.string(), pa.string())),
    })  # fmt: skip
    snapshot = run(shop, mapping=None, batches=iter(table.to_batches()))
    (product,) = parsed(snapshot, settings)
    assert (product.version, product.price, product.tags) == (7, 1.5, ("x",))
    assert product.attributes == {"k": "v", "size": "42", "sale": "true", "seen": "2024-01-02 00:00:00"}
    assert product.image_path == str(shop / "a.png")


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_pictures_in_a_column_go_to_the_picture_store(shop, run, settings, encode, form):
    red, blue = encode(colour=(255, 0, 0)), encode("JPEG", colour=(0, 0, 255))
    raw = form == "parquet"
    rows = [
        {"item_id": "a", "title": "A", "image_bytes": red if raw else b64(red)},
        {"item_id": "b", "title": "B", "image_bytes": blue if raw else f"data:;base64,{b64(blue)}"},
        {"item_id": "c", "title": "C", "image_bytes": None if raw else ""},
        {"item_id": "d", "title": "D", "image_bytes": b"no picture" if raw else "no picture!"},
    ]  # fmt: skip
    paths = [row["image_path"] for row in run(write(shop, form, rows), mapping=None).rows()]
    assert [read_picture(path, settings.pictures_root, settings.intake) for path in paths[:2]] == [red, blue]
    assert [path and path[-4:] for path in paths] == [".png", ".jpg", None, ".bin"]


def test_hugging_face_pictures_are_structs(shop, run, settings, encode):
    rows = [{"item_id": "a", "title": "A", "image_path": {"bytes": encode(), "path": None}}]
    (row,) = run(write(shop, "parquet", rows), mapping=None).rows()
    assert read_picture(row["image_path"], settings.pictures_root, settings.intake) == encode()


def test_pictures_are_found_by_patterns_and_globs(shop, run, encode, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("1-b.png", "1-a.png", "10.png", "x[1].png"):
        (photos / name).write_bytes(encode())
    (tmp_path / "m.toml").write_text(f'picture_root = "{photos}"\npicture_pattern = "{{item_id}}-*.png"')
    rows = [
        {"item_id": "1", "title": "A", "image_path": ""}, {"item_id": "10", "title": "B", "image_path": "10.*"},
        {"item_id": "3", "title": "C", "image_path": ""}, {"item_id": "4", "title": "D", "image_path": "x[1].png"},
        {"item_id": "*", "title": "E", "image_path": ""},
        {"item_id": "6", "title": "F", "image_path": "https://x/y?z.png"},
    ]  # fmt: skip
    found = [row["image_path"] for row in run(write(shop, "csv", rows), mapping="m.toml").rows()]
    assert found[:2] == [str(photos / "1-a.png"), str(photos / "10.png")]
    assert found[2] == str(photos / "3-*.png")  # not there: kept, so that ingest says what is missing
    assert found[3] == str(photos / "x[1].png")
    assert found[4].endswith("[*]-*.png")
    assert found[5] == "https://x/y?z.png"


@pytest.mark.parametrize(
    ("decimal", "text", "price"),
    [
        (".", "12.50", 12.5), (".", "$1,000", 1_000), (".", "EUR 3", 3), (".", "1e3", 1_000), (".", "", None),
        (".", "12,50", "refused"), (".", "1,00", "refused"), (".", "-3", "refused"), (".", "3 apples", "refused"),
        (",", "1.299,00 €", 1_299), (",", "12,5", 12.5), (",", "1.299", 1_299), (",", "1,299,00", "refused"),
    ],
)  # fmt: skip
def test_prices_are_read_in_the_mappings_notation_or_refused(shop, run, settings, tmp_path, decimal, text, price):
    (tmp_path / "m.toml").write_text(f'decimal = "{decimal}"')
    rows = [{"item_id": "a", "title": "A", "image_path": "a.png", "price": text}]
    (product,) = parsed(run(write(shop, "csv", rows), mapping="m.toml"), settings)
    if price == "refused":
        assert product.reason is RefusalReason.BAD_PRICE
        assert repr(text) in product.detail
    else:
        assert product.price == price


def test_lines_that_cannot_be_read_are_refused_one_by_one(shop, run, settings):
    (shop / "rows.jsonl").write_text('{"item_id": "a", "title": "A", "image_path": "a.png"}\n{"item\n\n[1]\n')
    good, broken, array = parsed(run(shop / "rows.jsonl", mapping=None), settings)
    assert isinstance(good, Product)
    assert (broken.reason, array.reason) == (RefusalReason.MALFORMED, RefusalReason.MALFORMED)
    assert "line 2 is not JSON" in broken.detail
    assert "line 4" in array.detail
    (shop / "rows.csv").write_text("item_id,title,image_path\na,A,a.png\nb,B\nc,C,a.png,surplus\n")
    good, short, long = parsed(run(shop / "rows.csv", mapping=None), settings)
    assert isinstance(good, Product)
    assert "row 3: 2 fields, the header has 3" in short.detail
    assert "row 4: 4 fields" in long.detail


def test_a_killed_import_continues_and_gives_the_same_snapshot(shop, run, settings, monkeypatch):
    monkeypatch.setattr(importer, "ROWS_PER_PART", 3)
    rows = [{"item_id": str(n), "title": f"T{n}", "image_path": "a.png"} for n in range(10)]
    path = write(shop, "jsonl", rows)
    whole = importer.Receiver.row
    seen = []

    def dies(self, row):
        seen.append(row["item_id"])
        if row["item_id"] == "7":
            raise KeyboardInterrupt
        return whole(self, row)

    monkeypatch.setattr(importer.Receiver, "row", dies)
    with pytest.raises(KeyboardInterrupt):
        run(path, mapping=None)
    assert not [folder for folder in settings.snapshots_root.iterdir() if not folder.name.startswith(".")]
    monkeypatch.setattr(importer.Receiver, "row", lambda self, row: (seen.append(row["item_id"]), whole(self, row))[1])
    snapshot = run(path, mapping=None)
    received = list(snapshot.rows())
    assert [row["item_id"] for row in received] == [str(n) for n in range(10)]
    assert len({row["version"] for row in received}) == 1
    assert seen == [str(n) for n in (*range(8), *range(6, 10))]
    assert [folder.name for folder in settings.snapshots_root.iterdir()] == [snapshot.snapshot_id]


def test_a_folder_of_parts_is_one_catalogue(shop, run):
    for name in ("b", "a"):
        (shop / f"{name}.jsonl").write_text(json.dumps({"item_id": name, "title": "T", "image_path": "a.png"}))
    (shop / "_SUCCESS").write_text("")
    for path in (shop, f"{shop}/*.jsonl"):
        assert [row["item_id"] for row in run(path, mapping=None).rows()] == ["a", "b"]
        assert next(run(path, mapping=None).rows())["image_path"] == str(shop / "a.png")
    write(shop, "csv")
    with pytest.raises(BadQuery, match="several formats"):
        run(shop, mapping=None)


def test_errors_say_what_to_do(shop, run, tmp_path):
    with pytest.raises(NotFound, match=r"item_id, title.*Its columns: .*sku.*\[columns\]"):
        run(write(shop, "csv", [{"sku": "1"}]), mapping=None)
    with pytest.raises(NotFound, match="no file with one of the endings"):
        run(tmp_path / "none")
    with pytest.raises(NotFound, match="mapping file"):
        run(shop, mapping="none.toml")
    with pytest.raises(BadQuery, match="source"):
        run(shop, source="a/b")
    (shop / "rows.csv").write_bytes("item_id,title,image_path\n1,Äpfel,a\n".encode("cp1252"))
    with pytest.raises(LookalikeError, match='encoding = "cp1252"'):
        run(shop / "rows.csv", mapping=None)
    (shop / "x.parquet").write_bytes(b"no parquet")
    with pytest.raises(LookalikeError, match="cannot be read as parquet"):
        run(shop / "x.parquet", mapping=None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[columns]\nname = 'x'", r"columns = .*'name' is not one of.*title"),
        ("colums = 1", r"unknown key colums.*columns"),
        ("decimal = ';'", r"decimal = ';' is not allowed"),
        ("[constants]\nprice = '1'", r"'price' is not one of"),
        ("= 1", "not valid TOML"),
    ],
)
def test_a_wrong_mapping_names_file_key_and_what_is_allowed(shop, run, tmp_path, text, message):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(SettingsError, match=message) as error:
        run(write(shop, "csv"), mapping="bad.toml")
    assert "bad.toml" in str(error.value)
