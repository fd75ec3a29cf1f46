"""The enriching pipeline on the local runner: a real log, the real encoder, real pictures, also over HTTP."""

import io
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import apache_beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from PIL import Image

import beam.job
from beam.counts import counts
from beam.enrich import GROUP, enrich
from beam.local_runner import LocalRunner
from beam.pipelines import drain_file
from beam.releases import ReleaseFollower
from lookalike.catalogue.changes import encode_change
from lookalike.catalogue.refused_rows import RefusedChange
from lookalike.contracts.change import CatalogueEvent, Topic
from lookalike.contracts.product import Product
from lookalike.contracts.settings import load_settings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.contracts.vector_update import VectorUpdate
from lookalike.storage.delta import DeltaTables
from lookalike.storage.log.opening import open_log
from lookalike.storage.log.port import Message

pytestmark = pytest.mark.slow
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
SECONDS = 60


@pytest.fixture(scope="module")
def encoder():
    from models.encoders import open_encoder

    return open_encoder("lookalike-mini", "cpu", 1)


class OtherEncoder:
    """A second space: mean colours; breaks on pictures that are all green."""

    space = EmbeddingSpace(
        encoder="colours", weights_sha256="a" * 64, preprocessing_sha256="b" * 64, tokenizer_sha256="c" * 64, dim=3
    )
    passes = 0

    def prepare(self, picture):
        return picture.reshape(-1, 3).mean(axis=0).astype(np.float32)

    def encode_prepared(self, batch):
        OtherEncoder.passes += 1
        rows = np.stack(batch)
        if ((rows[:, 1] == 255) & (rows[:, 0] == 0)).any():
            raise RuntimeError("all green")
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def encode_pictures(self, pictures):
        return self.encode_prepared([self.prepare(picture) for picture in pictures])


class Aliases:
    """The registry's aliases, as the follower reads them."""

    def __init__(self):
        self.aliases, self.incoming = {}, None

    def alias(self, name):
        return self.aliases.get(str(name))

    def incoming_encoder(self):
        return self.incoming


class Items:
    """A live release's item columns."""

    def __init__(self, rows):
        names = [name for name in SILVER.schema.names if name not in ("snapshot_id", "deleted", "shard")]
        self.columns = pa.Table.from_pylist(
            [{name: row.get(name) for name in names} for row in rows],
            schema=pa.schema([SILVER.schema.field(name).with_nullable(True) for name in names]),
        )
        self._rows = {row["item_id"]: number for number, row in enumerate(rows)}

    def rows_of(self, item_ids):
        return np.array([self._rows.get(item_id, -1) for item_id in item_ids])


class Home:
    """A home, its log, and the pipeline run until nothing is left to do."""

    def __init__(self, folder, encoder, monkeypatch):
        self.settings = load_settings(
            home=folder,
            stream={"retry_seconds": 0.3, "retry_attempts": 3, "first_fetch_seconds": 0.5, "batch_size": 8},
            intake={"private_networks": ["127.0.0.0/8"], "fetch_timeout_seconds": 5.0},
            serving={"poll_seconds": 0.05},
        )
        self.settings.pictures_root.mkdir(parents=True)
        self.log, self.aliases, self.items = open_log(self.settings), Aliases(), None
        self.encoder, self.other = encoder, OtherEncoder()
        monkeypatch.setattr(beam.job, "follow_registry", self._follower)

    def _follower(self, settings):
        def opened(path):
            return self.other if "other" in path else self.encoder

        return ReleaseFollower(settings, self.aliases, opened, lambda folder: self.items)

    def go_live(self, rows, version="1"):
        self.items = Items(rows)
        space = self.encoder.space.fingerprint
        self.aliases.aliases["live"] = SimpleNamespace(version=version, index_dir=None, encoder_dir="mini", space=space)

    def picture(self, name, colour, size=(40, 30)):
        Image.new("RGB", size, colour).save(self.settings.pictures_root / name)
        return name

    def send(self, *events):
        self.log.append(
            Topic.CHANGES,
            [Message(each.item_id.encode(), encode_change(each)) for each in events],
        )

    def run(self, meanwhile=lambda: None):
        """Returns what was counted."""
        drain = drain_file(self.settings, GROUP)
        drain.parent.mkdir(parents=True, exist_ok=True)
        drain.unlink(missing_ok=True)
        before = Counter(counts())
        watcher = threading.Thread(target=self._watch, args=(drain, meanwhile), daemon=True)
        pipeline = apache_beam.Pipeline(runner=LocalRunner(), options=PipelineOptions(["--streaming"]))
        enrich(pipeline, self.settings)
        watcher.start()
        try:
            pipeline.run()
        finally:
            drain.touch()
            watcher.join()
            beam.job.close_jobs()
        return Counter(counts()) - before

    def _watch(self, drain, meanwhile):
        meanwhile()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and not drain.exists() and not self.done():
            time.sleep(0.05)
        drain.touch()

    def done(self):
        return all(
            self.log.committed(GROUP, topic).get(partition, 0) >= self.log.high_watermark(topic, partition)
            for topic in (Topic.CHANGES, Topic.LATER)
            for partition in range(self.log.partitions)
        )

    def updates(self):
        records = [each for n in range(self.log.partitions) for each in self.log.read(Topic.UPDATES, n, 0, 10_000)]
        decoded = [(each, VectorUpdate.decode(each.value)) for each in records]
        return [(each, update) for each, update in decoded if update.state is not None]

    def latest(self):
        return {update.state.item_id: update for _, update in self.updates()}

    def refused(self):
        records = [each for n in range(self.log.partitions) for each in self.log.read(Topic.REFUSED, n, 0, 10_000)]
        decoded = [RefusedChange.decode(each.value) for each in records]
        return {(change.item_id, str(change.reason)) for change in decoded}


@pytest.fixture
def home(tmp_path, encoder, monkeypatch):
    yield Home(tmp_path / "home", encoder, monkeypatch)
    beam.job.close_jobs()


def upsert(item_id, version, picture):
    return event("upsert", item_id, version, product=Product(
        item_id=item_id, version=version, title=f"{item_id} {version}", image_path=picture,
    ))  # fmt: skip


def event(kind, item_id, version, product=None, **columns):
    return CatalogueEvent(
        kind=kind, item_id=item_id, version=version, event_time=NOON, source="shop", product=product, columns=columns
    )


def live_row(item_id, version, digest):
    return {
        "item_id": item_id, "version": version, "title": "old", "image_path": "x", "content_hash": digest,
        "width": 1, "height": 1, "price": 5.0, "source": "night",
    }  # fmt: skip


def test_every_kind_of_change_ends_as_it_should(home):
    home.go_live([live_row("old", 10, "f" * 64), live_row("gone", 10, "e" * 64)])
    home.send(
        upsert("new", 1, home.picture("red.png", "red")),
        event("attributes", "new", 2, price=2.5, stock=3),
        event("attributes", "new", 2, price=2.5, stock=3),
        event("attributes", "new", 1, price=1.0),
        event("attributes", "old", 11, price=6.0),
        event("delete", "gone", 12),
        event("restore", "gone", 13),
        event("delete", "old", 14),
        event("attributes", "nobody", 1, price=1.0),
        event("attributes", "soon", 9, price=9.0),
        upsert("soon", 8, home.picture("blue.png", "blue")),
        upsert("lost", 1, "nowhere.png"),
        event("delete", "ghost", 3),
    )
    counted = home.run()
    latest = home.latest()
    new = latest["new"]
    picture = np.asarray(Image.open(home.settings.pictures_root / "red.png").convert("RGB"))
    expected = home.encoder.encode_pictures([picture])[0]
    np.testing.assert_allclose(new.vectors[home.encoder.space.fingerprint], expected, atol=1e-5)
    assert (new.state.columns["price"], new.state.columns["stock"], new.state.version) == (2.5, 3, 2)
    old = latest["old"]
    assert (old.state.deleted, old.state.columns["price"], old.state.columns["title"]) == (True, 6.0, "old")
    assert old.vectors == {} and old.state.content_hash == "f" * 64
    assert not latest["gone"].state.deleted
    assert (latest["soon"].state.columns["price"], latest["soon"].state.base_version) == (9.0, 8)
    assert latest["ghost"].state.deleted and not latest["ghost"].state.described
    assert home.refused() == {("nobody", "unknown_item"), ("lost", "picture_missing"), ("new", "version_behind")}
    assert (counted["read"], counted["repeated"], counted["vectors_embedded"]) == (13, 1, 2)
    assert counted["published_upsert"] == 2 and counted["refused_unknown_item"] == 1


def test_a_known_picture_is_not_encoded_again(home):
    space, one = home.encoder.space.fingerprint, home.picture("one.png", "orange")
    table = home.picture("table.png", "purple")
    digest = _digest(home, table)
    vector = np.full(home.encoder.space.dim, 1 / np.sqrt(home.encoder.space.dim), np.float32)
    DeltaTables(home.settings.tables_root).append(EMBEDDINGS, pa.Table.from_pylist([{
        "item_id": "z", "space": space, "content_hash": digest, "item_version": 1, "encoder_version": "1",
        "vector": vector.tolist(), "l2_norm": 1.0,
    }], schema=EMBEDDINGS.schema))  # fmt: skip
    home.go_live([live_row("live", 1, _digest(home, home.picture("live.png", "white")))])
    home.send(upsert("a", 1, one))
    assert home.run()["vectors_embedded"] == 1
    home.send(upsert("a", 2, one), upsert("b", 1, one), upsert("c", 1, table), upsert("live", 2, "live.png"))
    counted = home.run()
    assert (counted["vectors_embedded"], counted["vectors_reused"]) == (0, 4)
    latest = home.latest()
    np.testing.assert_array_equal(latest["b"].vectors[space], latest["a"].vectors[space])
    np.testing.assert_array_equal(latest["c"].vectors[space], vector)
    assert latest["live"].vectors == {} and latest["live"].state.base_version == 2


def test_a_poison_picture_costs_only_itself(home):
    home.aliases.incoming = "other"
    good = [upsert(f"good-{n}", 1, home.picture(f"{n}.png", (n, 2 * n, 30))) for n in range(50)]
    (home.settings.pictures_root / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"rubbish" * 50)
    bomb = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(bomb, "PNG")
    (home.settings.pictures_root / "bomb.png").write_bytes(bomb.getvalue())
    bad = [upsert("broken", 1, "broken.png"), upsert("bomb", 1, "bomb.png")]
    bad.append(upsert("green", 1, home.picture("green.png", (0, 255, 0))))  # the second encoder fails on it
    bad.append(upsert("private", 1, "http://10.1.2.3/x.png"))
    home.send(*good[:25], *bad, *good[25:])
    home.run()
    assert home.refused() == {
        ("broken", "picture_unreadable"), ("bomb", "picture_too_many_pixels"), ("green", "picture_unreadable"),
        ("private", "picture_forbidden_address"),
    }  # fmt: skip
    latest = home.latest()
    assert set(latest) == {each.item_id for each in good}
    assert all(len(update.vectors) == 2 for update in latest.values())


def test_an_encoder_announced_meanwhile_is_used_without_a_restart(home):
    home.send(upsert("before", 1, home.picture("a.png", (9, 8, 7))))

    def announce():
        while "before" not in home.latest():
            time.sleep(0.05)
        home.aliases.incoming = "other"
        time.sleep(1.0)
        home.send(upsert("after", 1, home.picture("b.png", (7, 8, 9))))

    home.run(meanwhile=announce)
    mini, other = home.encoder.space.fingerprint, home.other.space.fingerprint
    latest = home.latest()
    assert set(latest["before"].vectors) == {mini} and set(latest["after"].vectors) == {mini, other}


class _Pictures(BaseHTTPRequestHandler):
    """/slow answers after a while, /never not at all, /down with 503, all else at once."""

    def do_GET(self):
        if self.path.startswith("/slow"):
            time.sleep(1.5)
        if self.path.startswith("/never"):
            time.sleep(30)
        self.send_response(503 if self.path.startswith("/down") else 200)
        self.end_headers()
        image = io.BytesIO()
        Image.new("RGB", (20, 20), (len(self.path) * 7 % 255, 40, 90)).save(image, "PNG")
        self.wfile.write(image.getvalue())

    def log_message(self, *arguments):
        pass


@pytest.fixture
def pictures():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Pictures)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_slow_and_failing_picture_servers_delay_only_their_own(home, pictures):
    fast = [upsert(f"fast-{n}", 1, f"{pictures}/fast{n}.png") for n in range(10)]
    slow = [upsert(f"slow-{n}", 1, f"{pictures}/slow{n}.png") for n in range(3)]
    home.send(*slow, upsert("never", 1, f"{pictures}/never.png"), upsert("down", 1, f"{pictures}/down.png"), *fast)
    home.send(event("delete", "plain", 1))
    home.run()
    came = {update.state.item_id: record.appended_ms for record, update in home.updates()}
    assert set(came) == {*(each.item_id for each in fast), *(each.item_id for each in slow), "plain"}
    first_slow = min(at for item_id, at in came.items() if item_id.startswith("slow"))
    assert all(at < first_slow for item_id, at in came.items() if not item_id.startswith("slow"))
    assert home.refused() == {("never", "picture_unavailable"), ("down", "picture_unavailable")}


class Killed(Exception):
    """The process dies here."""


@pytest.mark.parametrize("step", [Topic.LATER, Topic.REFUSED, Topic.UPDATES, "commit"])
def test_killed_in_the_stream_and_started_again_all_is_as_undisturbed(step, tmp_path, encoder, monkeypatch):
    outcomes = []
    for name in ("whole", "broken"):
        home = Home(tmp_path / name, encoder, monkeypatch)
        home.send(
            *(upsert(f"i{n}", 1, home.picture(f"{n}.png", (n * 9, 5, 5))) for n in range(12)),
            event("attributes", "i3", 2, price=3.0), event("attributes", "nobody", 2, price=3.0),
            upsert("i5", 9, "nowhere.png"), event("delete", "i7", 5), event("attributes", "i7", 4, stock=1),
        )  # fmt: skip
        if name == "broken":
            with pytest.raises(Exception, match="dies before"):
                _run_and_die(home, step, monkeypatch)
        home.run()
        latest = home.latest()
        outcomes.append((
            {item_id: (update.state.to_json(), set(update.vectors)) for item_id, update in latest.items()},
            home.refused(), sorted(update.origin for _, update in home.updates()),
        ))  # fmt: skip
    assert outcomes[0] == outcomes[1]


def _run_and_die(home, step, monkeypatch):
    from beam.publish import Publisher

    original = Publisher._write

    def write(self, batch):
        class Dying:
            def __init__(self, log):
                self._log = log

            def __getattr__(self, name):
                return getattr(self._log, name)

            def append(self, topic, messages):
                if topic == step:
                    raise Killed(f"dies before {step}")
                return self._log.append(topic, messages)

            def commit(self, *arguments):
                raise Killed("dies before the commit")

        self._log = Dying(self._log)
        original(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(Publisher, "_write", write)
        home.run()


def _digest(home, name):
    import hashlib

    return hashlib.sha256((home.settings.pictures_root / name).read_bytes()).hexdigest()
