"""A build stays under its cap as the system measures it, and a cap that is too low stops it with the setting's name."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lookalike.contracts.manifest import Manifest
from lookalike.contracts.settings import Settings
from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.storage.delta import DeltaTables

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="measured as Linux does")]

DIM, ITEMS, FILES = 128, 200_000, 8
MIB = 2**20
BUILD = """
import json, sys
from pathlib import Path
from index_builder.build import build
from index_builder.delta_source import DeltaSource
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import IndexSettings, Settings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.storage.delta import DeltaTables

if __name__ == "__main__":
    home, target, index = sys.argv[1:]
    space = EmbeddingSpace(encoder="t", weights_sha256="a" * 64, preprocessing_sha256="b" * 64,
                           tokenizer_sha256="c" * 64, dim=%d)
    settings = Settings(home=Path(home), index=IndexSettings(recipe="ivf_pq", **json.loads(index)))
    source = DeltaSource.newest(DeltaTables(settings.tables_root), space)
    try:
        build(settings, source, Path(target), LogProgress())
    except LookalikeError as error:
        sys.exit(str(error))
"""


ENCODE = """
import sys
from pathlib import Path
import numpy as np
import pyarrow as pa
from index_builder.memory import peak_memory
from index_builder.pin import make_pin
from index_builder.shard import encode
from index_builder.source import Block, Coverage, Sample, Shard
from index_builder.train import train
from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import IndexSettings, Settings
from lookalike.contracts.space import EmbeddingSpace

class Numbered:
    versions = {"numbers": 1}
    space = EmbeddingSpace(encoder="t", weights_sha256="a" * 64, preprocessing_sha256="b" * 64,
                           tokenizer_sha256="c" * 64, dim=128)
    def vectors(self, seed, count=10_000):
        found = np.random.default_rng(seed).normal(size=(count, 128)).astype(np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)
    def count(self): return 20_000  # a few lists are enough
    def item_bytes(self): return 0.0
    def shards(self, items): return (Shard(number=0, start=None, stop=None),)
    def sample(self, wanted, scratch, progress):
        return Sample(self.vectors(0, wanted), pa.chunked_array([["t"] * wanted]))
    def blocks(self, shard, scratch, progress):
        for start in range(0, int(sys.argv[2]), 10_000):
            ids = [f"{start + at:08d}" for at in range(10_000)]
            counted = Coverage(silver_items=10_000, indexed=10_000)
            yield Block(pa.table({"item_id": ids}), self.vectors(start + 1), counted)

work, source = Path(sys.argv[1]), Numbered()
pin = make_pin(Settings(home=work, index=IndexSettings(recipe="ivf_pq")), source)
train(work, pin, source, LogProgress())
encode(work, pin, 0, source, LogProgress())
print(peak_memory())
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Items in random order, so that each shard's vectors are spread over all files."""
    from lookalike.contracts.space import EmbeddingSpace

    space = EmbeddingSpace(
        encoder="t", weights_sha256="a" * 64, preprocessing_sha256="b" * 64, tokenizer_sha256="c" * 64, dim=DIM
    )
    home = tmp_path_factory.mktemp("home")
    tables, random = DeltaTables(Settings(home=home).tables_root), np.random.default_rng(0)
    for part in np.array_split(random.permutation(ITEMS), FILES):
        ids = [f"item-{at:08d}" for at in part]
        same = {"version": 1, "title": "a title of some words", "image_path": "ab/x.png", "width": 1, "height": 1,
                "source": "s", "snapshot_id": "1", "deleted": False, "shard": 0, "content_hash": "0" * 64}  # fmt: skip
        rows = {name: [same.get(name)] * len(ids) for name in SILVER.schema.names} | {"item_id": ids}
        tables.append(SILVER, pa.table(rows, schema=SILVER.schema))
        vectors = random.normal(size=(len(ids), DIM)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        offsets = pa.array(np.arange(0, vectors.size + 1, DIM, dtype=np.int32))
        lists = pa.ListArray.from_arrays(offsets, vectors.ravel())
        columns = {"item_id": ids, "space": [space.fingerprint] * len(ids), "content_hash": ["0" * 64] * len(ids),
                   "item_version": [1] * len(ids), "encoder_version": ["1"] * len(ids),
                   "vector": lists, "l2_norm": [1.0] * len(ids)}  # fmt: skip
        tables.append(EMBEDDINGS, pa.table(columns, schema=EMBEDDINGS.schema))
    return home


def start(home: Path, folder: Path, **index: int) -> subprocess.Popen:
    script = folder / "build.py"
    script.write_text(BUILD % DIM)
    environment = os.environ | {"OMP_NUM_THREADS": "2", "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, str(script), str(home), str(folder / "index"), json.dumps(index)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def memory_of(pid: int) -> int:
    """Of a process and all that it started, now."""
    total, waiting = 0, [pid]
    while waiting:
        each = Path(f"/proc/{waiting.pop()}")
        try:
            found = re.search(r"VmRSS:\s+(\d+)", (each / "status").read_text())
            total += int(found[1]) * 1024 if found else 0
            waiting += [int(child) for task in each.glob("task/*") for child in (task / "children").read_text().split()]
        except OSError:  # it has just ended
            continue
    return total


def watched(process: subprocess.Popen) -> int:
    """Most memory of the process and its children at a time, looked at now and then."""
    most = 0
    while process.poll() is None:
        most = max(most, memory_of(process.pid))
        time.sleep(0.05)
    return most


def test_a_build_in_two_processes_holds_its_cap(home, tmp_path):
    cap = 2_400 * MIB
    process = start(home, tmp_path, build_memory_bytes=cap, processes=2)
    most = watched(process)
    assert process.returncode == 0, process.communicate()[1]
    manifest = Manifest.read(tmp_path / "index")
    assert manifest.items == ITEMS and manifest.build["shards"] >= 2
    assert most <= cap and manifest.build["peak_memory_bytes"] <= cap
    assert manifest.build["peak_memory_bytes"] > most / 3  # it is a figure of this build


def test_a_shard_is_never_whole_in_memory(tmp_path):
    """Twice as many vectors, of 102 MB, take hardly more: their codes are 4.8 MB."""
    script = tmp_path / "encode.py"
    script.write_text(ENCODE)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    peaks = []
    for items in (ITEMS, 2 * ITEMS):
        done = subprocess.run(
            [sys.executable, str(script), str(tmp_path / str(items)), str(items)], env=environment, capture_output=True
        )
        assert done.returncode == 0, done.stderr.decode()
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 50 * MIB


def test_a_cap_that_is_too_low_names_what_would_do(home, tmp_path):
    process = start(home, tmp_path, build_memory_bytes=300 * MIB)
    told = process.communicate()[1]
    assert process.returncode == 1
    assert "index.build_memory_bytes is 314,572,800" in told and "takes at least" in told
