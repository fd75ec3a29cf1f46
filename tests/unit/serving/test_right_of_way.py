"""Who takes changes in waits for searches, and for no longer than its bound."""

import threading

from lookalike.serving import right_of_way
from lookalike.serving.right_of_way import RightOfWay


def test_it_goes_on_as_soon_as_no_search_runs(monkeypatch):
    monkeypatch.setattr(right_of_way, "LONGEST_SECONDS", 30.0)
    searching, went_on = threading.Event(), threading.Event()
    searching.set()
    pause = RightOfWay(searching.is_set).group()
    thread = threading.Thread(target=lambda: (pause(), went_on.set()))
    thread.start()
    assert not went_on.wait(0.1)
    searching.clear()
    assert went_on.wait(10.0)
    thread.join()


def test_a_group_waits_no_longer_than_its_bound_in_all_its_pauses(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(right_of_way.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(right_of_way.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    way = RightOfWay(lambda: True)
    pause = way.group()
    for _ in range(5):
        pause()
    assert now[0] - 100.0 <= right_of_way.LONGEST_SECONDS + right_of_way.NAP_SECONDS
    before = now[0]
    way.group()()
    assert now[0] - before >= right_of_way.LONGEST_SECONDS  # the next group gives way anew


def test_without_searches_nothing_sleeps(monkeypatch):
    monkeypatch.setattr(right_of_way.time, "sleep", lambda seconds: (_ for _ in ()).throw(AssertionError("slept")))
    RightOfWay(lambda: False).group()()


def test_time_is_asked_only_while_a_search_runs(monkeypatch):
    """The pause stands between any two changes, so the common case must cost next to nothing."""
    pause = RightOfWay(lambda: False).group()
    monkeypatch.setattr(right_of_way.time, "monotonic", lambda: (_ for _ in ()).throw(AssertionError("asked")))
    pause()
