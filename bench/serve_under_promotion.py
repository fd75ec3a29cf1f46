"""Steady load on a real server while a release is promoted and rolled back: no request may fail, no answer may mix two.

Makes two releases with the same item ids but other brands, starts the server as a process of its own on loopback,
keeps CLIENTS requests under way at all times, and moves the live pointer every few seconds. Each answer names its
release; every hit must carry that release's brand. Latencies include the Python client on the same cores.

    python bench/serve_under_promotion.py --seconds 20
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
from PIL import Image

from lookalike.contracts.encoder import Encoder
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import Settings
from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.contracts.verdict import Check, Verdict
from lookalike.releases.encoder_in_use import encoder_in_use
from lookalike.releases.registry import Registry
from lookalike.storage.delta import DeltaTables

BRANDS = ("before", "after")
COLOURS = ("red", "green", "blue", "yellow", "black", "white", "small", "large", "old", "new")
THINGS = ("apple", "guitar", "dog", "pizza", "bicycle", "umbrella", "rocket", "tree", "fish", "cup", "hat", "clock")
ACTOR = "bench"
READY_SECONDS = 120.0


@dataclass
class Tally:
    """What the clients saw. Lists are appended to by many threads, which CPython does whole."""

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    releases: Counter[str] = field(default_factory=Counter)
    swap_seconds: list[float] = field(default_factory=list)


def mixes_releases(answer: dict[str, Any], named_in_header: str | None, brands: dict[str, str]) -> str | None:
    """What is wrong with an answer that is not from one release only; None when all of it is from the one it names."""
    release = answer["release"]
    if named_in_header != release:
        return f"header names {named_in_header}, body {release}"
    if not answer["hits"]:
        return f"release {release} found nothing"
    strangers = {hit["product"]["brand"] for hit in answer["hits"]} - {brands[release]}
    return f"release {release} holds {brands[release]}, hits are of {strangers}" if strangers else None


def make_releases(settings: Settings, items: int) -> dict[str, str]:
    """Two judged releases of the same items under two brands; brand by version."""
    from index_builder.build import build
    from index_builder.delta_source import DeltaSource
    from models.encoders import encoder_directory, open_encoder

    encoder = open_encoder(encoder_in_use(settings), device="cpu", threads=1)
    titles = [f"{COLOURS[n % len(COLOURS)]} {THINGS[n % len(THINGS)]} {n}" for n in range(items)]
    vectors = encoder.encode_texts(titles)
    registry, brands = Registry(settings), {}
    for brand in BRANDS:
        tables = DeltaTables(settings.home.absolute() / f"tables-{brand}")
        _fill(tables, brand, titles, vectors, encoder, settings.pictures_root)
        folder = settings.releases_root / brand
        manifest = build(settings, DeltaSource.newest(tables, encoder.space), folder, LogProgress())
        release = registry.register(folder, encoder_directory(encoder_in_use(settings)), ACTOR)
        check = Check(name="made for the bench", passed=True, observed=f"{items} items", bar="at least 1")
        verdict = Verdict(at=datetime.now(UTC), manifest_sha256=manifest.sha256, checks=(check,))
        registry.record_verdict(release.version, verdict, ACTOR)
        brands[release.version] = brand
    return brands


def _fill(
    tables: DeltaTables, brand: str, titles: list[str], vectors: np.ndarray, encoder: Encoder, pictures: Path
) -> None:
    path, content_hash = _store_picture(pictures)
    silver = [
        {
            "item_id": f"item-{number:06}", "version": 1, "title": title, "brand": brand, "image_path": path,
            "content_hash": content_hash, "width": 8, "height": 8, "source": "bench", "snapshot_id": "bench",
            "deleted": False, "shard": 0,
        }
        for number, title in enumerate(titles)
    ]  # fmt: skip
    embeddings = [
        {
            "item_id": row["item_id"], "space": encoder.space.fingerprint, "content_hash": content_hash,
            "item_version": 1, "encoder_version": "1", "vector": vector.tolist(), "l2_norm": 1.0,
        }
        for row, vector in zip(silver, vectors, strict=True)
    ]  # fmt: skip
    tables.append(SILVER, pa.Table.from_pylist(silver, schema=SILVER.schema))
    tables.append(EMBEDDINGS, pa.Table.from_pylist(embeddings, schema=EMBEDDINGS.schema))


def picture() -> bytes:
    """A small PNG."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 40, 30)).save(buffer, "PNG")
    return buffer.getvalue()


def _store_picture(root: Path) -> tuple[str, str]:
    data = picture()
    content_hash = hashlib.sha256(data).hexdigest()
    path = f"{content_hash[:2]}/{content_hash}.png"
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(data)
    return path, content_hash


@contextlib.contextmanager
def running_server(settings: Settings) -> Iterator[str]:
    """The server as a process of its own, on a free port; its address once it is ready."""
    program = (
        "from lookalike.contracts.settings import load_settings; from lookalike.serving.server import serve; "
        "serve(load_settings())"
    )
    environment = os.environ | {"LOOKALIKE_HOME": str(settings.home), "LOOKALIKE_SERVING__PORT": "0"}
    with (settings.home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        )
    assert process.stdout is not None
    try:
        words = process.stdout.readline().split()
        url = next((word for word in words if word.startswith("http://")), None)
        if url is None or not _ready(url):
            raise SystemExit(f"the server did not get ready:\n{(settings.home / 'server.log').read_text()[-2000:]}")
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _ready(url: str) -> bool:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return True
        time.sleep(0.1)
    return False


def ask_until(stop: threading.Event, url: str, number: int, brands: dict[str, str], tally: Tally) -> None:
    """One client: words, similar items and uploaded pictures in turn, one request after the other."""
    data = picture()
    query = json.dumps({"parts": [{"upload": 0}, {"text": "red", "weight": 0.5}]})
    with httpx.Client(base_url=url, timeout=15) as client:
        turn = number
        while not stop.is_set():
            turn += 1
            started = time.perf_counter()
            try:
                if turn % 8 == 0:
                    answer = client.post("/v1/search", data={"query": query}, files={"picture": ("p.png", data)})
                elif turn % 3 == 0:
                    answer = client.get(f"/v1/items/item-{turn % 100:06}/similar")
                else:
                    text = f"{COLOURS[turn % len(COLOURS)]} {THINGS[turn % len(THINGS)]}"
                    answer = client.post("/v1/search", json={"parts": [{"text": text}]})
            except httpx.HTTPError as error:
                tally.failures.append(f"{type(error).__name__}: {error}")
                continue
            tally.seconds.append(time.perf_counter() - started)
            if answer.status_code != 200:
                tally.failures.append(f"{answer.status_code}: {answer.text[:200]}")
                continue
            body = answer.json()
            tally.releases[body["release"]] += 1
            wrong = mixes_releases(body, answer.headers.get("lookalike-release"), brands)
            if wrong:
                tally.mixed.append(wrong)


def move_until(deadline: float, registry: Registry, url: str, versions: list[str], tally: Tally, pause: float) -> None:
    """Promote and roll back in turn, each time waiting until the server answers from the new release."""
    registry.promote(versions[1], ACTOR)
    live = versions[1]
    while True:
        _await_release(url, live, tally)
        time.sleep(pause)
        if time.monotonic() > deadline:
            return
        live = registry.rollback(ACTOR).version


def _await_release(url: str, version: str, tally: Tally) -> None:
    started = time.monotonic()
    while httpx.get(f"{url}/v1/release", timeout=15).json()["release"] != version:
        if time.monotonic() - started > READY_SECONDS:
            raise SystemExit(f"the server did not follow to release {version}")
        time.sleep(0.05)
    tally.swap_seconds.append(time.monotonic() - started)


def run(settings: Settings, items: int, clients: int, seconds: float, pause: float) -> dict[str, Any]:
    """The whole bench; the figures."""
    settings.home.mkdir(parents=True, exist_ok=True)
    brands = make_releases(settings, items)
    versions, registry, tally, stop = sorted(brands, key=int), Registry(settings), Tally(), threading.Event()
    registry.promote(versions[0], ACTOR)
    with running_server(settings) as url:
        threads = [
            threading.Thread(target=ask_until, args=(stop, url, number, brands, tally)) for number in range(clients)
        ]
        for thread in threads:
            thread.start()
        started = time.monotonic()
        try:
            move_until(started + seconds, registry, url, versions, tally, pause)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        elapsed = time.monotonic() - started
    p50, p99 = np.percentile(tally.seconds, (50, 99)) * 1000
    return {
        "requests": len(tally.seconds) + sum("Error" in failure for failure in tally.failures),
        "failed": len(tally.failures),
        "mixed": len(tally.mixed),
        "moves": len(tally.swap_seconds),
        "answers_by_release": dict(sorted(tally.releases.items())),
        "requests_per_second": round(len(tally.seconds) / elapsed, 1),
        "p50_ms": round(float(p50), 1),
        "p99_ms": round(float(p99), 1),
        "slowest_ms": round(max(tally.seconds) * 1000, 1),
        "slowest_swap_seconds": round(max(tally.swap_seconds), 2),
        "clients": clients,
        "seconds": round(elapsed, 1),
        "first_failures": tally.failures[:3] + tally.mixed[:3],
    }


def main() -> int:
    """Command line; exit code 1 when a request failed or an answer mixed two releases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--items", type=int, default=1_000)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two moves of the pointer")
    parser.add_argument("--encoder", default=None, help="default: the encoder in use")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        encoder = {"encoder": {"path": options.encoder}} if options.encoder else {}
        settings = Settings(home=Path(home) / "var", **encoder)
        figures = run(settings, options.items, options.clients, options.seconds, options.pause)
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:>22}  {value}")
    return 1 if figures["failed"] or figures["mixed"] else 0


if __name__ == "__main__":
    sys.exit(main())
