"""Which engines are compared, in which configuration, and the packages of each: one environment per package set.

Versions are the newest stable ones that work with Python 3.11 and with each other: `milvus` is the last release of the
server that runs without containers, and autofaiss calls faiss in a way that newer ones than 1.12 refuse. The project's
own engine runs in the environment that runs the bench.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    "faiss": ("faiss-cpu==1.15.1", "numpy==2.4.6"),
    "hnswlib": ("hnswlib==0.8.0", "numpy==2.4.6"),
    "usearch": ("usearch==2.26.6", "numpy==2.4.6"),
    "scann": ("scann==1.4.2", "numpy==2.4.6"),
    "autofaiss": ("autofaiss==2.18.0", "faiss-cpu==1.12.0", "numpy==1.26.4", "pyarrow==21.0.0"),
    "lancedb": ("lancedb==0.40.0", "numpy==2.4.6"),
    "milvus": ("milvus==2.3.5", "pymilvus==2.3.7", "setuptools<81", "marshmallow<4", "numpy==1.26.4"),
}
OURS = "lookalike"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Needs:
    """Bytes that a vector takes: for each dimension of it, and beside."""

    each_dimension: float
    beside: float

    def of(self, rows: int, dim: int) -> float:
        """Bytes of all vectors."""
        return rows * (self.each_dimension * dim + self.beside)


@dataclass(frozen=True)
class Engine:
    """`adapter`: module:class below adapters/; `options`: what its configuration sets beyond the engine's defaults;
    `memory`, while it builds, and `disk`, when it is built: what it is known to need at least; `takes` generated
    vectors this way; `most_rows` are built within some hours on two cores."""

    environment: str
    adapter: str
    memory: Needs
    disk: Needs
    options: dict[str, Any] = field(default_factory=dict)
    takes: Literal["pipe", "file", "generator"] = "pipe"
    most_rows: int = 10**9

    def lacks(self, rows: int, dim: int, memory_bytes: float, disk_bytes: float) -> str:
        """Why it cannot be built within these bytes; empty where nothing is known against it."""
        if rows > self.most_rows:
            return f"does not fit: of {rows:,} vectors its build takes most of a day; {self.most_rows:,} are its most"
        for what, needs, there in (("memory", self.memory, memory_bytes), ("disk", self.disk, disk_bytes)):
            least = needs.of(rows, dim)
            if least > there:
                gibibytes = f"at least {least / 2**30:.1f} GiB of {what}"
                return f"does not fit: {rows:,} vectors take {gibibytes}, and {there / 2**30:.1f} may be used"
        return ""


def _ours(recipe: str, memory: Needs, disk: Needs) -> Engine:
    return Engine(OURS, "lookalike_index:LookalikeIndex", memory, disk, {"recipe": recipe}, "generator")


def _faiss(factory: str, ef_construction: int, size: Needs) -> Engine:
    options = {"factory": factory, "ef_construction": ef_construction}
    return Engine("faiss", "faiss_graph:FaissGraph", size, size, options)


def _hnswlib(links: int, size: Needs) -> Engine:
    options = {"M": links, "ef_construction": 200}
    return Engine("hnswlib", "hnswlib_graph:HnswlibGraph", size, size, options)


def _usearch(size: Needs, **options: Any) -> Engine:
    return Engine("usearch", "usearch_graph:UsearchGraph", size, size, options)


def _scann(disk: Needs, **options: Any) -> Engine:
    return Engine("scann", "scann_tree:ScannTree", Needs(4, 140), disk, options, "file")


def _autofaiss(size: Needs, **options: Any) -> Engine:
    # From ten million on it trains 65,536 lists of 768 dimensions, on 100 vectors each, comparing all with all.
    return Engine("autofaiss", "autofaiss_choice:AutofaissChoice", size, size, options, "file", 9_999_999)


def _lancedb(index_type: str, disk: Needs) -> Engine:
    return Engine("lancedb", "lancedb_table:LancedbTable", Needs(0, 100), disk, {"index_type": index_type})


def _milvus(index_type: str, memory: Needs) -> Engine:
    disk = Needs(12, 0)  # its log, what it stored of it, and that once more when it compacts
    return Engine("milvus", "milvus_server:MilvusServer", memory, disk, {"index_type": index_type})


FLAT_32, FLAT_16 = Needs(4, 272), Needs(4, 144)
ENGINES: dict[str, Engine] = {
    "lookalike": _ours("ivf_pq", Needs(0, 100), Needs(0.5, 150)),
    "lookalike-hnsw": _ours("hnsw", FLAT_32, Needs(8, 272)),
    "faiss-hnsw": _faiss("HNSW32,Flat", 40, FLAT_32),
    "faiss-hnsw-200": _faiss("HNSW32,Flat", 200, FLAT_32),
    "faiss-hnsw-sq8": _faiss("HNSW32,SQ8", 40, Needs(1, 272)),
    "hnswlib-16": _hnswlib(16, FLAT_16),
    "hnswlib-32": _hnswlib(32, FLAT_32),
    "usearch": _usearch(Needs(2, 140)),
    "usearch-f32": _usearch(FLAT_32, dtype="f32", connectivity=32),
    "usearch-i8": _usearch(Needs(1, 140), dtype="i8"),
    "scann": _scann(Needs(4, 140)),
    "scann-soar": _scann(Needs(4, 280), soar_lambda=1.5, overretrieve_factor=2.0),
    "scann-int8": _scann(Needs(1, 140), reorder="INT8"),
    "autofaiss": _autofaiss(Needs(0, 0)),
    "autofaiss-600": _autofaiss(Needs(0, 600), bytes_per_vector=600),
    "autofaiss-100": _autofaiss(Needs(0, 100), bytes_per_vector=100),
    "lancedb-pq": _lancedb("IVF_PQ", Needs(4, 40)),
    "lancedb-hnsw-sq": _lancedb("IVF_HNSW_SQ", Needs(5, 200)),
    "lancedb-rq": _lancedb("IVF_RQ", Needs(4, 80)),
    "milvus-hnsw": _milvus("HNSW", Needs(4, 140)),
    "milvus-ivf-sq8": _milvus("IVF_SQ8", Needs(1, 8)),
    "milvus-scann": _milvus("SCANN", Needs(4, 140)),
}


def named(names: list[str]) -> list[str]:
    """Engines by name, or by the beginning of it ("milvus": all of Milvus); all for none. Raises SystemExit."""
    chosen: list[str] = []
    for name in names or list(ENGINES):
        found = [name] if name in ENGINES else [each for each in ENGINES if each.startswith(f"{name}-")]
        if not found:
            raise SystemExit(f"engine {name!r} is not known; known are: {', '.join(ENGINES)}")
        chosen += found
    return list(dict.fromkeys(chosen))


def python_of(environment: str, folder: Path) -> Path:
    """The interpreter of an environment, which is made below `folder` when it is not there yet or has other pins."""
    if environment == OURS:
        return Path(sys.executable)
    home, pins = folder / environment, ENVIRONMENTS[environment]
    marker = home / "pins.txt"
    python = home / "bin" / "python"
    if not (marker.is_file() and marker.read_text().split("\n") == list(pins)):
        shutil.rmtree(home, ignore_errors=True)
        uv = str(ROOT / ".tools" / "bin" / "uv") if (ROOT / ".tools" / "bin" / "uv").exists() else "uv"
        environ = os.environ | {"UV_PYTHON_DOWNLOADS": "never"}
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(home)], check=True, env=environ)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), *pins], check=True, env=environ)
        marker.write_text("\n".join(pins))
    return python
