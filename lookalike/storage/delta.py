"""Delta tables without a JVM, through delta-rs: pinned reads for builds, gates and servers; appends for the ledger.

Spark owns the big merges; delta-rs opens a small table about a hundred times quicker. Reads go through its query
engine, which also understands deletion vectors. Every call opens a fresh handle: a stale one conflicts.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lookalike.contracts.errors import NotFound
from lookalike.contracts.tables import TableContract

if TYPE_CHECKING:
    from deltalake import DeltaTable

APPEND_TRIES = 8
FIRST_RETRY_SECONDS = 0.05
KEEP_LOG = "delta.enableExpiredLogCleanup"
"""Table property. "false": only `storage.delta_upkeep` cleans the log, because it knows which versions are pinned."""


@dataclass(frozen=True)
class AppTransaction:
    """Makes an append idempotent: the table's log keeps the highest `version` of each `app`, in the same commit as
    the rows, and an append that does not raise it is not made.
    """

    app: str
    version: int


class DeltaTables:
    """The tables of one root (a local path or an object-store URI), addressed by contract."""

    def __init__(self, root: str | Path) -> None:
        self.root = str(root).rstrip("/")

    def uri(self, name: str) -> str:
        """Where the table lies."""
        return f"{self.root}/{name}"

    def exists(self, name: str) -> bool:
        """Whether there is a Delta table of this name."""
        from deltalake import DeltaTable

        uri = self.uri(name)
        if "://" not in uri and not Path(uri).is_dir():  # a plain file or a glob makes delta-rs raise
            return False
        return bool(DeltaTable.is_deltatable(uri))

    def version(self, name: str) -> int:
        """Newest version of the table. Raises NotFound when there is no such table."""
        return int(self._open(name, None).version())

    def same_rows(self, name: str, first: int, last: int) -> bool:
        """Whether two versions hold the same rows because every commit between them was upkeep (compaction, clean-up,
        properties). False also where the log does not reach back far enough to tell. Raises NotFound.
        """
        first, last = sorted((first, last))
        commits = (self._commit(name, version) for version in range(first + 1, last + 1))
        return all(commit is not None and not any(_changes_rows(action) for action in commit) for commit in commits)

    def columns(self, name: str) -> list[str]:
        """Names of the table's columns as it stands. Raises NotFound when there is no such table."""
        return [field.name for field in self._open(name, None).schema().fields]

    def batches(
        self,
        contract: TableContract,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        version: int | None = None,
        order_by: str | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Stream the rows, in the contract's column types. `where` and `order_by` are SQL over its columns.

        A column that may be empty is empty where the table is from before it was added.
        """
        from deltalake import QueryBuilder

        names = list(columns) if columns is not None else contract.schema.names
        schema = pa.schema([contract.schema.field(name) for name in names])
        table = self._open(contract.name, version)
        there = {field.name for field in table.schema().fields}
        absent = {name for name in names if name not in there and contract.schema.field(name).nullable}
        selected = [f'NULL AS "{name}"' if name in absent else f'"{name}"' for name in names]
        sql = f"SELECT {', '.join(selected)} FROM rows"
        if where:
            sql += f" WHERE {where}"
        if order_by:
            sql += f" ORDER BY {order_by}"
        for batch in QueryBuilder().register("rows", table).execute(sql):
            yield from pa.Table.from_batches([pa.record_batch(batch)]).cast(_nullable(schema)).to_batches()

    def read(
        self,
        contract: TableContract,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        version: int | None = None,
        order_by: str | None = None,
    ) -> pa.Table:
        """All rows at once; see `batches`."""
        names = list(columns) if columns is not None else contract.schema.names
        schema = _nullable(pa.schema([contract.schema.field(name) for name in names]))
        return pa.Table.from_batches(self.batches(contract, columns, where, version, order_by), schema=schema)

    def count(self, contract: TableContract, where: str | None = None) -> int:
        """Number of rows, read from the data and not from statistics."""
        sql = f"SELECT count(*) AS n FROM {contract.name}" + (f" WHERE {where}" if where else "")
        return int(self.query(sql, contract)["n"][0].as_py())

    def query(self, sql: str, *contracts: TableContract) -> pa.Table:
        """Result of SQL over the newest versions of several tables, each under its own name."""
        from deltalake import QueryBuilder

        builder = QueryBuilder()
        for contract in contracts:
            builder = builder.register(contract.name, self._open(contract.name, None))
        return pa.table(builder.execute(sql).read_all())

    def transaction_version(self, contract: TableContract, app: str) -> int | None:
        """Highest version that an append of this application has committed; None without one or without a table."""
        if not self.exists(contract.name):
            return None
        version = self._open(contract.name, None).transaction_version(app)
        return None if version is None else int(version)

    def has_transaction(self, contract: TableContract, transaction: str) -> bool:
        """Whether a commit of this application transaction is in the table's log; False when there is no table."""
        return self.transaction_version(contract, transaction) is not None

    def raw_batches(self, name: str) -> Iterator[pa.RecordBatch]:
        """All rows of a table that has no contract here (a user's own catalogue), in its own types."""
        from deltalake import QueryBuilder

        for batch in QueryBuilder().register("rows", self._open(name, None)).execute("SELECT * FROM rows"):
            yield pa.record_batch(batch)

    def create(self, contract: TableContract) -> None:
        """Make the table as its contract says, unless it is there."""
        from deltalake import DeltaTable

        if "://" not in self.root:
            Path(self.root).mkdir(parents=True, exist_ok=True)
        if not self.exists(contract.name):
            DeltaTable.create(
                self.uri(contract.name),
                contract.schema,
                mode="ignore",
                partition_by=list(contract.partition_by) or None,
                configuration={
                    "delta.enableChangeDataFeed": str(contract.change_data_feed).lower(),
                    KEEP_LOG: "false",
                    **{f"delta.constraints.{name}": sql for name, sql in contract.constraints.items()},
                },
                raise_if_key_not_exists=False,  # names of constraints are not among the properties that it knows
            )

    def append(self, contract: TableContract, rows: pa.Table, transaction: AppTransaction | None = None) -> bool:
        """Append rows, making the table first if need be; retried from a fresh handle when another writer won.

        With a `transaction`, rows and transaction are one commit (also when there are no rows), and False is returned
        without one when the table's log has this or a higher version. Raises deltalake's CommitFailedError when
        APPEND_TRIES commits were beaten.
        """
        from deltalake.exceptions import CommitFailedError

        rows = rows.select(contract.schema.names).cast(contract.schema)
        for attempt in range(APPEND_TRIES):
            try:
                return self._try_append(contract, rows, transaction)
            except CommitFailedError:
                if attempt == APPEND_TRIES - 1:
                    raise
                time.sleep(FIRST_RETRY_SECONDS * 2**attempt)
        raise AssertionError("the last try returned or raised")

    def _try_append(self, contract: TableContract, rows: pa.Table, transaction: AppTransaction | None) -> bool:
        from deltalake import CommitProperties, Transaction, write_deltalake

        self.create(contract)
        table = self._open(contract.name, None)
        properties = None
        if transaction is not None:
            reached = table.transaction_version(transaction.app)
            if reached is not None and reached >= transaction.version:
                return False
            # A commit of the same application after this handle was opened makes this one fail, not double.
            properties = CommitProperties(app_transactions=[Transaction(transaction.app, transaction.version)])
        write_deltalake(table, rows, mode="append", commit_properties=properties)
        return True

    def _commit(self, name: str, version: int) -> list[dict[str, Any]] | None:
        """Actions of one commit, or None when it is no longer in the log."""
        from deltalake.fs import DeltaStorageHandler
        from pyarrow.fs import PyFileSystem

        self._open(name, None)
        files = PyFileSystem(DeltaStorageHandler(self.uri(name)))
        try:
            with files.open_input_stream(f"_delta_log/{version:020d}.json") as file:
                return [json.loads(line) for line in file.read().splitlines() if line.strip()]
        except FileNotFoundError:
            return None

    def _open(self, name: str, version: int | None) -> "DeltaTable":
        from deltalake import DeltaTable

        if not self.exists(name):
            raise NotFound(f"there is no Delta table at {self.uri(name)}; `lookalike ingest` makes the tables")
        return DeltaTable(self.uri(name), version=version)


def _changes_rows(action: dict[str, Any]) -> bool:
    return any(action[kind].get("dataChange", True) for kind in ("add", "remove") if kind in action)


def _nullable(schema: pa.Schema) -> pa.Schema:
    """Readers need not prove nullability again; the table's own constraints did."""
    return pa.schema([field.with_nullable(True) for field in schema])
