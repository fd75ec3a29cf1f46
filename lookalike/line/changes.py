"""Send catalogue changes: one made by hand, or a file of them, straight to the log; a token says where they lie.

A change made by hand is checked before it is sent. Lines of a file go to the log as they are, good and bad: the job
refuses the bad ones with their reason, and keeps them, so that nothing is lost between a shop and the catalogue.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookalike.catalogue.changes import message_key, parse_change
from lookalike.catalogue.intake import inspect_picture
from lookalike.catalogue.pictures import store_picture
from lookalike.contracts.change import SCHEMA, ChangeKind, Position, Topic, encode_token
from lookalike.contracts.errors import LookalikeError, NotFound
from lookalike.contracts.product import Refusal
from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import Settings
from lookalike.storage.log.limits import MESSAGE_BYTES
from lookalike.storage.log.opening import open_log
from lookalike.storage.log.port import Log, Message

BATCH_RECORDS = 500
BATCH_BYTES = 2**20


class ChangeRefused(LookalikeError):
    """A change that the job would refuse, so it was not sent; the message says what is wrong and what is allowed."""


@dataclass(frozen=True)
class Sent:
    """What was sent. `token` is what a search takes as `min_token` to see all of it."""

    sent: int
    refusable: int  # of these, lines that the job will refuse
    first_problem: str | None
    token: str


@contextmanager
def opened_log(settings: Settings) -> Iterator[Log]:
    """The log of the settings, closed afterwards."""
    log = open_log(settings)
    try:
        yield log
    finally:
        log.close()


def send_change(
    settings: Settings,
    kind: ChangeKind,
    item_id: str,
    body: Mapping[str, Any],
    version: int | None,
    source: str,
) -> Sent:
    """Send one change that happens now. `body`: {"product": …}, {"columns": …} or nothing, by kind.

    `version` None: the present time in ms. Raises ChangeRefused, LogUnavailable.
    """
    now = time.time_ns() // 1_000_000
    change = {
        "schema": SCHEMA,
        "kind": kind.value,
        "item_id": item_id,
        "version": now if version is None else version,
        "event_time": now,
        "source": source,
        **body,
    }
    data = json.dumps(change).encode()
    parsed = parse_change(data, now, settings.intake)
    if isinstance(parsed, Refusal):
        raise ChangeRefused(f"the change was not sent: {parsed.detail}")
    with opened_log(settings) as log:
        positions = log.append(Topic.CHANGES, [Message(parsed.item_id.encode(), data)])
    return Sent(1, 0, None, token_of(positions))


def keep_picture(settings: Settings, picture: str) -> str:
    """`image_path` of a picture given by hand: a URL as it is, a local file's path in the picture store.

    The file is checked and copied there, so that it may change or go afterwards. Raises NotFound, ChangeRefused.
    """
    if "://" in picture and not picture.startswith("file://"):
        return picture
    path = Path(picture.removeprefix("file://"))
    try:
        with path.open("rb") as file:
            data = file.read(settings.intake.max_picture_bytes + 1)
    except OSError as error:
        raise NotFound(f"picture {path}: {error.strerror}") from error
    info = inspect_picture(data, settings.intake)
    if isinstance(info, Refusal):
        raise ChangeRefused(f"picture {path}: {info.detail}")
    return store_picture(settings.pictures_root, data, f".{info.format.lower()}")


def send_lines(settings: Settings, lines: Iterable[bytes], progress: Progress) -> Sent:
    """Send changes, one JSON document per line; empty lines are passed over. Sent again, they are known repeats.

    Raises LogUnavailable, and ChangeRefused for a line that no log can take, naming what was sent before it.
    """
    given = (line.strip(b"\r\n") for line in lines)
    numbered = ((number, line) for number, line in enumerate(given, start=1) if line.strip())
    sent, refusable, problem, seen = 0, 0, None, dict[int, int]()
    with opened_log(settings) as log, progress.step("send changes") as step:
        for batch in _batches(numbered):
            seen |= _last_offsets(log.append(Topic.CHANGES, [Message(message_key(line), line) for _, line in batch]))
            now = time.time_ns() // 1_000_000
            for number, line in batch:
                refused = parse_change(line, now, settings.intake)
                if isinstance(refused, Refusal):
                    refusable += 1
                    problem = problem or f"line {number}: {refused.detail}"
            sent += len(batch)
            step.advance(len(batch))
    return Sent(sent, refusable, problem, encode_token(seen))


def token_of(positions: Iterable[Position]) -> str:
    """The read-your-write token of appended changes."""
    return encode_token(_last_offsets(positions))


def _last_offsets(positions: Iterable[Position]) -> dict[int, int]:
    return {position.partition: position.offset for position in sorted(positions)}


def _batches(numbered: Iterable[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    """Batches of bounded count and size, so that memory does not depend on the file."""
    batch: list[tuple[int, bytes]] = []
    size = 0
    for number, line in numbered:
        if len(line) > MESSAGE_BYTES - 1_024:  # room for the key
            if batch:
                yield batch
            raise ChangeRefused(
                f"line {number} has {len(line):,} bytes; the log takes {MESSAGE_BYTES - 1_024:,}. The lines before it "
                "were sent; take this one out and send the file again"
            )
        if batch and (len(batch) == BATCH_RECORDS or size + len(line) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((number, line))
        size += len(line)
    if batch:
        yield batch


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """`price=9.50`, `tags=a,b`, `brand=` (clears), `attributes={"colour": "red"}` as columns and values."""
    columns: dict[str, Any] = {}
    for assignment in assignments:
        name, sign, value = assignment.partition("=")
        name = name.strip()
        if not sign or not name:
            raise ChangeRefused(f"{assignment!r}: write it as COLUMN=VALUE, such as price=9.50 or tags=a,b")
        if name in columns:
            raise ChangeRefused(f"{name} is given twice")
        columns[name] = _value(name, value.strip())
    return columns


def _value(name: str, text: str) -> Any:
    if not text:
        return None
    if text[0] in "[{":
        try:
            return json.loads(text)
        except ValueError as error:
            raise ChangeRefused(f"{name}={text[:80]}: this begins like JSON and is none: {error}") from error
    return [word.strip() for word in text.split(",")] if name in ("tags", "category_path") else text


def read_lines(path: Path) -> Iterator[bytes]:
    """Lines of a file. Raises NotFound."""
    try:
        with path.open("rb") as file:
            yield from iter(lambda: file.readline(MESSAGE_BYTES), b"")  # a longer line is refused by its start
    except OSError as error:
        raise NotFound(f"{path}: {error.strerror}") from error
