"""The server follows the pointer, refuses what it cannot trust, and every request keeps the release it started with."""

import contextlib
import gc
import logging
import threading
import weakref
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest

from lookalike.contracts.errors import CorruptArtifact, LookalikeError
from lookalike.contracts.verdict import Check, Verdict
from lookalike.releases.verdict_file import verdict_path, write_verdict
from lookalike.serving.follower import FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS, Follower
from lookalike.serving.metrics import Metrics
from lookalike.serving.problems import NoReleaseYet


class Held:
    """Stands for a loaded release: the follower looks at `version` and `release` only."""

    def __init__(self, release):
        self.release, self.version, self.following, self.let_go_of = release, release.version, None, 0

    def taking_over_from(self, before):
        return contextlib.nullcontext()

    def let_go(self):
        self.let_go_of += 1

    close = let_go


def pointer(version, verdict="v"):
    return SimpleNamespace(
        version=version, identity=(version, verdict), index_dir="folder", manifest_sha256="m", space="s", items=1
    )


class Source:
    def __init__(self):
        self.now, self.error = None, None

    def live(self):
        if self.error:
            raise self.error
        return self.now


@pytest.fixture
def world():
    """A follower whose pointer, loader and clock belong to the test."""
    world = SimpleNamespace(source=Source(), broken={}, loads=[], time=0.0, metrics=Metrics())

    def load(release, current):
        world.loads.append(release.version)
        if release.version in world.broken:
            raise world.broken[release.version]
        return Held(release)

    world.follower = Follower(world.source, load, world.metrics, 0.01, clock=lambda: world.time)

    def point(version, verdict="v"):
        world.source.now = pointer(version, verdict)
        world.follower.poll()

    world.point = point
    return world


def sample(world, name, **labels):
    return world.metrics.registry.get_sample_value(name, labels)


def test_before_the_first_promotion_it_says_what_to_do(world):
    with pytest.raises(NoReleaseYet, match="being loaded"), world.follower.pin():
        pass
    world.follower.poll()
    with pytest.raises(NoReleaseYet, match="lookalike promote"), world.follower.pin():
        pass


def test_it_loads_each_move_of_the_pointer_once(world):
    for version in ("1", "1", "2", "2", "1"):
        world.point(version)
        with world.follower.pin() as loaded:
            assert loaded.version == version
    assert world.loads == ["1", "2", "1"]
    assert sample(world, "lookalike_release_swaps_total") == 3


def test_a_request_keeps_its_release_and_the_old_one_goes_with_its_last_request(world):
    world.point("1")
    with world.follower.pin() as early:
        gone = weakref.ref(early)
        world.point("2")
        with world.follower.pin() as late:
            assert (early.version, late.version) == ("1", "2")
        assert sample(world, "lookalike_releases_held") == 2
        del early
    gc.collect()
    assert gone() is None and sample(world, "lookalike_releases_held") == 1


def test_a_broken_version_is_refused_and_the_old_one_keeps_answering(world, caplog):
    world.point("1")
    world.broken["2"] = CorruptArtifact("index.faiss has sha256 0, the manifest says 1")
    world.point("2")
    with world.follower.pin() as loaded:
        assert loaded.version == "1"
    status = world.follower.status()
    assert (status.serving, status.live, status.refused.version) == ("1", "2", "2")
    assert "index.faiss" in status.refused.reason and status.refused.error == "CorruptArtifact"
    assert sample(world, "lookalike_release_refused", version="2", error="CorruptArtifact") == 1
    assert "Still serving: 1" in caplog.text
    world.point("1")
    assert world.follower.status().refused is None
    assert sample(world, "lookalike_release_refused", version="2", error="CorruptArtifact") is None
    assert sample(world, "lookalike_release_refusals_total", error="CorruptArtifact") == 1


def test_a_broken_version_is_tried_again_after_growing_pauses_only(world):
    world.broken["2"] = CorruptArtifact("broken")
    tried = []
    for second in range(0, 16 * 3600, 30):
        world.time = float(second)
        before = len(world.loads)
        world.point("2")
        tried += [second] * (len(world.loads) - before)
    pauses = [later - earlier for earlier, later in pairwise(tried)]
    assert pauses[:4] == [60, 120, 240, 480] and pauses[-1] == LONGEST_RETRY_SECONDS
    assert world.follower.status().refused.attempts == len(tried)


def test_a_mended_version_is_taken_at_the_next_try(world):
    world.broken["2"] = CorruptArtifact("a mount is missing")
    world.point("2")
    del world.broken["2"]
    world.point("2")
    assert world.loads == ["2"]
    world.time = FIRST_RETRY_SECONDS
    world.point("2")
    with world.follower.pin() as loaded:
        assert loaded.version == "2"
    assert world.follower.status().refused is None


def test_a_version_that_is_judged_again_is_tried_at_once(world):
    world.broken["2"] = LookalikeError("no verdict")
    world.point("2", verdict=None)
    del world.broken["2"]
    world.point("2", verdict="passed")
    assert world.follower.status().serving == "2"


def test_an_unreachable_registry_changes_nothing_but_is_told(world, caplog):
    world.point("1")
    world.source.error = LookalikeError("registry: no route to host")
    for _ in range(3):
        world.follower.poll()
    with world.follower.pin() as loaded:
        assert loaded.version == "1"
    assert world.follower.status().registry_error == "registry: no route to host"
    assert sample(world, "lookalike_registry_errors_total") == 3
    assert caplog.text.count("no route to host") == 1
    world.source.error = None
    world.point("1")
    assert world.follower.status().registry_error is None


def test_an_unexpected_fault_does_not_end_the_thread_nor_reach_a_caller(world):
    world.broken["1"] = ZeroDivisionError("secret")
    world.point("1")
    with pytest.raises(NoReleaseYet, match="unexpected ZeroDivisionError") as caught, world.follower.pin():
        pass
    assert "secret" not in str(caught.value)


def test_the_thread_polls_and_ends(world):
    seen = threading.Event()
    world.source.live = seen.set
    world.follower.start()
    assert seen.wait(5)
    world.follower.stop()
    assert not world.follower._thread.is_alive()


# Planted faults on real releases: each must be refused, and the old release must go on answering.


def flip_a_byte(kit, release):
    path = release.index_dir / "index.faiss"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return release


def lose_the_verdict(kit, release):
    verdict_path(release.index_dir, release.verdict_sha256).unlink()
    return release


def without_a_verdict(kit, release):
    return replace(release, verdict_sha256=None)


def verdict_of_another(kit, release):
    check = Check(name="recall@10", passed=True, observed="1.0", bar="at least 0.95")
    other = Verdict(at=release.created_at, manifest_sha256="d" * 64, checks=(check,))
    write_verdict(release.index_dir, other)
    return replace(release, verdict_sha256=other.sha256)


def failed_verdict(kit, release):
    check = Check(name="recall@10", passed=False, observed="0.5", bar="at least 0.95")
    failed = Verdict(at=release.created_at, manifest_sha256=release.manifest_sha256, checks=(check,))
    write_verdict(release.index_dir, failed)
    return replace(release, verdict_sha256=failed.sha256)


def encoder_of_another_space(kit, release):
    kit.encoder = type(kit.encoder)("e")
    return replace(release, encoder_dir=release.encoder_dir.with_name("other"))


def failing_probe(kit, release):
    kit.encoder = type(kit.encoder)(twist=0.3)  # the same space by name, other vectors: another CPU or library
    return replace(release, encoder_dir=release.encoder_dir.with_name("other"))


def missing_file(kit, release):
    (release.index_dir / "items.arrow").unlink()
    return release


FAULTS = [
    (flip_a_byte, "CorruptArtifact", "index.faiss"),
    (missing_file, "CorruptArtifact", "items.arrow"),
    (lose_the_verdict, "NotPromotable", "missing"),
    (without_a_verdict, "NotPromotable", "no verdict"),
    (verdict_of_another, "NotPromotable", "judged artifact"),
    (failed_verdict, "NotPromotable", "recall@10"),
    (encoder_of_another_space, "SpaceMismatch", "space"),
    (failing_probe, "SpaceMismatch", "probe"),
]


@pytest.mark.parametrize(("plant", "error", "words"), FAULTS, ids=[fault.__name__ for fault, *_ in FAULTS])
def test_a_planted_fault_is_refused_and_the_old_release_answers(kit, serve, plant, error, words, caplog):
    caplog.set_level(logging.CRITICAL)
    kit.live_release = kit.release("1", "first")
    server = serve(kit)
    assert server.http.get("/readyz").json()["status"] == "ready"
    kit.live_release = plant(kit, kit.release("2", "second"))
    server.poll()
    answer = server.http.post("/v1/search", json={"parts": [{"text": "dog"}]})
    assert answer.status_code == 200 and answer.json()["release"] == "1"
    assert {hit["product"]["brand"] for hit in answer.json()["hits"]} == {"first"}
    ready = server.http.get("/readyz")
    body = ready.json()
    assert (ready.status_code, body["status"], body["release"], body["live"]) == (200, "degraded", "1", "2")
    assert body["refused"]["error"] == error and words in body["refused"]["reason"]
    metrics = server.http.get("/metrics").text
    assert f'lookalike_release_refused{{error="{error}",version="2"}} 1.0' in metrics
    assert 'lookalike_release_info{manifest_sha256="' in metrics and 'version="1"} 1.0' in metrics


def test_the_same_release_without_a_fault_is_taken_and_shares_the_encoder(kit, serve):
    kit.live_release = kit.release("1", "first")
    server = serve(kit)
    kit.live_release = kit.release("2", "second")
    server.poll()
    assert server.http.get("/readyz").json()["release"] == "2" and kit.opened == 1
    assert server.http.post("/v1/search", json={"parts": [{"text": "dog"}]}).json()["release"] == "2"


def test_a_first_release_that_is_broken_leaves_the_server_up_but_not_ready(kit, serve, caplog):
    caplog.set_level(logging.CRITICAL)
    kit.live_release = flip_a_byte(kit, kit.release("1", "first"))
    http = serve(kit).http
    assert http.get("/healthz").json() == {"status": "ok"}
    for answer in (http.get("/readyz"), http.post("/v1/search", json={"parts": [{"text": "dog"}]})):
        assert answer.status_code == 503 and answer.headers["retry-after"]
        assert "index.faiss" in answer.json()["detail"]
    assert http.get("/readyz").json()["refused"]["version"] == "1"


def test_a_cursor_of_another_release_has_expired(kit, serve):
    kit.live_release = kit.release("1", "first")
    server = serve(kit)
    query = {"parts": [{"text": "dog"}], "k": 2}
    cursor = server.http.post("/v1/search", json=query).json()["next_cursor"]
    assert server.http.post("/v1/search", json=query | {"cursor": cursor}).status_code == 200
    kit.live_release = kit.release("2", "second")
    server.poll()
    answer = server.http.post("/v1/search", json=query | {"cursor": cursor})
    assert answer.status_code == 410 and answer.json()["type"] == "urn:lookalike:problem:cursor-expired"
