"""Vectors for live items, once per picture: what is new, copied, left and refused; and a kill in the middle."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lookalike.contracts.errors import SpaceMismatch
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.tables import EMBEDDINGS, REFUSED, SILVER
from spark import embed as job
from spark.ingest import ingest

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
NOON = "2026-01-01T12:00:00+00:00"
LATER = "2026-01-02T12:00:00+00:00"
ITEMS, PICTURES, CHUNK = 60, 50, 15
KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import load_settings
from spark.embed import embed
from spark.session import start
from tiny_encoder import open_tiny
settings = load_settings(
    home=Path(sys.argv[1]), spark={"master": "local[2]"}, tables={"root": sys.argv[2]},
    embed={"chunk_items": int(sys.argv[4]), "batch_size": 4},
)
embed(start(settings), settings, LogProgress(), open_tiny)
"""


@pytest.fixture(scope="module")
def ingested(spark_session, tmp_path_factory, row, home_class):
    """60 items that show 50 different pictures, ingested once; tests copy the folder."""
    home = home_class(tmp_path_factory.mktemp("ingested") / "home")
    names = [home.picture(i) for i in range(PICTURES)]
    rows = [row(i, names[i % PICTURES]) for i in range(ITEMS)]
    ingest(spark_session, home.settings, home.snapshot("first", rows, NOON), LogProgress())
    return home.settings.home


@pytest.fixture
def tiny(spark_session):
    import tiny_encoder

    return tiny_encoder


def run(session, home, tiny):
    return job.embed(session, home.settings, LogProgress(), tiny.open_tiny)


def vectors(home):
    return home.tables.read(EMBEDDINGS, order_by="item_id, space")


def test_each_picture_is_embedded_once_and_only_changes_afterwards(spark_session, make_home, ingested, row, tiny):
    home = make_home(copy_of=ingested, embed={"chunk_items": CHUNK, "batch_size": 4})
    encoder = tiny.TinyEncoder()
    assert job.pending(home.settings, encoder.space) == ITEMS
    report = run(spark_session, home, tiny)
    assert (report.embedded, report.pictures, report.reused, report.unchanged) == (ITEMS, PICTURES, 0, 0)
    assert job.pending(home.settings, encoder.space) == 0
    stored = vectors(home).to_pylist()
    assert len(stored) == ITEMS
    for each in stored:
        name = f"{int(each['item_id'][1:]) % PICTURES}.png"
        pixels = np.asarray(Image.open(home.settings.pictures_root / name).convert("RGB"))
        np.testing.assert_allclose(each["vector"], encoder.encode_pictures([pixels])[0], atol=1e-6)
        assert each["content_hash"] == home.sha256(name)
        assert each["space"] == encoder.space.fingerprint
        assert abs(each["l2_norm"] - 1) < 1e-5

    before = home.versions()
    assert run(spark_session, home, tiny).embedded == 0
    assert home.versions() == before

    (home.settings.pictures_root / "gone.png").write_bytes(
        (home.settings.pictures_root / home.picture(77)).read_bytes()
    )
    changed = [
        row(0, home.picture(70), version="2"),  # a new picture
        row(1, "2.png", version="2"),  # a picture that other items have
        row(2, "2.png", version="2", title="only the title"),
        row(90, "3.png"),  # a new item with a known picture
        row(91, "gone.png"),
    ]
    ingest(spark_session, home.settings, home.snapshot("second", changed, LATER), LogProgress())
    (home.settings.pictures_root / "gone.png").unlink()
    assert job.pending(home.settings, encoder.space) == 4
    report = run(spark_session, home, tiny)
    assert (report.embedded, report.reused, report.refused) == (1, 2, 1)
    after = {each["item_id"]: each for each in vectors(home).to_pylist()}
    assert after["i1"]["vector"] == after["i2"]["vector"] == after["i52"]["vector"]
    assert after["i90"]["vector"] == after["i3"]["vector"]
    assert after["i0"]["content_hash"] == home.sha256("70.png")
    assert after["i2"]["item_version"] == 1
    assert "i91" not in after
    refused = home.tables.read(REFUSED).to_pylist()
    assert [(r["snapshot_id"], r["row_number"], r["item_id"], r["reason"]) for r in refused] == [
        ("second", 4, "i91", "picture_missing")
    ]
    assert '"gone.png"' in refused[0]["payload"]
    assert job.pending(home.settings, encoder.space) == 0
    live = home.tables.read(SILVER, ["item_id"], where="NOT deleted")["item_id"].to_pylist()
    assert set(live) - set(after) == {"i91"}
    assert run(spark_session, home, tiny).refused == 1
    assert home.tables.count(REFUSED) == 1


def test_killed_in_the_second_chunk_and_run_again_gives_the_same_table(spark_session, make_home, ingested, tiny):
    undisturbed = make_home("undisturbed", copy_of=ingested, embed={"chunk_items": CHUNK, "batch_size": 4})
    run(spark_session, undisturbed, tiny)
    home = make_home("killed", copy_of=ingested, embed={"chunk_items": CHUNK, "batch_size": 4})
    (home.settings.home / "jars").symlink_to(HERE.parents[2] / ".cache" / "spark-tests" / "jars")
    arguments = [str(home.settings.home), home.settings.tables_root, str(HERE), str(CHUNK)]
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, *arguments],
        start_new_session=True,
        env={**os.environ, "TINY_PAUSE": "0.5", "PYTHONPATH": str(HERE)},
    )
    try:
        while home.tables.version("embeddings") == 0:
            assert process.poll() is None, "the job ended before its first chunk was there"
            time.sleep(0.05)
        time.sleep(0.5)  # into the next chunk: four batches of half a second each
        assert process.poll() is None
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    left = home.tables.count(EMBEDDINGS)
    assert 0 < left < ITEMS
    report = run(spark_session, home, tiny)
    assert report.embedded == ITEMS - left
    assert vectors(home) == vectors(undisturbed)
    assert run(spark_session, home, tiny).embedded == 0


def test_an_encoder_that_computes_something_else_is_refused_before_it_writes(spark_session, make_home, ingested, tiny):
    home = make_home(copy_of=ingested)
    with pytest.raises(SpaceMismatch, match="does not reproduce its probe"):
        job.embed(spark_session, home.settings, LogProgress(), tiny.open_drifted)
    assert home.tables.count(EMBEDDINGS) == 0
