"""What an embedding job has to do, counted from the tables without a JVM, and how it is cut into chunks.

Chunks are ranges of the content hash: finished ones leave the plan, and the others stay as they were.
"""

from dataclasses import dataclass

from lookalike.contracts.settings import Settings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.contracts.tables import EMBEDDINGS, SILVER
from lookalike.storage.delta import DeltaTables

PREFIX_DIGITS = 4


@dataclass(frozen=True)
class EmbedPlan:
    """Work that is left in one space. Of `items` live items `done` have their vector; `copied` take one over from
    another item with the same picture, and `pictures` are to be encoded, in `chunks`.
    """

    space: str
    items: int
    done: int
    copied: int
    pictures: int
    chunks: int


def pack(counts: dict[str, int], most: int) -> list[tuple[str, str, int]]:
    """Ranges (first prefix, last prefix, pictures) of hash prefixes in order, each of at most `most` pictures.

    One prefix is never divided. Packing starts at the lowest prefix that is left, so that after finished ranges have
    gone from `counts` the remaining ones come out as before.
    """
    ranges: list[tuple[str, str, int]] = []
    for prefix in sorted(counts):
        if ranges and ranges[-1][2] + counts[prefix] <= most:
            ranges[-1] = (ranges[-1][0], prefix, ranges[-1][2] + counts[prefix])
        else:
            ranges.append((prefix, prefix, counts[prefix]))
    return ranges


def plan(settings: Settings, space: EmbeddingSpace) -> EmbedPlan:
    """What is left to embed in `space`. Pictures that were refused count: a run that starts tries them again.

    Raises NotFound when nothing was ever ingested.
    """
    sql = f"""
        WITH theirs AS (SELECT item_id, content_hash FROM embeddings WHERE space = '{space.fingerprint}'),
        live AS (SELECT item_id, content_hash FROM silver WHERE NOT deleted),
        due AS (SELECT l.item_id, l.content_hash FROM live AS l
            LEFT ANTI JOIN theirs AS t ON t.item_id = l.item_id AND t.content_hash = l.content_hash),
        marked AS (SELECT d.content_hash, k.content_hash IS NOT NULL AS known FROM due AS d
            LEFT JOIN (SELECT DISTINCT content_hash FROM theirs) AS k ON k.content_hash = d.content_hash)
        SELECT substr(content_hash, 1, {PREFIX_DIGITS}) AS prefix, known, count(*) AS items,
            count(DISTINCT content_hash) AS pictures FROM marked GROUP BY 1, 2"""
    known = DeltaTables(settings.tables_root)
    due = known.query(sql, SILVER, EMBEDDINGS).to_pylist()
    items = known.count(SILVER, "NOT deleted")
    counts = {row["prefix"]: row["pictures"] for row in due if not row["known"]}
    return EmbedPlan(
        space=space.fingerprint,
        items=items,
        done=items - sum(row["items"] for row in due),
        copied=sum(row["items"] for row in due if row["known"]),
        pictures=sum(counts.values()),
        chunks=len(pack(counts, settings.embed.chunk_items)),
    )
