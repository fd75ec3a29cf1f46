"""A set that few changes made of another says so; whoever asks may then use what it knows of that one."""

import numpy as np
import pytest

from lookalike.contracts.row_set import LIKE, RowSet

ITEMS = 64_000


@pytest.fixture(params=[0.5, 0.02], ids=["bits", "rows"])
def before(request):
    return RowSet.of(np.random.default_rng(1).random(ITEMS) < request.param)


def some_rows(count, seed):
    return np.sort(np.random.default_rng(seed).choice(ITEMS, count, replace=False))


def test_few_changes_after_each_other_are_those_of_one_set(before):
    few, made, put_in = before.count // LIKE // 3, before, []
    assert before.like is None
    for step in range(3):
        rows = some_rows(few, step)
        present = np.arange(few) % 2 == 0
        made = made.changed(rows, present)
        put_in += rows[present].tolist()
        assert made.like is before and made.added.tolist() == put_in
    assert set(made.rows().tolist()) - set(before.rows().tolist()) <= set(put_in)
    more = made.changed(some_rows(few, 9), np.ones(few, bool))
    assert more.like is made and more.added.tolist() == some_rows(few, 9).tolist()


def test_many_changes_make_another_set(before):
    many = before.count // LIKE + 1
    made = before.changed(some_rows(many, 2), np.zeros(many, bool))
    assert made.like is None and len(made.added) == 0
