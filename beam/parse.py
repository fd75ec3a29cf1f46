"""Log records to changes: parsed by the same function as everywhere, refused where they cannot be.

A parked change is parsed again as of the time when it first came, so that every try judges alike.
"""

from beam.elements import Change
from beam.parked import Parked
from beam.read import LogRecord
from lookalike.catalogue.changes import parse_change
from lookalike.contracts.change import CatalogueEvent, Position, Topic, partition_of
from lookalike.contracts.product import Refusal, RefusalReason
from lookalike.contracts.settings import IntakeSettings


def parse_record(record: LogRecord, partitions: int, limits: IntakeSettings) -> Change:
    """One record of `catalogue-changes` or of its parked changes. Raises UnreadableParked."""
    if record.topic is Topic.LATER:
        held = Parked.decode(record.value)
        origin, received_ms, payload, tries = held.origin, held.received_ms, held.payload, held.tries
    else:
        origin = Position(record.partition, record.offset)
        received_ms, payload, tries = record.appended_ms, record.value, 0
    parsed = _at_home(parse_change(payload, received_ms, limits), origin.partition, partitions)
    event, refusal = (parsed, None) if isinstance(parsed, CatalogueEvent) else (None, parsed)
    return Change(
        record.topic, record.offset, record.previous, origin, received_ms, payload, tries, event, refusal
    )  # fmt: skip


def _at_home(parsed: CatalogueEvent | Refusal, partition: int, partitions: int) -> CatalogueEvent | Refusal:
    """Refuse a change that its producer put into another item's partition: two writers would share the item."""
    if isinstance(parsed, Refusal):
        return parsed
    home = partition_of(parsed.item_id.encode(), partitions)
    if home == partition:
        return parsed
    return Refusal(
        RefusalReason.MALFORMED,
        f"the change lies in partition {partition}, its item belongs into {home} (crc32 of item_id modulo "
        f"{partitions}); the producer must use the item id as key and crc32 as partitioner",
        parsed.item_id,
    )
