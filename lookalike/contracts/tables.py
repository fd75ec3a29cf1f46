"""Table contracts: schema, key, partitioning, constraints and merge rule of every Delta table, written once.

Spark creates and merges the tables from these; delta-rs readers and the quality suites check against them.
Column mapping, liquid clustering and row tracking are left off: delta-rs could not write such tables.
"""

from dataclasses import dataclass, field
from enum import StrEnum

import pyarrow as pa


class MergeRule(StrEnum):
    """How a new row meets an old one of the same key."""

    APPEND = "append"  # history; a retry is recognised by its transaction id
    LATEST_VERSION = "latest_version"  # replaces only a lower `version`; equal or higher stays
    REPLACE_CONTENT = "replace_content"  # replaces only when content_hash differs


@dataclass(frozen=True)
class TableContract:
    """One Delta table. `constraints` are SQL CHECKs by name, enforced by Delta itself."""

    name: str
    schema: pa.Schema
    key: tuple[str, ...]
    merge: MergeRule
    partition_by: tuple[str, ...] = ()
    constraints: dict[str, str] = field(default_factory=dict)
    change_data_feed: bool = True


_STRINGS = pa.list_(pa.string())
_TIME = pa.timestamp("us", tz="UTC")

BRONZE = TableContract(
    name="bronze",
    schema=pa.schema(
        [
            pa.field("snapshot_id", pa.string(), nullable=False),
            pa.field("row_number", pa.int64(), nullable=False),
            pa.field("source", pa.string(), nullable=False),
            pa.field("received_at", _TIME, nullable=False),
            pa.field("payload", pa.string(), nullable=False),  # the row as received, JSON; pictures by path
        ]
    ),
    key=("snapshot_id", "row_number"),
    merge=MergeRule.APPEND,
    partition_by=("snapshot_id",),
)

SILVER = TableContract(
    name="silver",
    schema=pa.schema(
        [
            pa.field("item_id", pa.string(), nullable=False),
            pa.field("version", pa.int64(), nullable=False),
            pa.field("title", pa.string(), nullable=False),
            pa.field("brand", pa.string()),
            pa.field("category_path", _STRINGS),
            pa.field("tags", _STRINGS),
            pa.field("group_id", pa.string()),
            pa.field("image_path", pa.string(), nullable=False),
            pa.field("content_hash", pa.string(), nullable=False),  # sha256 of the picture's bytes
            pa.field("width", pa.int32(), nullable=False),
            pa.field("height", pa.int32(), nullable=False),
            pa.field("price", pa.float64()),
            pa.field("currency", pa.string()),
            pa.field("stock", pa.int64()),
            pa.field("licence", pa.string()),
            pa.field("licence_url", pa.string()),
            pa.field("author", pa.string()),
            pa.field("author_url", pa.string()),
            pa.field("attributes", pa.map_(pa.string(), pa.string())),
            pa.field("keywords", pa.map_(pa.string(), _STRINGS)),
            pa.field("synthetic", _STRINGS),  # names of the columns above whose values were generated
            pa.field("source", pa.string(), nullable=False),
            pa.field("snapshot_id", pa.string(), nullable=False),  # the snapshot that brought this version
            pa.field("deleted", pa.bool_(), nullable=False),
            pa.field("shard", pa.int32(), nullable=False),  # crc32(item_id) mod settings.tables.shards
            # Registers of contracts.item_state; null in rows that only snapshots have touched.
            pa.field("base_version", pa.int64()),  # version of the last whole row; null: `version`
            pa.field("column_versions", pa.map_(pa.string(), pa.int64())),  # of columns changed since, by the stream
            pa.field("changed_at", _TIME),  # event time of the newest streamed change
        ]
    ),
    key=("item_id",),
    merge=MergeRule.LATEST_VERSION,
    partition_by=("shard",),
    constraints={
        "item_id_given": "length(item_id) > 0",
        "title_given": "length(trim(title)) > 0",
        "version_not_negative": "version >= 0",
        "price_not_negative": "price IS NULL OR price >= 0",
        "content_hash_is_sha256": "length(content_hash) = 64",
    },
)

EMBEDDINGS = TableContract(
    name="embeddings",
    schema=pa.schema(
        [
            pa.field("item_id", pa.string(), nullable=False),
            pa.field("space", pa.string(), nullable=False),  # EmbeddingSpace.fingerprint
            pa.field("content_hash", pa.string(), nullable=False),
            pa.field("item_version", pa.int64(), nullable=False),
            pa.field("encoder_version", pa.string(), nullable=False),
            pa.field("vector", pa.list_(pa.float32()), nullable=False),
            pa.field("l2_norm", pa.float32(), nullable=False),
        ]
    ),
    key=("item_id", "space"),
    merge=MergeRule.REPLACE_CONTENT,
    partition_by=("space",),
    constraints={
        "space_is_fingerprint": "length(space) = 16",
        "norm_is_one": "l2_norm > 0.99 AND l2_norm < 1.01",
    },
)

REFUSED = TableContract(
    name="refused",
    schema=pa.schema(
        [
            pa.field("snapshot_id", pa.string(), nullable=False),
            pa.field("row_number", pa.int64(), nullable=False),
            pa.field("source", pa.string(), nullable=False),
            pa.field("item_id", pa.string()),
            pa.field("reason", pa.string(), nullable=False),
            pa.field("detail", pa.string(), nullable=False),
            pa.field("refused_at", _TIME, nullable=False),
            pa.field("payload", pa.string(), nullable=False),
        ]
    ),
    key=("snapshot_id", "row_number"),
    merge=MergeRule.APPEND,
    partition_by=("snapshot_id",),
)

CHANGES = TableContract(
    name="changes",  # the archive of the topic vector-updates, from which the nightly fold reads
    schema=pa.schema(
        [
            pa.field("partition", pa.int32(), nullable=False),
            pa.field("offset", pa.int64(), nullable=False),
            pa.field("origin_offset", pa.int64(), nullable=False),  # in catalogue-changes, same partition
            pa.field("item_id", pa.string(), nullable=False),
            pa.field("version", pa.int64(), nullable=False),
            pa.field("kind", pa.string(), nullable=False),
            pa.field("event_time", _TIME, nullable=False),
            pa.field("published_at", _TIME, nullable=False),
            pa.field("state", pa.string(), nullable=False),  # ItemState.to_json
            pa.field(
                "vectors",
                pa.list_(pa.struct([pa.field("space", pa.string()), pa.field("vector", pa.list_(pa.float32()))])),
            ),
        ]
    ),
    key=("partition", "offset"),
    merge=MergeRule.APPEND,
)

FOLDS = TableContract(
    name="folds",  # how far the archive has been folded into silver and embeddings
    schema=pa.schema(
        [
            pa.field("at", _TIME, nullable=False),
            pa.field("partition", pa.int32(), nullable=False),
            pa.field("next_offset", pa.int64(), nullable=False),  # of vector-updates: all below is in the tables
            pa.field("silver_version", pa.int64(), nullable=False),  # Delta versions from which on that holds
            pa.field("embeddings_version", pa.int64(), nullable=False),
        ]
    ),
    key=("at", "partition"),
    merge=MergeRule.APPEND,
)

REPLAYS = TableContract(
    name="replays",  # refused rows that were sent again
    schema=pa.schema(
        [
            pa.field("snapshot_id", pa.string(), nullable=False),  # with row_number: the key in REFUSED
            pa.field("row_number", pa.int64(), nullable=False),
            pa.field("at", _TIME, nullable=False),
            pa.field("actor", pa.string(), nullable=False),
            pa.field("partition", pa.int32(), nullable=False),  # where it lies now in catalogue-changes
            pa.field("offset", pa.int64(), nullable=False),
        ]
    ),
    key=("snapshot_id", "row_number", "at"),
    merge=MergeRule.APPEND,
)

IMPRESSIONS = TableContract(
    name="impressions",  # the archive of what searches showed, from the topic feedback
    schema=pa.schema(
        [
            pa.field("day", pa.date32(), nullable=False),  # UTC day of the search
            pa.field("partition", pa.int32(), nullable=False),
            pa.field("offset", pa.int64(), nullable=False),
            pa.field("search_id", pa.string(), nullable=False),
            pa.field("at", _TIME, nullable=False),
            pa.field("release", pa.string(), nullable=False),
            pa.field("query_kind", pa.string(), nullable=False),  # words | picture | item | mixed
            pa.field("start", pa.int32(), nullable=False),  # items on the pages before this one
            pa.field("items", _STRINGS, nullable=False),  # shown, best first
            pa.field("filters", _STRINGS, nullable=False),  # columns that were filtered by, not their values
            pa.field("k", pa.int32(), nullable=False),
        ]
    ),
    key=("partition", "offset"),
    merge=MergeRule.APPEND,
    partition_by=("day",),
    change_data_feed=False,
)

CLICKS = TableContract(
    name="clicks",  # what people did with what was shown, from the topic feedback
    schema=pa.schema(
        [
            pa.field("day", pa.date32(), nullable=False),  # UTC day of the search, so that a day's join reads one part
            pa.field("partition", pa.int32(), nullable=False),
            pa.field("offset", pa.int64(), nullable=False),
            pa.field("search_id", pa.string(), nullable=False),
            pa.field("item_id", pa.string(), nullable=False),
            pa.field("event", pa.string(), nullable=False),  # click | cart | purchase
            pa.field("at", _TIME, nullable=False),
            pa.field("received_at", _TIME, nullable=False),
        ]
    ),
    key=("partition", "offset"),
    merge=MergeRule.APPEND,
    partition_by=("day",),
    change_data_feed=False,
)

ONLINE_REPORT = TableContract(
    name="online_report",  # of a day the rows of the highest revision count; lower ones say what was known before
    schema=pa.schema(
        [
            pa.field("day", pa.date32(), nullable=False),
            pa.field("revision", pa.int64(), nullable=False),
            pa.field("release", pa.string(), nullable=False),  # `unknown` for clicks without an impression
            pa.field("query_kind", pa.string(), nullable=False),
            pa.field("impressions", pa.int64(), nullable=False),  # answers that were noted
            pa.field("clicked", pa.int64(), nullable=False),  # of these, answers with a click
            pa.field("ctr", pa.float64()),  # clicked / impressions
            pa.field("mrr_first_click", pa.float64()),  # mean of 1 / position of the first click, where there is one
            pa.field("clicks", pa.int64(), nullable=False),  # each item of an answer once; likewise the next two
            pa.field("carts", pa.int64(), nullable=False),
            pa.field("purchases", pa.int64(), nullable=False),
            pa.field("shown_at", pa.list_(pa.int64()), nullable=False),  # answers with an item at position 1, 2, … 10
            pa.field("clicked_at", pa.list_(pa.int64()), nullable=False),  # clicks there
            pa.field("ctr_at", pa.list_(pa.float64()), nullable=False),  # null where nothing was shown
            pa.field("orphan_clicks", pa.int64(), nullable=False),  # events whose impression is not there
            pa.field("not_shown", pa.int64(), nullable=False),  # events on items that the answer did not have
            pa.field("late", pa.int64(), nullable=False),  # events more than 24 h after their search
            pa.field("repeated", pa.int64(), nullable=False),  # events that were counted before
            pa.field("closed", pa.bool_(), nullable=False),  # the 24 h of the day's last search were over
        ]
    ),
    key=("day", "revision", "release", "query_kind"),
    merge=MergeRule.APPEND,
    change_data_feed=False,
)

LEDGER = TableContract(
    name="ledger",
    schema=pa.schema(
        [
            pa.field("at", _TIME, nullable=False),
            pa.field("action", pa.string(), nullable=False),  # a value of releases.release.Action
            pa.field("version", pa.string(), nullable=False),  # of the registered model lookalike-index
            pa.field("previous", pa.string()),  # what was live before, for a move of the pointer
            pa.field("actor", pa.string(), nullable=False),
            pa.field("verdict_sha256", pa.string()),
            pa.field("evidence", pa.string(), nullable=False),  # JSON
        ]
    ),
    key=("at", "action", "version"),
    merge=MergeRule.APPEND,
)
