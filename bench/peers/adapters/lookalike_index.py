"""lookalike: its own builder, reading the same vectors, and the search of its server with the parameters named."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from adapters.adapter import Adapter, Items, Rows, Setting, Vectors, doubling

from index_builder.artifact import REFINE_NAME
from index_builder.build import build
from index_builder.reader import open_index
from index_builder.source import Block, Shard
from lookalike.contracts.progress import LogProgress, Progress
from lookalike.contracts.settings import Settings
from lookalike.contracts.space import EmbeddingSpace

sys.path.append(str(Path(__file__).parents[2]))  # behind all packages: the bench's own modules

from mixture import BLOCK_ROWS
from numbered_source import QUERIES_NAME, GeneratedVectors, NumberedSource, Queries

FACTORS = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64)
INDEX = "index"


class LookalikeIndex(Adapter):
    """Options: `recipe`, `item_texts`: a file of the text vector of each item, which search is tuned for as well; of
    generated vectors the generator tells them."""

    held = "omp_set_num_threads(1)"
    reads_files, finer = True, REFINE_NAME

    def build(self, items: Items, folder: Path) -> None:
        """See Adapter."""
        texts = self.options.get("item_texts")
        vectors = GeneratedVectors(Path(items.mixture), items.rows) if items.mixture else FileVectors(items, texts)
        space = EmbeddingSpace(
            encoder=vectors.name, weights_sha256="0" * 64, preprocessing_sha256="0" * 64, tokenizer_sha256="0" * 64,
            dim=items.dim,
        )  # fmt: skip
        no_queries(items.dim).save(folder / QUERIES_NAME)  # the bench finds the truth of its own by itself
        source = TitledSource(vectors, space, folder, whole_rows=False)
        encode = source.encode_texts if texts or items.mixture else None
        settings = Settings(home=folder / "home")
        build(settings, source, folder / INDEX, LogProgress(), self.options["recipe"], encode_texts=encode)

    def open(self, folder: Path) -> None:
        """See Adapter."""
        faiss.omp_set_num_threads(1)
        self._index = open_index(folder / INDEX, verify=False)
        self.chosen = dict(self._index.manifest.search or self._index.manifest.recipe.search)

    def settings(self) -> list[list[Setting]]:
        """See Adapter."""
        lists = self._index.manifest.recipe.nlist
        if lists is None:
            return [[{"efSearch": depth}] for depth in doubling(10, 2_048)]
        probes = doubling(2, min(lists, 2_048))
        return [[{"nprobe": number, "k_factor": times} for times in FACTORS] for number in probes]

    def use(self, setting: Setting) -> None:
        """See Adapter."""
        self._setting = setting

    def search(self, queries: Vectors, k: int) -> Rows:
        """See Adapter."""
        return self._index.search_with(self._setting, queries, k)[1]

    def describe(self) -> str:
        """See Adapter."""
        recipe, codes = self._index.manifest.recipe, self._index.manifest.build.get("codes")
        if codes is None:
            return recipe.factory
        return recipe.factory.format(nlist=recipe.nlist, axes=codes["axes"]) + f", finer {codes['finer_axes']} axes"


class TitledSource(NumberedSource):
    """Items have their number as title: a graph is tuned for titles that are read back from its items."""

    def blocks(self, shard: Shard, scratch: Path, progress: Progress) -> Iterator[Block]:
        """See the port."""
        for block in super().blocks(shard, scratch, progress):
            numbers = pc.cast(pc.cast(block.items["item_id"], pa.int64()), pa.string())
            yield replace(block, items=block.items.append_column("title", numbers))


@dataclass(frozen=True)
class FileVectors:
    """NumberedVectors of a file: those of a build, which asks for no queries. `item_texts`: a file too, row by row."""

    stored: Items
    item_texts: str | None

    @property
    def items(self) -> int:
        return self.stored.rows

    @property
    def dim(self) -> int:
        return self.stored.dim

    @property
    def name(self) -> str:
        return str(self.stored.file)

    def block(self, number: int) -> Vectors:
        rows = slice(number * BLOCK_ROWS, (number + 1) * BLOCK_ROWS)
        return np.array(self.stored.mapped()[rows], np.float32)

    def texts(self, rows: Rows) -> Vectors:
        assert self.item_texts is not None, "nothing asks for texts that are not there"
        return np.asarray(np.load(self.item_texts, mmap_mode="r")[rows], np.float32)

    def queries(self) -> Queries:
        return no_queries(self.dim)


def no_queries(dim: int) -> Queries:
    """Of no kind any."""
    none = np.empty((0, dim), np.float32)
    return Queries(none, none, none)
