"""The stream and the night agree: the old release with its overlay answers as a new release built from the tables.

Run on a home whose stream has been stopped after changes. Runs the nightly merge and a build with the recipe `exact`,
then asks both 1,000 queries (words, items, filters): the live release with the update log replayed over it, and the
new one without any overlay. Hits must be the same and scores equal to 1e-5. The live pointer is not moved.

    python bench/stream_freshness.py --home var --seconds 600 --keep /scratch/fresh
    python bench/same_answers.py --home /scratch/fresh/home
"""

import argparse
import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
from harness import command

from lookalike.contracts.change import Topic
from lookalike.contracts.query import Filter, QueryPart, SearchAnswer, SearchQuery
from lookalike.contracts.settings import Settings, load_settings
from lookalike.contracts.vector_update import VectorUpdate
from lookalike.releases.registry import Registry
from lookalike.search.engine import SearchEngine
from lookalike.search.overlay import Overlay
from lookalike.storage.log.opening import open_log

SCORE_TOLERANCE = 1e-5
READ = 2_000


def run(settings: Settings, *verb: str) -> dict[str, object]:
    """A verb of the command line; its JSON result."""
    done = subprocess.run(command(settings, [], ["--json", *verb]), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"lookalike {' '.join(verb)} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout))


def replayed(settings: Settings, overlay: Overlay, start: dict[str, int]) -> int:
    """Apply the whole update log from `start`; number of messages."""
    log, count = open_log(settings), 0
    for partition in range(log.partitions):
        offset = start.get(str(partition), log.low_watermark(Topic.UPDATES, partition))
        while records := log.read(Topic.UPDATES, partition, offset, READ):
            overlay.apply([VectorUpdate.decode(record.value) for record in records])
            offset, count = records[-1].offset + 1, count + len(records)
    log.close()
    return count


def queries(items: list[dict[str, object]], count: int, seed: int) -> list[SearchQuery]:
    """Titles, items and filters, drawn from the new release."""
    dice = random.Random(seed)
    found = []
    for number in range(count):
        row = dice.choice(items)
        part = QueryPart(text=str(row["title"])) if number % 2 else QueryPart(item_id=str(row["item_id"]))
        filters: tuple[Filter, ...] = ()
        if number % 4 == 1:
            filters = (Filter(field="price", at_most=dice.uniform(5, 250)),)
        if number % 4 == 2:
            filters = (Filter(field="stock", at_least=dice.randrange(450)),)
        found.append(SearchQuery(parts=(part,), filters=filters, k=dice.choice((1, 10, 50))))
    return found


def differ(one: SearchAnswer, other: SearchAnswer) -> str | None:
    """What is not equal. Items of one score may stand in any order of theirs; scores may round."""
    if one.matching != other.matching:
        return f"{one.matching} match in one, {other.matching} in the other"
    left, right = [hit.score for hit in one.hits], [hit.score for hit in other.hits]
    if len(left) != len(right) or not np.allclose(left, right, atol=SCORE_TOLERANCE, rtol=0):
        return f"scores {left[:5]} and {right[:5]}"
    places = {hit.item_id: hit for hit in other.hits}
    cut = min(right, default=0.0) + 2 * SCORE_TOLERANCE  # at the end of the page a tie may be cut either way
    for hit in one.hits:
        twin = places.get(hit.item_id)
        if twin is None and hit.score > cut:
            return f"{hit.item_id} ({hit.score}) is in one only"
        if twin is not None and twin.product != hit.product:
            wrong = {name: (value, twin.product.get(name)) for name, value in hit.product.items()}
            return f"{hit.item_id}: { ({name: pair for name, pair in wrong.items() if pair[0] != pair[1]}) }"
    return None


def main() -> None:
    """See the module's text."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--home", type=Path, required=True)
    options.add_argument("--queries", type=int, default=1_000)
    options.add_argument("--seed", type=int, default=5)
    given = options.parse_args()
    settings = load_settings(home=given.home)
    print("fold:", json.dumps(run(settings, "fold")), flush=True)
    built = run(settings, "build", "--recipe", "exact")
    found = compare(settings, str(built["version"]), given.queries, given.seed)
    print("\n".join(found[:10]) if found else f"{given.queries} queries are answered alike")
    sys.exit(1 if found else 0)


def compare(settings: Settings, version: str, count: int, seed: int) -> list[str]:
    """Queries that the live release with overlay and release `version` without answer differently."""
    from index_builder.reader import open_index
    from lookalike.serving.pictures import query_decoder
    from models.encoders import open_encoder

    registry = Registry(settings)
    live, new = registry.live(), registry.release(version)
    assert live is not None
    old_index, new_index = open_index(live.index_dir), open_index(new.index_dir)
    encoder = open_encoder(str(live.encoder_dir), device="cpu", threads=1)
    overlay = Overlay(old_index, encoder.space.fingerprint, settings.serving.overlay_bytes)
    count_replayed = replayed(settings, overlay, old_index.manifest.log_offsets)
    engines = [
        SearchEngine(index, encoder, "x", decode=query_decoder(settings.intake), limits=settings.intake, overlay=over)
        for index, over in ((old_index, overlay), (new_index, None))
    ]
    print(
        f"release {live.version}: {old_index.manifest.items:,} items and {count_replayed:,} updates; "
        f"release {version}: {new_index.manifest.items:,} items, log offsets {new_index.manifest.log_offsets}",
        flush=True,
    )
    items = new_index.columns.select(["item_id", "title"]).to_pylist()
    found = []
    for query in queries(items, count, seed):
        problem = differ(*(engine.search(query) for engine in engines))
        if problem:
            found.append(f"{query.parts[0]}: {problem}")
    return found


if __name__ == "__main__":
    main()
