"""Bad input through the real stream: each refused with its reason, kept, sent again after a fix; the job goes on."""

import io
import json
import struct
import subprocess
import sys
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from harness import wait_until
from PIL import Image

from lookalike.contracts.change import Topic
from lookalike.storage.log.opening import open_log
from lookalike.storage.log.port import Message

pytestmark = pytest.mark.slow
NOW = int(time.time() * 1000)
LOOPBACK = 'intake.private_networks=["127.0.0.0/8"]'


def png(colour) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (48, 48), colour).save(buffer, "PNG")
    return buffer.getvalue()


def bomb(side: int) -> bytes:
    """A PNG of side × side black pixels in some kilobytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = zlib.compress(b"\0" * ((side // 8 + 1) * side), 9)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


class Shop(BaseHTTPRequestHandler):
    """A picture server with every fault; `fixed` mends what can be."""

    fixed = False

    def do_GET(self):
        match self.path:
            case "/gone.png" if not Shop.fixed:
                self.send_error(404)
            case "/huge.png":
                self.send_response(200)
                self.send_header("Content-Length", str(10 * 2**30))
                self.end_headers()
            case "/inside.png":
                self.send_response(302)
                self.send_header("Location", "http://169.254.169.254/latest/meta-data")
                self.end_headers()
            case _:
                body = bomb(12_000) if self.path == "/bomb.png" else png("orange")
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def shop():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    Shop.fixed = False


def event(item: str, version: int = NOW, kind: str = "upsert", **more) -> dict:
    at = "2026-11-23T10:00:00.000Z"
    return {"schema": 1, "kind": kind, "item_id": item, "version": version, "event_time": at, "source": "shop"} | more


def product(picture: str, title: str = "a thing") -> dict:
    return {"product": {"title": title, "image_path": picture, "price": 3.5, "stock": 2}}


def cli(home, *arguments: str) -> dict:
    command = [sys.executable, "-m", "lookalike.cli", "--home", str(home), "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_each_bad_change_is_refused_with_its_reason_and_can_be_replayed(stream_home, run_stream, shop):
    known = "noto:pizza"
    bad = {
        "malformed": b'{"schema": 1, "kind": "ups',
        "schema_version": json.dumps(event("new:1") | {"schema": 2}),
        "picture_missing": json.dumps(event("new:no-file", **product("zz/never-was.png"))),
        "picture_missing ": json.dumps(event("new:404", **product(f"{shop}/gone.png"))),
        "picture_too_many_bytes": json.dumps(event("new:huge", **product(f"{shop}/huge.png"))),
        "picture_too_many_pixels": json.dumps(event("new:bomb", **product(f"{shop}/bomb.png"))),
        "picture_forbidden_address": json.dumps(event("new:inside", **product(f"{shop}/inside.png"))),
        "version_behind": json.dumps(event(known, 1, "attributes", columns={"price": 1.0})),
        "bad_value": json.dumps(event("new:title", **product("a.png", "x" * 1_000_000))),
        "unknown_item": json.dumps(event("new:nobody", kind="attributes", columns={"price": 1.0})),
    }
    good = [event("new:good", **product(f"{shop}/good.png")), event(known, kind="attributes", columns={"price": 77.0})]
    with run_stream(stream_home, LOOPBACK) as running:
        log = open_log(running.settings)
        values = [value if isinstance(value, bytes) else value.encode() for value in bad.values()]
        values += [json.dumps(each).encode() for each in good]
        log.append(Topic.CHANGES, [Message(b"%d" % number, value) for number, value in enumerate(values[:1])])
        for value in values[1:]:
            log.append(Topic.CHANGES, [Message(json.loads(value)["item_id"].encode(), value)])

        wait_until("the good ones are found", lambda: running.get("/v1/items/new:good").status_code == 200, 180)
        wait_until("the price is changed", lambda: running.get(f"/v1/items/{known}").json()["price"] == 77.0, 60)
        wait_until("all are in the table", lambda: len(refusals(stream_home)) == len(bad), 120, every=3)
        assert sorted(row["reason"] for row in refusals(stream_home)) == sorted(name.strip() for name in bad)
        assert all(len(row["detail"]) > 10 for row in refusals(stream_home))
        for item in ("new:1", "new:404", "new:huge", "new:bomb", "new:inside", "new:title", "new:nobody"):
            assert running.get(f"/v1/items/{item}").status_code == 404

        Shop.fixed = True
        target = running.settings.pictures_root / "zz" / "never-was.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(png("purple"))
        assert cli(stream_home, "refused", "replay", "--reason", "picture_missing")["sent"] == 2
        for item in ("new:404", "new:no-file"):
            wait_until(f"{item} is found", lambda item=item: running.get(f"/v1/items/{item}").status_code == 200, 60)
        assert cli(stream_home, "refused", "replay", "--reason", "picture_missing")["sent"] == 0
        fresh = running.search(parts=[{"item_id": "new:404"}], exclude_query_items=False, k=1).json()
        assert fresh["hits"][0]["item_id"] == "new:404"
        assert running.get("/v1/items/new:404/picture").headers["content-type"] == "image/png"


def refusals(home) -> list[dict]:
    return [row for row in cli(home, "refused", "list") if row["snapshot_id"].startswith("catalogue-changes")]
