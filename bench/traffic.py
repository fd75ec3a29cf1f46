"""Catalogue traffic: real changes at a steady rate, with an oracle that knows what shoppers must find afterwards.

Half of the changes set attributes (price, stock, tags), a tenth deletes (or restores), the rest are whole rows with a
picture that was never seen: half of them new items, half new pictures of known ones. Pictures are drawn from the
catalogue's own, turned and tinted, and lie in the picture store before the first change is sent.

    python bench/traffic.py --home var --seconds 60 --rate 200          # sends, prints what it sent
    python bench/traffic.py --home var --record changes.jsonl --count 200   # writes events instead of sending them
"""

import argparse
import hashlib
import io
import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from lookalike.catalogue.pictures import store_picture
from lookalike.contracts.change import SCHEMA, Topic
from lookalike.contracts.settings import Settings, load_settings
from lookalike.storage.log.opening import open_log
from lookalike.storage.log.port import LogUnavailable, Message

SOURCE = "traffic"
ATTRIBUTES, DELETES = 0.5, 0.1
PICTURE_SIZE = 128
TICK_SECONDS = 0.01
FIRST_RECORDED = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass
class Expected:
    """What is true of one item after all changes sent so far."""

    alive: bool
    version: int
    price: float | None = None
    stock: int | None = None
    title: str = ""
    picture: str = ""


@dataclass(frozen=True)
class Change:
    """One change, ready to send, and what it makes true."""

    kind: str
    item_id: str
    body: dict[str, Any]
    new_picture: bool

    def message(self) -> Message:
        """As the log takes it."""
        return Message(self.item_id.encode(), json.dumps(self.body, ensure_ascii=False).encode())


@dataclass
class Traffic:
    """Draws changes; `items` is the oracle by item id."""

    items: dict[str, Expected]
    pictures: list[str]
    seed: int = 7
    drawn: int = 0
    created: int = 0
    _alive: list[str] = field(default_factory=list)
    _gone: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._alive = sorted(item for item, known in self.items.items() if known.alive)

    def draw(self, at: datetime) -> Change:
        """The next change, happening at `at`."""
        self.drawn += 1
        dice = self._random.random()
        if dice < ATTRIBUTES:
            return self._attributes(at)
        if dice < ATTRIBUTES + DELETES:
            return self._restore(at) if self._gone and self._random.random() < 0.3 else self._delete(at)
        return self._upsert(at)

    def _attributes(self, at: datetime) -> Change:
        item = self._random.choice(self._alive)
        known = self.items[item]
        columns: dict[str, Any] = {}
        if self._random.random() < 0.7:
            known.price = columns["price"] = round(self._random.uniform(1, 250), 2)
        if not columns or self._random.random() < 0.5:
            known.stock = columns["stock"] = self._random.randrange(500)
        if self._random.random() < 0.1:
            columns["tags"] = [f"tag-{self._random.randrange(50)}", "changed"]
        return self._change("attributes", item, at, columns=columns)

    def _delete(self, at: datetime) -> Change:
        place = self._random.randrange(len(self._alive))
        item = self._alive[place]
        self._alive[place] = self._alive[-1]
        self._alive.pop()
        self._gone.append(item)
        self.items[item].alive = False
        return self._change("delete", item, at)

    def _restore(self, at: datetime) -> Change:
        item = self._gone.pop(self._random.randrange(len(self._gone)))
        self._alive.append(item)
        self.items[item].alive = True
        return self._change("restore", item, at)

    def _upsert(self, at: datetime) -> Change:
        picture = self.pictures.pop()
        if self._random.random() < 0.5:
            self.created += 1
            item = f"traffic:{self.seed}-{self.created:07}"
            self.items[item] = Expected(True, 0)
            self._alive.append(item)
        else:
            item = self._random.choice(self._alive)
        known = self.items[item]
        known.title, known.picture = f"changed {self.drawn}", picture
        known.price, known.stock = round(self._random.uniform(1, 250), 2), self._random.randrange(500)
        product = {
            "title": known.title, "image_path": picture, "brand": f"brand-{self._random.randrange(20)}",
            "category_path": ["traffic"], "tags": [f"tag-{self._random.randrange(50)}"], "price": known.price,
            "currency": "EUR", "stock": known.stock,
        }  # fmt: skip
        return self._change("upsert", item, at, new_picture=True, product=product)

    def _change(self, kind: str, item: str, at: datetime, *, new_picture: bool = False, **more: Any) -> Change:
        known = self.items[item]
        known.version = max(known.version + 1, int(at.timestamp() * 1000))
        body = {
            "schema": SCHEMA, "kind": kind, "item_id": item, "version": known.version,
            "event_time": at.isoformat(timespec="milliseconds"), "source": SOURCE,
        }  # fmt: skip
        return Change(kind, item, body | more, new_picture)


def open_traffic(settings: Settings, pictures: int, seed: int = 7) -> Traffic:
    """Traffic over the live release's items, with at least this many unseen pictures in the store."""
    from index_builder.reader import open_index
    from lookalike.releases.registry import Registry

    live = Registry(settings).live()
    if live is None:
        raise SystemExit("no release is live: run `lookalike demo --check` on this home first")
    columns = open_index(live.index_dir, verify=False).columns
    rows = columns.select(["item_id", "version", "price", "stock", "title", "image_path"]).to_pylist()
    items = {
        row["item_id"]: Expected(True, row["version"], row["price"], row["stock"], row["title"], row["image_path"])
        for row in rows
    }
    paths = [path for path in columns["image_path"].to_pylist() if path.endswith(".png")]
    return Traffic(items, draw_pictures(settings, paths, pictures, seed), seed)


def draw_pictures(settings: Settings, paths: list[str], count: int, seed: int) -> list[str]:
    """`count` pictures that no catalogue has, in the picture store; the list is kept, so that a second run is quick."""
    kept = settings.stream_root / f"traffic-{seed}-{count}.json"
    if kept.is_file():
        return list(json.loads(kept.read_text()))
    dice = random.Random(seed)
    drawn = [
        store_picture(settings.pictures_root, _variant(settings.pictures_root / dice.choice(paths), dice), ".png")
        for _ in range(count)
    ]
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(drawn))
    return drawn


def _variant(path: Path, dice: random.Random) -> bytes:
    with Image.open(path) as opened:
        picture = opened.convert("RGBA").resize((PICTURE_SIZE, PICTURE_SIZE))
    paper = Image.new("RGBA", picture.size, (*(dice.randrange(200, 256) for _ in range(3)), 255))
    turned = picture.rotate(dice.uniform(-40, 40))
    drawn = Image.alpha_composite(paper, turned).convert("RGB")
    if dice.random() < 0.5:
        drawn = ImageOps.mirror(drawn)
    drawn.putpixel((0, 0), tuple(dice.randrange(256) for _ in range(3)))
    drawn.putpixel((1, 0), tuple(dice.randrange(256) for _ in range(3)))
    buffer = io.BytesIO()
    drawn.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def pictures_needed(changes: int) -> int:
    """Enough for this many changes, with room for luck."""
    return int(changes * (1 - ATTRIBUTES - DELETES) * 1.05) + 200


def send(settings: Settings, traffic: Traffic, rate: float, seconds: float) -> Iterator[list[Change]]:
    """Send at `rate` changes a second, yielding what was acknowledged at each tick. A late tick sends what is due."""
    log = open_log(settings)
    started, sent = time.monotonic(), 0
    while (elapsed := time.monotonic() - started) < seconds:
        due = int(elapsed * rate) - sent
        if due > 0:
            batch = [traffic.draw(datetime.now(UTC)) for _ in range(due)]
            _append(settings, log, batch)
            sent += due
            yield batch
        time.sleep(TICK_SECONDS)
    log.close()


def _append(settings: Settings, log: Any, batch: list[Change]) -> None:
    """Until it is acknowledged: a log that is away for a while delays changes, it loses none."""
    while True:
        try:
            log.append(Topic.CHANGES, [change.message() for change in batch])
            return
        except LogUnavailable as error:
            sys.stderr.write(f"traffic waits for the log: {error}\n")
            time.sleep(0.2)


def record(traffic: Traffic, count: int) -> list[Change]:
    """Changes with fixed times, so that two runs of them can be compared."""
    return [traffic.draw(FIRST_RECORDED + timedelta(milliseconds=5 * number)) for number in range(count)]


def main() -> None:
    """See the module's text."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--home", type=Path, default=Path("var"))
    options.add_argument("--rate", type=float, default=200.0, help="changes a second")
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--seed", type=int, default=7)
    options.add_argument("--record", type=Path, help="write events as JSON lines to this file instead of sending")
    options.add_argument("--count", type=int, default=200, help="with --record")
    given = options.parse_args()
    settings = load_settings(home=given.home)
    wanted = given.count if given.record else int(given.rate * given.seconds)
    traffic = open_traffic(settings, pictures_needed(wanted), given.seed)
    if given.record:
        lines = [json.dumps(change.body, ensure_ascii=False) for change in record(traffic, given.count)]
        given.record.write_text("\n".join(lines) + "\n")
        digest = hashlib.sha256(given.record.read_bytes()).hexdigest()
        print(f"{len(lines)} events written to {given.record}, sha256 {digest[:16]}")
        return
    started = time.monotonic()
    sent = sum(len(batch) for batch in send(settings, traffic, given.rate, given.seconds))
    print(f"{sent} changes sent in {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    main()
