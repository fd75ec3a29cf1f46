"""The steps as commands over real tables and a real registry: killed anywhere and run again, one release comes out."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from lookalike.contracts.errors import CorruptArtifact, LookalikeError, MissingPrerequisite
from lookalike.contracts.manifest import Manifest
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import IndexSettings, Settings
from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.line.build import build
from lookalike.line.build_shards import encode, encode_all
from lookalike.line.build_steps import merge, pin, train
from lookalike.line.maintenance import pins
from lookalike.line.pins import under_way
from lookalike.releases.registry import Registry
from lookalike.releases.release import Action, Alias
from lookalike.storage.delta import DeltaTables
from models.encoders import encoder_directory, open_encoder

pytestmark = pytest.mark.slow

ITEMS, SHARD_ITEMS = 4_400, 900
SCRIPT = str(Path(sys.executable).with_name("lookalike"))
# A process that dies where it is told to, as by SIGKILL: after the work, before it is written down.
DYING = """
import os, signal, sys
from importlib import import_module
module, name = sys.argv[1].split(":")
owner = import_module(module)
*path, last = name.split(".")
for part in path:
    owner = getattr(owner, part)
setattr(owner, last, lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL))
sys.argv = ["lookalike", *sys.argv[2:]]
from lookalike.cli.main import main
main()
"""


def clustered(count: int, seed: int, dim: int) -> np.ndarray:
    centres = np.random.default_rng(9).normal(size=(200, dim))
    random = np.random.default_rng(seed)
    vectors = centres[random.integers(0, 200, count)] + 0.6 * random.normal(size=(count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def add(home: Path, vectors: np.ndarray, name: str) -> None:
    """Items with these vectors, in the packaged encoder's space."""
    tables, space = DeltaTables(Settings(home=home).tables_root), open_encoder("lookalike-mini", "cpu", 1).space
    count, dim = vectors.shape
    ids = [f"{name}-{at:05d}" for at in np.random.default_rng(1).permutation(count)]
    hashes = [hashlib.sha256(item_id.encode()).hexdigest() for item_id in ids]
    constant = {"version": 1, "title": "t", "image_path": "x.png", "width": 1, "height": 1, "source": "s",
                "snapshot_id": "1", "deleted": False, "shard": 0}  # fmt: skip
    silver = {column: [constant.get(column)] * count for column in SILVER.schema.names}
    silver |= {"item_id": ids, "content_hash": hashes, "brand": [["a", None, "c"][at % 3] for at in range(count)]}
    tables.append(SILVER, pa.table(silver, schema=SILVER.schema))
    flat = pa.ListArray.from_arrays(pa.array(np.arange(0, count * dim + 1, dim, dtype=np.int32)), vectors.ravel())
    columns = {"item_id": ids, "space": [space.fingerprint] * count, "content_hash": hashes,
               "item_version": [1] * count, "encoder_version": ["1"] * count, "vector": flat,
               "l2_norm": [1.0] * count}  # fmt: skip
    tables.append(EMBEDDINGS, pa.table(columns, schema=EMBEDDINGS.schema))


@pytest.fixture
def home(tmp_path) -> Path:
    add(tmp_path / "home", clustered(ITEMS, 0, 256), "item")
    return tmp_path / "home"


def settings_of(home: Path, shard_items: int = SHARD_ITEMS, **index: object) -> Settings:
    return Settings(home=home, index=IndexSettings(recipe="ivf_pq", shard_items=shard_items, **index))


def words(home: Path, *verb: str) -> list[str]:
    return ["--home", str(home), "--json", "--set", "index.recipe=ivf_pq",
            "--set", f"index.shard_items={SHARD_ITEMS}", *verb]  # fmt: skip


def start(home: Path, *verb: str) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([SCRIPT, *words(home, *verb)], env=environment, stdout=subprocess.PIPE, text=True)


def run(home: Path, *verb: str, code: int = 0) -> dict:
    process = start(home, *verb)
    said = process.communicate(timeout=300)[0]
    assert process.returncode == code, said
    return json.loads(said) if said else {}


def die(home: Path, place: str, *verb: str) -> None:
    done = subprocess.run([sys.executable, "-c", DYING, place, *words(home, *verb)], timeout=300, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def digests(manifest: Manifest) -> dict[str, str]:
    return {name: file.sha256 for name, file in manifest.files.items()}


def test_killed_at_every_step_one_release_comes_out_with_the_bytes_of_an_unhindered_build(home, tmp_path):
    other = tmp_path / "other"
    add(other, clustered(ITEMS, 0, 256), "item")
    expected = Manifest.read(build(settings_of(other, shard_items=ITEMS), LogProgress()).directory)

    die(home, "lookalike.line.build_steps:write_pin", "index", "pin")
    assert under_way(Settings(home=home)) == []
    pinned = run(home, "index", "pin")
    one, settings = pinned["build"], settings_of(home)
    again = pin(settings)
    assert (again.build, again.resumed, again.reused) == (one, True, False)
    assert pinned["shards"] == list(range(5)) and not pinned["reused"]
    kept = {(each.table, each.version, each.by) for each in pins(Settings(home=home), Registry(Settings(home=home)))}
    assert kept == {(name, version, f"build {one}") for name, version in pinned["table_versions"].items()}

    die(home, "index_builder.train:write_facts", "index", "train", "--build", one)
    with pytest.raises(MissingPrerequisite, match="is not trained yet"):
        encode(settings, LogProgress(), one, 0)
    assert train(settings, LogProgress(), one).quantiser == "trained"

    die(home, "index_builder.shard:write_facts", "index", "encode", "3", "--build", one)
    with pytest.raises(MissingPrerequisite, match="5 of 5 shards are not encoded"):
        merge(settings, LogProgress(), one)
    encoded = [encode(settings, LogProgress(), one, shard) for shard in (4, 0)]
    assert all(each.encoded for each in encoded)
    together = [start(home, "index", "encode", str(shard), "--build", one) for shard in (3, 2, 1, 3)]
    answers = [json.loads(process.communicate(timeout=300)[0]) for process in together]
    assert sum(answer["encoded"] for answer in answers) == 3  # the second to come finds it done
    done = sum(each.items for each in encoded) + sum(answer["items"] for answer in answers if answer["encoded"])
    assert done == ITEMS
    assert not list((home / "builds").glob("**/.tmp-*"))

    die(home, "index_builder.merge:_link", "index", "merge", "--build", one)  # the shards have no finer codes any more
    die(home, "index_builder.merge:tune", "index", "merge", "--build", one)
    assert not list((home / "releases").glob("[!.]*"))
    die(home, "lookalike.releases.registry:Registry.register", "index", "merge", "--build", one)
    sealed = list((home / "releases").glob("[!.]*"))
    assert len(sealed) == 1
    die(home, "lookalike.line.build_steps:discard", "index", "merge", "--build", one)
    assert under_way(Settings(home=home)) == [one]

    merged = run(home, "index", "merge", "--build", one)
    second = merge(settings, LogProgress(), one)
    assert (merged["version"], second.version, second.reused) == ("1", "1", True)
    assert list((home / "builds").iterdir()) == []
    assert list((home / "releases").iterdir()) == sealed
    assert digests(Manifest.read(sealed[0])) == digests(expected)

    registry = Registry(Settings(home=home))
    assert [release.version for release in registry.releases()] == ["1"]
    assert [entry.action for entry in registry.history()] == [Action.REGISTERED]
    assert train(settings, LogProgress(), one).quantiser == "trained"  # nothing to do, and no error
    assert not encode(settings, LogProgress(), one, 0).encoded
    last = pin(settings)
    assert (last.build, last.reused, last.version, last.shards) == (one, True, "1", (0,))
    assert list((home / "builds").iterdir()) == []


def test_a_shard_killed_in_the_middle_starts_over(home):
    settings = settings_of(home)
    one = pin(settings).build
    train(settings, LogProgress(), one)
    shards = home / "builds" / one / "shards"
    process = start(home, "index", "encode", "2", "--build", one)
    deadline = time.monotonic() + 120
    while not list(shards.glob(".tmp-00002-*/vectors.scratch")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.communicate()
    left = list(shards.glob(".tmp-*"))
    answer = encode(settings, LogProgress(), one, 2)
    assert answer.encoded is (len(left) == 1)  # it may have been done before the kill came
    assert [path.name for path in shards.iterdir()] == ["00002"]


def test_wrong_words_are_answered_with_what_there_is(home):
    settings = settings_of(home)
    one = pin(settings).build
    train(settings, LogProgress(), one)
    for wrong, said in (
        (lambda: merge(settings, LogProgress(), "0" * 16), f"there is no build {'0' * 16}; under way: {one}"),
        (lambda: train(settings, LogProgress(), "../../etc"), "is no id of a build (16 hex digits)"),
        (lambda: encode(settings, LogProgress(), one, 5), f"build {one} has no shard 5; it has 0 to 4"),
        (lambda: merge(settings, LogProgress(), one), "5 of 5 shards are not encoded: 0, 1, 2, 3, 4"),
    ):
        with pytest.raises(LookalikeError) as caught:
            wrong()
        assert said in str(caught.value)
    run(home, "index", "encode", "5", "--build", one, code=2)
    path = home / "builds" / one / "pin.json"
    path.write_text(path.read_text().replace('"silver": ', '"silver": 1'))
    with pytest.raises(CorruptArtifact, match="Remove the folder and pin again"):
        train(settings, LogProgress(), one)


def test_lists_of_live_serve_again_until_vectors_drift(home):
    settings, registry = settings_of(home), Registry(Settings(home=home))
    first = build(settings, LogProgress())
    assert first.quantiser == "trained"
    registry._set_alias(Alias.LIVE, first.version)
    again = build(settings, LogProgress())
    assert (again.version, again.reused, again.build) == (first.version, True, first.build)
    before = DeltaTables(settings.tables_root).version(SILVER.name)
    silver = DeltaTable(f"{settings.tables_root}/{SILVER.name}")
    silver.alter.set_table_properties({"delta.logRetentionDuration": "interval 60 days"})
    assert DeltaTables(settings.tables_root).version(SILVER.name) == before + 1
    tended = build(settings, LogProgress())
    assert (tended.version, tended.reused) == (first.version, True), "upkeep alone is no reason to build"

    add(home, clustered(200, 1, 256), "alike")
    second = build(settings, LogProgress())
    assert (second.version, second.quantiser) == ("2", "reused from version 1")
    registry._set_alias(Alias.LIVE, second.version)
    assert build(settings, LogProgress()).version == "2"

    strangers = np.random.default_rng(3).normal(size=(1_500, 256))
    add(home, (strangers / np.linalg.norm(strangers, axis=1, keepdims=True)).astype(np.float32), "stranger")
    third = build(settings, LogProgress())
    assert (third.version, third.quantiser) == ("3", "trained")
    figures = Manifest.read(third.directory).build["quantiser"]
    assert "version 2: mean distance +" in figures["because"]
    assert registry.alias(Alias.CANDIDATE).version == "3"


def test_an_encoder_that_is_named_is_indexed_and_registered(home, tmp_path):
    """Vectors of a second space lie beside the first one's; the build of that space sees its own only."""
    folder = tmp_path / "encoder"
    shutil.copytree(encoder_directory("lookalike-mini"), folder)
    description = folder / "encoder.json"
    description.write_text(description.read_text().replace('"name": "lookalike-mini"', '"name": "lookalike-other"'))
    settings = settings_of(home)
    other = open_encoder(str(folder), "cpu", 1).space
    tables = DeltaTables(settings.tables_root)
    rows = tables.read(EMBEDDINGS)
    moved = rows.slice(0, 1_500).set_column(1, EMBEDDINGS.schema.field("space"), pa.array([other.fingerprint] * 1_500))
    tables.append(EMBEDDINGS, moved.cast(EMBEDDINGS.schema))
    exact = Settings(home=home, index=IndexSettings(recipe="exact", shard_items=700))
    report = build(exact, LogProgress(), encoder=str(folder))
    assert (report.items, Manifest.read(report.directory).space) == (1_500, other)
    release = Registry(settings).release(report.version)
    assert open_encoder(str(release.encoder_dir), "cpu", 1).space == other
    assert pin(exact).reused is False


def test_a_build_in_two_processes_that_is_killed_goes_on_from_its_shards(home, tmp_path):
    other = tmp_path / "other"
    add(other, clustered(ITEMS, 0, 256), "item")
    expected = Manifest.read(build(settings_of(other, shard_items=ITEMS), LogProgress()).directory)
    process = start(home, "--set", "index.processes=2", "build")
    deadline = time.monotonic() + 240
    while not (done := list(home.glob("builds/*/shards/[0-9]*"))) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    sizes = [shard / "sizes.npy" for shard in done]  # the merge takes codes out of the folders
    kept = {path: path.stat().st_mtime_ns for path in sizes}
    assert kept and len(list(home.glob("builds/*/shards/[0-9]*"))) < 5
    again = start(home, "--set", "index.processes=2", "build")
    while again.poll() is None and time.monotonic() < deadline + 240:
        there = {path: path.stat().st_mtime_ns for path in kept if path.exists()}
        assert there.items() <= kept.items()  # until the merge clears them away, they are as they were
        time.sleep(0.05)
    assert again.returncode == 0
    report = json.loads(again.communicate()[0])
    assert digests(Manifest.read(Path(report["directory"]))) == digests(expected)
    assert Manifest.read(Path(report["directory"])).build["shards"] == 5


def test_all_shards_that_are_missing_are_encoded_at_once(home):
    settings = settings_of(home, processes=2)
    one = pin(settings).build
    train(settings, LogProgress(), one)
    encode(settings, LogProgress(), one, 3)
    assert run(home, "index", "encode", "--all", "--build", one) == {"build": one, "encoded": 4}
    assert encode_all(settings, LogProgress(), one) == 0
    run(home, "index", "encode", "--build", one, code=2)
    assert merge(settings, LogProgress(), one).items == ITEMS
