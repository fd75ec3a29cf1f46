"""The restriction of a reader: claims, checkpoints, and the offset before."""

from apache_beam.runners.sdf_utils import RestrictionTrackerView, ThreadsafeRestrictionTracker

from beam.read import END, FIRST, Span, SpanTracker


def claimed(*offsets: int) -> SpanTracker:
    tracker = SpanTracker(Span(5, END, 5))
    assert all(tracker.try_claim(offset) for offset in offsets)
    return tracker


def test_unbounded_and_split_at_checkpoints_only():
    tracker = claimed(7)
    assert tracker.is_bounded() is False
    assert tracker.try_split(0.5) is None
    primary, rest = tracker.try_split(0)
    assert (primary.start, primary.stop, rest.start, rest.stop) == (5, 8, 8, END)
    assert not tracker.try_claim(8)  # the remainder has it


def test_previous_is_the_last_claimed_offset_over_gaps_and_checkpoints():
    _, rest = claimed(7, 11).try_split(0)
    assert rest.previous == 11
    _, untouched = SpanTracker(rest).try_split(0)
    assert untouched.previous == 11
    _, first = claimed().try_split(0)
    assert first.previous == FIRST


def test_claiming_the_end_is_being_done():
    tracker = ThreadsafeRestrictionTracker(claimed(7))
    assert RestrictionTrackerView(tracker).try_claim(END - 1)
    tracker.check_done()
    assert tracker.deferred_status() is None
