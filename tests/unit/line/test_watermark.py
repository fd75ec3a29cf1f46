"""How far of the log pinned tables reach: the greatest fold whose two tables are both in them."""

import itertools
import random
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from lookalike.contracts.settings import load_settings
from lookalike.contracts.tables import FOLDS
from lookalike.line.watermark import log_offsets
from lookalike.storage.delta import DeltaTables

START = datetime(2026, 1, 1, tzinfo=UTC)


def test_the_watermark_is_what_both_pinned_tables_hold(tmp_path):
    settings = load_settings(home=tmp_path)
    assert log_offsets(settings, 9, 9) == {}
    generator, rows = random.Random(3), []
    silver = embeddings = 0
    ends = [0, 0, 0]
    for night in range(6):
        silver, embeddings = silver + generator.randint(0, 2), embeddings + generator.randint(0, 2)
        for partition in generator.sample(range(3), 2):
            ends[partition] += generator.randint(1, 9)
            rows.append({"at": START + timedelta(days=night), "partition": partition, "next_offset": ends[partition],
                         "silver_version": silver, "embeddings_version": embeddings})  # fmt: skip
    DeltaTables(settings.tables_root).append(FOLDS, pa.Table.from_pylist(rows, schema=FOLDS.schema))
    for pinned in itertools.product(range(silver + 2), range(embeddings + 2)):
        expected: dict[str, int] = {}
        for row in rows:
            if row["silver_version"] <= pinned[0] and row["embeddings_version"] <= pinned[1]:
                expected[str(row["partition"])] = max(row["next_offset"], expected.get(str(row["partition"]), 0))
        assert log_offsets(settings, *pinned) == expected
    assert log_offsets(settings, silver, embeddings) == {str(each): end for each, end in enumerate(ends)}
