"""Watermark: how far of the log `vector-updates` pinned table versions reach; servers replay the rest."""

from lookalike.contracts.settings import Settings
from lookalike.contracts.tables import FOLDS
from lookalike.storage.delta import DeltaTables


def log_offsets(settings: Settings, silver_version: int, embeddings_version: int) -> dict[str, int]:
    """Next offset to replay by partition (as text): all below is in these versions of SILVER and EMBEDDINGS.

    A partition of which nothing is folded into them is absent.
    """
    tables = DeltaTables(settings.tables_root)
    if not tables.exists(FOLDS.name):
        return {}
    covered = f"silver_version <= {silver_version:d} AND embeddings_version <= {embeddings_version:d}"
    rows = tables.query(
        f'SELECT "partition", max(next_offset) AS next FROM folds WHERE {covered} GROUP BY "partition"', FOLDS
    )
    return {
        str(row["partition"]): int(row["next"]) for row in sorted(rows.to_pylist(), key=lambda row: row["partition"])
    }
