"""Both pipelines as portable protos with the options of clusters: what a Flink or Dataflow job would be sent."""

import importlib

import apache_beam as beam
import pytest
from apache_beam.internal import pickler
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2 as proto_api
from apache_beam.runners.portability.portable_runner import PortableRunner

from beam.options import portable_proto, runner_options, submit
from beam.pipelines import READS
from lookalike.contracts.errors import LookalikeError, SettingsError
from lookalike.contracts.settings import load_settings

pytestmark = pytest.mark.slow  # for its imports
OPTIONS = {
    "FlinkRunner": ("--flink_master=flink:8081", "--parallelism=4", "--environment_config=registry/lookalike-beam:1"),
    "DataflowRunner": (
        "--project=shop", "--region=europe-west4", "--temp_location=gs://shop/tmp",
        "--environment_config=registry/lookalike-beam:1", "--job_name=lookalike",
    ),
}  # fmt: skip
STATEFUL = ("state_specs", "timer_family_specs")


@pytest.fixture
def settings(tmp_path):
    return load_settings(home=tmp_path, log={"kind": "kafka"})


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("runner", OPTIONS)
def test_builds_a_valid_portable_proto(name, runner, settings):
    options = runner_options(runner, OPTIONS[runner])
    proto = portable_proto(name, settings, options)
    parts = proto.components
    assert proto.root_transform_ids
    for transform in parts.transforms.values():
        assert transform.spec.urn or transform.subtransforms, f"{transform.unique_name} has no URN"
        assert set(transform.outputs.values()) <= set(parts.pcollections)
        if transform.spec.urn == common_urns.primitives.PAR_DO.urn:
            assert transform.environment_id in parts.environments
    docker = [each for each in parts.environments.values() if each.urn == common_urns.environments.DOCKER.urn]
    images = {proto_api.DockerPayload.FromString(each.payload).container_image for each in docker}
    assert images == {"registry/lookalike-beam:1"}
    parsed = beam.Pipeline.from_runner_api(
        proto_api.Pipeline.FromString(proto.SerializeToString()), PortableRunner(), options
    )
    again = parsed.to_runner_api().components.transforms
    assert {each.unique_name for each in again.values()} == {each.unique_name for each in parts.transforms.values()}


@pytest.mark.parametrize("name", READS)
def test_every_function_travels_by_reference(name, settings):
    proto = portable_proto(name, settings, runner_options("FlinkRunner", OPTIONS["FlinkRunner"]))
    ours = set()
    for transform in proto.components.transforms.values():
        if transform.spec.urn != common_urns.primitives.PAR_DO.urn:
            continue
        payload = proto_api.ParDoPayload.FromString(transform.spec.payload)
        function = pickler.loads(payload.do_fn.payload)[0]
        kind = type(function)
        found = importlib.import_module(kind.__module__)
        for part in kind.__qualname__.split("."):
            found = getattr(found, part)
        assert found is kind, f"{transform.unique_name} would be sent as code"
        if kind.__module__.startswith("beam."):
            ours.add(kind.__name__)
    assert len(ours) >= 2


@pytest.mark.parametrize("name", READS)
def test_no_timers_state_windows_side_inputs_or_groupings(name, settings):
    """Local runners get them wrong or slow; the design needs none."""
    proto = portable_proto(name, settings, runner_options("FlinkRunner", OPTIONS["FlinkRunner"]))
    grouping = {common_urns.primitives.GROUP_BY_KEY.urn, common_urns.composites.RESHUFFLE.urn}
    for transform in proto.components.transforms.values():
        assert transform.spec.urn not in grouping, transform.unique_name
        if transform.spec.urn == common_urns.primitives.PAR_DO.urn:
            payload = proto_api.ParDoPayload.FromString(transform.spec.payload)
            assert not payload.side_inputs, transform.unique_name
            assert not any(getattr(payload, field) for field in STATEFUL), transform.unique_name
    assert len(proto.components.windowing_strategies) == 1


def test_a_cluster_needs_a_log_that_it_reaches(tmp_path):
    with pytest.raises(SettingsError, match=r"log\.kind = kafka"):
        submit(load_settings(home=tmp_path), "FlinkRunner", [])


@pytest.mark.parametrize(
    ("runner", "extra", "said"),
    [("FlinkRunnner", [], "Known: "), ("FlinkRunner", ["parallelism=4"], "--parallelism=4"), ("a.b.C", [], "a.b.C")],
)
def test_wrong_use_says_what_is_allowed(settings, runner, extra, said):
    with pytest.raises(LookalikeError, match=said):
        submit(settings, runner, extra)
