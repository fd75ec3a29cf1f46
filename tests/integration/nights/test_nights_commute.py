"""Three nights in every order, and again: the same rows, one by one, and those that an independent account expects."""

from datetime import date
from itertools import combinations, permutations

import pytest

from lookalike.contracts.progress import LogProgress
from lookalike.contracts.tables import BRONZE, EMBEDDINGS, SILVER
from lookalike.line.nights import ingest_night
from lookalike.line.snapshots import snapshots_of
from spark.embed import embed
from spark.ingest import ingest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

NIGHTS = [date(2026, 11, day) for day in (18, 19, 20)]
VERSIONS = {  # of each item by night: (version, picture), None: not named, version 0: named by a row that is refused
    "steady": [(1, 1), (1, 1), (1, 1)],
    "growing": [(1, 2), (2, 2), (3, 3)],
    "gone-early": [(1, 4), None, None],
    "gone-late": [(1, 5), (2, 6), None],
    "gone-and-back": [(1, 7), None, (1, 7)],
    "one-night": [None, (2, 8), None],
    "new": [None, None, (1, 9)],
    "tied": [(5, 10), (5, 11), (4, 12)],
    "tied-at-last": [(3, 13), (5, 14), (5, 15)],
    "falling": [(9, 16), (3, 17), (3, 17)],
    "refused-at-last": [(1, 18), None, (0, 18)],
    "bad-picture": [(1, 19), (2, 99), (2, 99)],
    "late-and-higher": [(1, 20), (8, 21), (2, 22)],
}


def rows_of(home, row, night: int, versions) -> list[dict]:
    rows = []
    for item_id, told in versions.items():
        if told[night] is None:
            continue
        version, picture = told[night]
        path = "nowhere.png" if picture == 99 else home.picture(picture)
        title = f"{item_id} of night {night}" if version else "  "
        rows.append(row(item_id, version, path, title=title))
    return rows


def account(versions, complete=(True, True, True)) -> dict:
    """By item: version, title, picture, snapshot and whether withdrawn; plain loops, from the nights alone."""
    speaks = max(night for night in range(3) if complete[night])
    expected = {}
    for item_id, told in versions.items():
        best = None
        for night in range(3):
            if told[night] and told[night][0] and told[night][1] != 99 and (best is None or told[night][0] > best[0]):
                best = (told[night][0], f"{item_id} of night {night}", f"{told[night][1]}.png", f"night-{night}")
        if best:
            expected[item_id] = (*best, all(told[night] is None for night in range(speaks, 3)))
    return expected


def silver_of(home) -> list[dict]:
    return home.tables.read(SILVER, order_by="item_id").to_pylist()


def vectors_of(home) -> list[dict]:
    """Vectors of live items, without `item_version`: which version of equal pictures was embedded follows the order."""
    live = {row["item_id"]: row["content_hash"] for row in silver_of(home) if not row["deleted"]}
    rows = home.tables.read(EMBEDDINGS, order_by="item_id, space").to_pylist()
    columns = ("item_id", "space", "content_hash", "encoder_version", "vector", "l2_norm")
    return [{name: row[name] for name in columns} for row in rows if live.get(row["item_id"]) == row["content_hash"]]


@pytest.fixture
def three_nights(make_night_home, row):
    def make(versions, complete=(True, True, True)):
        home = make_night_home()
        for number, night in enumerate(NIGHTS):
            rows = rows_of(home, row, number, versions)
            home.snapshot(f"night-{number}", rows, f"{night}T02:00:00+00:00", complete[number])
        return home

    return make


def after(home, order, tmp_path):
    """A copy of the home in which the last night of `order` was taken; the ones before it were taken already."""
    copied = home.copy(tmp_path / "-".join(map(str, order)))
    ingest_night(copied.settings, NIGHTS[order[-1]], LogProgress(), must=True)
    return copied


def assert_same_rows(home, other, said):
    for mine, theirs in zip(silver_of(home), silver_of(other), strict=True):
        assert mine == theirs, said


def accounted(home) -> dict:
    columns = ("version", "title", "image_path", "snapshot_id", "deleted")
    return {row["item_id"]: tuple(row[name] for name in columns) for row in silver_of(home)}


def test_all_orders_of_three_nights_give_the_rows_of_the_account(spark_session, three_nights, tmp_path):
    """Both orders of every two nights leave one state, so the third night is taken after one order of each two."""
    import tiny_encoder

    home = three_nights(VERSIONS)
    one = {night: after(home, (night,), tmp_path) for night in range(3)}
    two = {order: after(one[order[0]], order, tmp_path) for order in permutations(range(3), 2)}
    for first, second in combinations(range(3), 2):
        assert_same_rows(two[first, second], two[second, first], f"nights {first} and {second}")
    three = {order: after(two[order[:2]], order, tmp_path) for order in ((0, 1, 2), (2, 0, 1), (2, 1, 0))}
    expected = account(VERSIONS)
    for order, each in three.items():
        assert accounted(each) == expected, f"nights in the order {order}"
        assert_same_rows(each, three[0, 1, 2], f"nights in the order {order}")

    in_time, backward = three[0, 1, 2], three[2, 1, 0]
    for each in (in_time, backward):
        embed(spark_session, each.settings, LogProgress(), tiny_encoder.open_tiny)
    assert vectors_of(backward) == vectors_of(in_time)
    assert len(vectors_of(in_time)) == sum(not withdrawn for *_, withdrawn in expected.values())

    before = backward.tables.version("silver"), backward.tables.count(BRONZE)
    assert ingest_night(backward.settings, NIGHTS[0], LogProgress()).reports == ()
    folder = snapshots_of(backward.settings, NIGHTS[0])[0]
    again = ingest(spark_session, backward.settings, folder, LogProgress())  # past the note that it is done
    assert (again.taken, again.withdrawn) == (0, 0)
    assert (backward.tables.version("silver"), backward.tables.count(BRONZE)) == before


def test_a_night_of_some_items_names_them_and_withdraws_none(spark_session, three_nights, tmp_path):
    complete = (True, True, False)
    home, expected = three_nights(VERSIONS, complete), account(VERSIONS, complete)
    assert {item for item, state in expected.items() if state[-1]} == {"gone-early"}
    for length in (1, 2, 3):
        home = after(home, (2, 1, 0)[:length], tmp_path)
    assert accounted(home) == expected
