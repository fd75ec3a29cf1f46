"""Small real pictures, settings and a real web server for the catalogue's tests."""

import gzip
import io
import socket
import struct
import threading
import zlib
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from lookalike.contracts.settings import Settings


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def encode():
    """encode("PNG", size=(8, 6), colour=..., mode="RGB") -> bytes of a picture of one colour."""

    def encoded(form="PNG", size=(8, 6), colour=(200, 30, 40), mode="RGB", **options) -> bytes:
        buffer = io.BytesIO()
        Image.new(mode, size, colour).save(buffer, form, **options)
        return buffer.getvalue()

    return encoded


@dataclass
class Seen:
    """A request that the test's web server got."""

    path: str
    headers: dict
    client: tuple


class Web(ThreadingHTTPServer):
    """A web server with every bad habit, on all loopback addresses of this machine."""

    daemon_threads = True

    def __init__(self, picture: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Habits)
        self.picture, self.seen, self.ended = picture, [], threading.Event()

    def server_bind(self):
        self.server_address = ("0.0.0.0", 0)
        super().server_bind()

    @property
    def port(self) -> int:
        return self.socket.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def handle_error(self, *_):
        pass


class _Habits(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.seen.append(Seen(self.path, dict(self.headers), self.client_address))
        path, _, query = self.path.partition("?")
        getattr(self, "serve_" + path[1:].replace("-", "_"))(query.partition("=")[2])

    def answer(self, body=b"", status=200, **headers):
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def serve_picture(self, _):
        self.answer(self.server.picture, Set_Cookie="a=b")

    def serve_redirect(self, to):
        self.answer(status=302, Location=to, Set_Cookie="a=b")

    def serve_hops(self, left):
        self.serve_picture(left) if left == "0" else self.serve_redirect(f"/hops?left={int(left) - 1}")

    def serve_slow_hops(self, _):
        self.server.ended.wait(0.2)
        self.serve_redirect("/slow-hops")

    def serve_status(self, code):
        self.answer(b"" if code == "304" else b"no", int(code))

    def serve_recovers(self, after):
        tries = sum(seen.path == self.path for seen in self.server.seen)
        self.serve_picture("") if tries > int(after) else self.answer(status=503)

    def serve_announces(self, count):
        self.answer(b"x" * 10, Content_Length=count)
        self.close_connection = True

    def serve_endless(self, _):
        self.send_response(200)
        self.end_headers()
        while not self.server.ended.is_set():
            self.wfile.write(bytes(10_000))

    def serve_drip(self, _):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        while not self.server.ended.wait(0.05):
            self.wfile.write(b"x")

    def serve_drip_headers(self, _):
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not self.server.ended.wait(0.05):
            self.wfile.write(b"X: y\r\n")

    def serve_silent(self, _):
        self.server.ended.wait(30)

    def serve_bomb(self, _):
        def chunk(kind, data):
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
        self.answer(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10**7))))

    def serve_gzip(self, _):
        self.answer(gzip.compress(bytes(10**7)), Content_Encoding="gzip")

    def serve_short(self, _):
        self.answer(self.server.picture[:10], Content_Length="500")
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def web(encode):
    """A running `Web`."""
    server = Web(encode())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.ended.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def free_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
