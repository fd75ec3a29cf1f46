"""Parts of the enriching pipeline without a runner: parked messages, lookups, slow hosts, encoding, the store."""

import threading
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from beam.background import DaemonPool
from beam.elements import Change, SeenPicture, Wait
from beam.embed import EmbedHandler, embed
from beam.fetch import Fetching
from beam.known_vectors import KnownVectors
from beam.parked import Parked, UnreadableParked, parked
from beam.parse import parse_record
from beam.read import LogRecord
from beam.releases import Followed, ReleaseFollower
from beam.slow_hosts import AVOID_SECONDS, SLOW_IN_A_ROW, SlowHosts
from beam.state_store import StateStore
from lookalike.catalogue.changes import encode_change
from lookalike.catalogue.intake import PictureInfo
from lookalike.contracts.change import CatalogueEvent, Position, Topic
from lookalike.contracts.item_state import unknown_item
from lookalike.contracts.product import Product, Refusal, RefusalReason
from lookalike.contracts.settings import Settings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.tables import EMBEDDINGS
from lookalike.contracts.vector_update import VectorUpdate
from lookalike.storage.delta import DeltaTables

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
RECEIVED_MS = int(NOON.timestamp() * 1000)


def change(item_id="a", version=1, topic=Topic.CHANGES, **more):
    product = Product(item_id=item_id, version=version, title="t", image_path=f"http://shop/{item_id}")
    event = CatalogueEvent(
        kind="upsert", item_id=item_id, version=version, event_time=NOON, source="shop", product=product
    )
    at = Position(0, version)
    return Change(topic, version, version - 1, at, RECEIVED_MS, encode_change(event), event=event, **more)


class Encoder:
    """Two numbers of each picture; fails on batches with a negative one."""

    space = EmbeddingSpace(
        encoder="two", weights_sha256="a" * 64, preprocessing_sha256="b" * 64, tokenizer_sha256="c" * 64, dim=2
    )

    def __init__(self):
        self.batches = []
        self.broken = False

    def encode_prepared(self, batch):
        self.batches.append(len(batch))
        if self.broken or min(float(each.min()) for each in batch) < 0:
            raise RuntimeError("bad input")
        return np.stack([each / np.linalg.norm(each) for each in batch])

    def encode_pictures(self, pictures):
        return self.encode_prepared([np.ones(2, np.float32) for _ in pictures])


def seen(digest, value, space):
    return SeenPicture(PictureInfo(1, 1, "PNG", digest), {}, {space: np.array([value, 1], np.float32)})


def test_a_parked_change_comes_back_as_it_went():
    original = change(version=3)
    record = LogRecord(Topic.LATER, 0, 9, 8, b"a", parked(original, 2).encode(), 10**13)
    back = parse_record(record, 1, Settings().intake)
    assert (back.origin, back.tries, back.payload, back.event) == (Position(0, 3), 2, original.payload, original.event)
    assert (back.topic, back.offset, back.received_ms) == (Topic.LATER, 9, RECEIVED_MS)


@pytest.mark.parametrize("value", [b"", b"{}", b"[1]", b'{"schema": 2}', b'{"schema": 1, "origin": [0]}'])
def test_what_is_no_parked_change_stops_with_a_reason(value):
    with pytest.raises(UnreadableParked, match="parked change"):
        Parked.decode(value)


def test_one_bad_picture_of_a_batch_costs_only_itself_and_equal_ones_are_encoded_once():
    encoder, space = Encoder(), Encoder.space.fingerprint
    changes = [
        change(f"i{n}", picture=seen(f"{n % 4}" * 64, -1.0 if n == 2 else float(n % 4), space)) for n in range(8)
    ]
    changes[6] = change("i6", picture=seen("9" * 64, 9.0, space))
    done = embed(changes, {space: encoder}, batch_size=3)
    assert encoder.batches == [3, 1, 1, 1, 1, 2]  # a batch, its three alone, the white picture, the rest
    assert [each.event.item_id for each in done if each.refusal] == ["i2"]
    assert done[2].refusal.reason is RefusalReason.PICTURE_UNREADABLE and done[2].refusal.item_id == "i2"
    for each in done:
        if each.refusal is None:
            expected = np.array([float(each.picture.info.content_hash[0]), 1])
            np.testing.assert_allclose(each.picture.vectors[space], expected / np.linalg.norm(expected), atol=1e-6)
            assert each.embedded and not each.picture.prepared


def test_an_encoder_that_fails_on_everything_refuses_nothing():
    encoder, space = Encoder(), Encoder.space.fingerprint
    encoder.broken = True
    with pytest.raises(RuntimeError, match="bad input"):
        embed([change(picture=seen("1" * 64, 1.0, space))], {space: encoder}, 4)


def test_a_space_withdrawn_meanwhile_is_left_out():
    done = embed([change(picture=seen("1" * 64, 1.0, "gone"))], {}, 4)
    assert done[0].picture.vectors == {} and done[0].refusal is None


def test_the_handler_neither_batches_nor_pickles():
    handler = EmbedHandler(Settings())
    assert handler.should_skip_batching() and handler.batch_elements_kwargs() == {}
    assert handler.get_num_bytes([change(picture=seen("1" * 64, 1.0, "s")), change()]) == 8


def test_hosts_that_keep_bundles_waiting_are_left_aside_for_a_while():
    now = [0.0]
    hosts = SlowHosts(clock=lambda: now[0])
    for _ in range(SLOW_IN_A_ROW - 1):
        hosts.saw("http://slow/x", slow=True)
    assert not hosts.avoid("http://slow/y")
    hosts.saw("http://slow/x", slow=True)
    assert hosts.avoid("http://slow/y") and not hosts.avoid("http://quick/y") and not hosts.avoid("a/b.png")
    now[0] = AVOID_SECONDS + 1
    assert not hosts.avoid("http://slow/y")
    hosts.saw("http://slow/y", slow=True)
    assert hosts.avoid("http://slow/y")
    now[0] *= 3
    assert not hosts.avoid("http://slow/y")
    hosts.saw("http://slow/y", slow=False)
    hosts.saw("http://slow/y", slow=True)
    assert not hosts.avoid("http://slow/y")


class Finder:
    """Pictures by item id: `slow…` come when released, `down…` fail in passing."""

    def __init__(self):
        self.release = threading.Event()
        self.asked = []

    def picture(self, event, timeout):
        self.asked.append((event.item_id, timeout))
        if event.item_id.startswith("slow"):
            self.release.wait(10)
        if event.item_id.startswith("down"):
            return Refusal(RefusalReason.PICTURE_UNAVAILABLE, "503", event.item_id)
        if event.item_id.startswith("missing"):
            return Refusal(RefusalReason.PICTURE_MISSING, "404", event.item_id)
        return SeenPicture(PictureInfo(1, 1, "PNG", "1" * 64))


@pytest.fixture
def fetching(tmp_path):
    from beam.lookups import Lookups

    settings = Settings(home=tmp_path, stream={"first_fetch_seconds": 0.2, "fetch_threads": 2, "retry_attempts": 3})
    finder, store = Finder(), StateStore(tmp_path / "items.db")
    lookups = Lookups(finder, settings)
    yield SimpleNamespace(
        finder=finder, store=store, stage=Fetching(lookups, store, SimpleNamespace(now=Followed()), settings)
    )
    finder.release.set()
    lookups.close()
    store.close()


def gathered(fetching, *changes):
    for each in changes:
        fetching.stage.take(each)
    return {each.event.item_id: each for each in fetching.stage.finish()}


def test_a_bundle_waits_a_moment_and_parks_what_is_slow_or_down(fetching):
    names = ["good", "slow", "down", "missing"]
    done = gathered(fetching, *(change(name, version) for version, name in enumerate(names, 1)))
    assert list(done) == names
    assert done["good"].picture is not None and done["good"].fetched
    assert done["slow"].wait is Wait.UNDER_WAY and done["down"].wait is Wait.UNDER_WAY
    assert done["missing"].refusal.reason is RefusalReason.PICTURE_MISSING and done["missing"].wait is None


def test_a_slow_picture_is_there_when_its_parked_change_comes_round(fetching):
    gathered(fetching, change("slow", 1))
    again = change("slow", 1, Topic.LATER)
    assert gathered(fetching, again)["slow"].wait is Wait.UNDER_WAY
    fetching.finder.release.set()
    deadline = time.monotonic() + 10
    while (done := gathered(fetching, again)["slow"]).picture is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert done.fetched and done.wait is None
    assert ("slow", 20.0) in fetching.finder.asked  # the second time with the whole time-out


def test_a_failed_try_is_told_and_the_next_begins_at_once(fetching):
    gathered(fetching, change("down", 1))
    deadline = time.monotonic() + 10
    again = change("down", 1, Topic.LATER)
    while (done := gathered(fetching, again)["down"]).wait is not Wait.FAILED and time.monotonic() < deadline:
        time.sleep(0.02)
    assert done.refusal.detail == "503"
    while len(fetching.finder.asked) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [seconds for _, seconds in fetching.finder.asked] == [0.2, 20.0, 20.0]


def test_an_upsert_that_cannot_win_fetches_nothing(fetching):
    state, _ = unknown_item("a").upsert(5, {"content_hash": "1" * 64}, NOON)
    fetching.store.absorb(0, [(0, VectorUpdate(Position(0, 0), state))], 1)
    assert gathered(fetching, change("a", 5))["a"].picture is None
    assert fetching.finder.asked == []
    assert gathered(fetching, change("a", 6))["a"].fetched


def test_the_pool_passes_exceptions_on_and_drops_what_was_cancelled():
    pool, gate, ran = DaemonPool(1, "t"), threading.Event(), []
    first = pool.submit(gate.wait)
    second = pool.submit(lambda: ran.append(2))
    third = pool.submit(lambda: 1 // 0)
    assert second.cancel()
    gate.set()
    assert first.result(5)
    with pytest.raises(ZeroDivisionError):
        third.result(5)
    assert ran == []
    pool.close()


def test_embeddings_are_found_to_the_bit_and_only_in_their_space(tmp_path):
    tables, store = DeltaTables(tmp_path / "tables"), StateStore(tmp_path / "items.db")
    vectors = {f"{n:064x}": np.random.default_rng(n).standard_normal(4).astype(np.float32) for n in range(1, 30)}
    rows = [
        {"item_id": digest, "space": "s" * 16, "content_hash": digest, "item_version": 1, "encoder_version": "1",
         "vector": vector.tolist(), "l2_norm": 1.0}
        for digest, vector in vectors.items()
    ]  # fmt: skip
    tables.append(EMBEDDINGS, pa.Table.from_pylist(rows, schema=EMBEDDINGS.schema))
    known = KnownVectors(store, tables)
    for digest, vector in vectors.items():
        found = known.find(digest, ["s" * 16, "t" * 16])
        assert list(found) == ["s" * 16]
        np.testing.assert_array_equal(found["s" * 16], vector)
    assert known.find("f" * 64, ["s" * 16]) == {}


class _Aliases:
    def __init__(self):
        self.incoming = None
        self.named = {}

    def alias(self, name):
        return self.named.get(str(name))

    def incoming_encoder(self):
        return self.incoming


def _space(name):
    return EmbeddingSpace(
        encoder=name, weights_sha256=name[0] * 64, preprocessing_sha256="b" * 64, tokenizer_sha256="c" * 64, dim=2
    )


def test_the_follower_writes_to_the_spaces_of_live_previous_and_incoming():
    opened = []

    def open_encoder(path):
        opened.append(path)
        if path == "broken":
            raise OSError("no such folder")
        return SimpleNamespace(space=_space(path))

    aliases = _Aliases()
    follower = ReleaseFollower(Settings(encoder={"path": "a0"}), aliases, open_encoder, lambda folder: folder)
    follower.look()
    assert set(follower.now.encoders) == {_space("a0").fingerprint} and follower.now.release == ""
    live = SimpleNamespace(version="2", index_dir="two", encoder_dir="b0", space=_space("b0").fingerprint)
    aliases.named = {"live": live, "previous": SimpleNamespace(version="1", encoder_dir="a0")}
    aliases.incoming = "c0"
    follower.look()
    follower.look()
    assert set(follower.now.encoders) == {_space(name).fingerprint for name in ("a0", "b0", "c0")}
    assert (follower.now.release, follower.now.items, opened) == ("2", "two", ["a0", "b0", "c0"])
    aliases.incoming = "broken"
    follower.look()
    assert set(follower.now.encoders) == {_space(name).fingerprint for name in ("a0", "b0")}
    live.space = "0" * 16
    live.version = "3"
    with pytest.raises(Exception, match="belongs to embedding space"):
        follower.look()
    assert follower.now.release == "2"
