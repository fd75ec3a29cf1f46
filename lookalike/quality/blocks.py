"""Rows of a table, read as often as needed and judged in blocks: what lies in memory does not grow with the table."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa

from lookalike.contracts.tables import TableContract

BLOCK_ROWS = 500_000
"""Rows judged together; the suites take about half a kilobyte of memory for each."""

Rows: TypeAlias = pa.Table | Callable[[Sequence[str] | None], Iterable[pa.RecordBatch]]
"""A table, or what reads some of its columns (None: all) anew at each call."""


@dataclass(frozen=True)
class Source:
    """The rows of a table and the contract that they should fulfil."""

    rows: Rows
    contract: TableContract

    def schema(self) -> pa.Schema:
        """All columns as found; where there are no rows to read, those of the contract."""
        if isinstance(self.rows, pa.Table):
            return self.rows.schema
        first = next(iter(self.rows(None)), None)
        return pa.schema(field.with_nullable(True) for field in self.contract.schema) if first is None else first.schema

    def batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """These columns, less those that are not there, of at most BLOCK_ROWS rows at a time; at least one batch."""
        if isinstance(self.rows, pa.Table):
            chosen = self.rows.select([name for name in columns if name in self.rows.column_names])
            batches: Iterable[pa.RecordBatch] = chosen.to_batches(BLOCK_ROWS) or [_empty(chosen.schema)]
        else:
            batches = self.rows(columns)
        none_read = True
        for batch in batches:
            none_read = False
            yield pa.Table.from_batches([batch])
        if none_read:
            yield pa.Table.from_batches([_empty(pa.schema([self.contract.schema.field(name) for name in columns]))])

    def blocks(self, columns: Sequence[str], facts: Callable[[pa.Table], pa.Table]) -> Iterator[pa.Table]:
        """Facts about each row, at most BLOCK_ROWS at a time; at least one block. Vectors are let go batch by batch."""
        waiting: list[pa.Table] = []
        for batch in self.batches(columns):
            told = facts(batch)
            if waiting and sum(part.num_rows for part in waiting) + told.num_rows > BLOCK_ROWS:
                yield pa.concat_tables(waiting, promote_options="permissive")
                waiting = []
            waiting.append(told)
        yield pa.concat_tables(waiting, promote_options="permissive")


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.record_batch([pa.array([], field.type) for field in schema], names=schema.names)
