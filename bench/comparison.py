"""What the kill bench compares: tables row for row, the archive for doubled changes, and queries over what changed."""

import random
from typing import Any

import numpy as np

from lookalike.contracts.settings import Settings
from lookalike.contracts.tables import CHANGES, TableContract
from lookalike.storage.delta import DeltaTables

SCORE_TOLERANCE = 1e-5
BOOKKEEPING = frozenset({"snapshot_id"})
WORDS = ("red apple", "dog", "guitar", "pizza", "bicycle", "umbrella", "rocket", "tree", "fish", "clock")


def rows_of(settings: Settings, contract: TableContract) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Rows of a table by key, without bookkeeping that tells where a row came from."""
    rows = DeltaTables(settings.tables_root).read(contract).to_pylist()
    found = {tuple(row[name] for name in contract.key): row for row in rows}
    if len(found) != len(rows):
        raise SystemExit(f"{contract.name}: {len(rows) - len(found)} keys are doubled")
    return {key: {name: row[name] for name in row if name not in BOOKKEEPING} for key, row in found.items()}


def differences(calm: Settings, killed: Settings, contract: TableContract) -> list[str]:
    """Rows that are not equal; vectors to SCORE_TOLERANCE, for a batch of other pictures rounds otherwise."""
    left, right = rows_of(calm, contract), rows_of(killed, contract)
    found = [f"{contract.name}: {key} only in one" for key in left.keys() ^ right.keys()]
    for key in left.keys() & right.keys():
        one, other = dict(left[key]), dict(right[key])
        for name in ("vector", "l2_norm"):
            if name in one and not np.allclose(one.pop(name), other.pop(name), atol=SCORE_TOLERANCE):
                found.append(f"{contract.name}: {key} has another {name}")
        if one != other:
            found.append(f"{contract.name}: {key}: {[(n, one[n], other[n]) for n in one if one[n] != other[n]][:3]}")
    return found


def doubled_changes(settings: Settings) -> list[str]:
    """Changes that the archive has more than once, or with a later state below an earlier one."""
    rows = DeltaTables(settings.tables_root).read(
        CHANGES, ["partition", "offset", "origin_offset", "item_id", "version"], order_by="partition, offset"
    )
    seen: dict[tuple[int, int], int] = {}
    newest: dict[str, int] = {}
    found = []
    for row in rows.to_pylist():
        origin = (row["partition"], row["origin_offset"])
        if origin in seen:
            found.append(f"change {origin} is archived at offsets {seen[origin]} and {row['offset']}")
        seen[origin] = row["offset"]
        if row["version"] < newest.get(row["item_id"], -1):
            found.append(f"{row['item_id']} goes from version {newest[row['item_id']]} to {row['version']}")
        newest[row["item_id"]] = row["version"]
    return found


def queries_for(count: int) -> list[dict[str, Any]]:
    """Words and filters over what changed."""
    dice = random.Random(3)
    queries = []
    for number in range(count):
        query: dict[str, Any] = {"parts": [{"text": f"{WORDS[number % len(WORDS)]} {dice.randrange(9)}"}], "k": 20}
        if number % 3 == 1:
            query["filters"] = [{"field": "price", "at_most": dice.randrange(20, 250)}]
        if number % 3 == 2:
            query["filters"] = [{"field": "tags", "any_of": [f"tag-{dice.randrange(50)}", "changed"]}]
        queries.append(query)
    return queries
