"""Guard: nothing that local runners get wrong or slow may creep into the pipelines, and the guard itself sees it."""

import apache_beam as beam
import pytest
from apache_beam.coders import StrUtf8Coder
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2 as proto_api
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import FixedWindows

from beam.archive import archive
from beam.enrich import enrich
from lookalike.contracts.settings import load_settings

PRIMITIVES, COMPOSITES = common_urns.primitives, common_urns.composites
FORBIDDEN = {
    PRIMITIVES.GROUP_BY_KEY.urn: "GroupByKey",
    PRIMITIVES.FLATTEN.urn: "Flatten: local runners end a fused stage there, and with it the bundle",
    PRIMITIVES.ASSIGN_WINDOWS.urn: "windowing",
    COMPOSITES.RESHUFFLE.urn: "Reshuffle",
    COMPOSITES.COMBINE_PER_KEY.urn: "Combine",
    COMPOSITES.COMBINE_GLOBALLY.urn: "Combine",
}


def faults(pipeline: beam.Pipeline) -> set[str]:
    """What a straight line of element-wise stages in the global window may not have."""
    parts = pipeline.to_runner_api().components
    found = {FORBIDDEN[each.spec.urn] for each in parts.transforms.values() if each.spec.urn in FORBIDDEN}
    for transform in parts.transforms.values():
        if transform.spec.urn == PRIMITIVES.PAR_DO.urn:
            payload = proto_api.ParDoPayload.FromString(transform.spec.payload)
            found |= {"side input"} if payload.side_inputs else set()
            found |= {"state"} if payload.state_specs else set()
            found |= {"timer"} if payload.timer_family_specs else set()
    windows = {strategy.window_fn.urn for strategy in parts.windowing_strategies.values()}
    found |= {"windowing"} if windows - {common_urns.global_windows.urn} else set()
    impulses = [each for each in parts.transforms.values() if each.spec.urn == PRIMITIVES.IMPULSE.urn]
    return found | ({f"{len(impulses)} impulses"} if len(impulses) != 1 else set())


@pytest.mark.parametrize("build", [enrich, archive])
def test_the_pipelines_are_straight(build, tmp_path):
    pipeline = beam.Pipeline()
    build(pipeline, load_settings(home=tmp_path))
    assert faults(pipeline) == set()


class Stateful(beam.DoFn):
    SEEN = ReadModifyWriteStateSpec("seen", StrUtf8Coder())

    def process(self, element, seen=beam.DoFn.StateParam(SEEN)):  # noqa: B008
        yield element


class Timed(beam.DoFn):
    LATER = TimerSpec("later", TimeDomain.WATERMARK)

    def process(self, element, later=beam.DoFn.TimerParam(LATER)):  # noqa: B008
        yield element

    @on_timer(LATER)
    def later(self):
        yield "x"


def _side(p):
    return p | beam.Map(lambda x, y: x, y=beam.pvalue.AsList(p))


PLANTED = {
    "state": lambda p: p | beam.ParDo(Stateful()),
    "timer": lambda p: p | beam.ParDo(Timed()),
    "side input": _side,
    "GroupByKey": lambda p: p | beam.GroupByKey(),
    "Reshuffle": lambda p: p | beam.Reshuffle(),
    "windowing": lambda p: p | beam.WindowInto(FixedWindows(3)),
    "Combine": lambda p: p | beam.CombinePerKey(sum),
    "2 impulses": lambda p: p,
}


@pytest.mark.parametrize("fault", PLANTED)
def test_the_guard_sees_a_planted_fault(fault, tmp_path):
    pipeline = beam.Pipeline()
    enrich(pipeline, load_settings(home=tmp_path))
    start = pipeline | "Start" >> beam.Impulse()
    PLANTED[fault](start | beam.Map(lambda x: ("k", 1)).with_output_types(tuple[str, int]))
    assert fault in faults(pipeline)
