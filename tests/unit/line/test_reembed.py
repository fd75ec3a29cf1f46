"""The pace of a limited embedding task, which spaces a night embeds in, and one re-embed at a time."""

import hashlib
from dataclasses import replace
from types import SimpleNamespace

import pyarrow as pa
import pytest

from lookalike.contracts.encoder import PACKAGED
from lookalike.contracts.errors import NotFound
from lookalike.contracts.settings import EncoderSettings, IntakeSettings, load_settings
from lookalike.contracts.space import EmbeddingSpace
from lookalike.line import reembed
from lookalike.releases import encoder_in_use
from lookalike.releases.release import Alias
from spark import embed_rows, embed_spaces


def space_of(name: str) -> EmbeddingSpace:
    digest = hashlib.sha256(name.encode()).hexdigest()
    return EmbeddingSpace(
        encoder=name, weights_sha256=digest, preprocessing_sha256=digest, tokenizer_sha256=digest, dim=2
    )


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.mark.parametrize(("rate", "seconds"), [(5.0, 8.0), (1000.0, 0.1), (0.0, 0.1)])
def test_a_task_is_as_fast_as_its_limit_and_no_faster(monkeypatch, rate, seconds):
    clock, space = Clock(), space_of("a")
    monkeypatch.setattr(embed_rows, "time", clock)
    monkeypatch.setattr(embed_rows, "open_checked", lambda *arguments: SimpleNamespace(space=space))
    monkeypatch.setattr(embed_rows, "load", lambda job, encoder, row: row["content_hash"])

    def encode(encoder, group):
        clock.now += 0.01  # work counts as time, and at 1000/s the ten batches are slower than the limit
        return group

    monkeypatch.setattr(embed_rows, "encode", encode)
    job = embed_rows.EmbedJob(
        source=None, encoder=EncoderSettings(device="cpu"), fingerprint=space.fingerprint, pictures_root="",
        limits=IntakeSettings(), batch_size=4, decode_threads=2,
    )  # fmt: skip
    rows = pa.RecordBatch.from_pylist([{"content_hash": str(n), "image_paths": []} for n in range(40)])
    told = []
    out = list(embed_rows.embed_rows(replace(job, pictures_per_second=rate), told.append, [rows]))
    assert [each for group in out for each in group] == [str(n) for n in range(40)]
    assert sum(told) == 40
    assert clock.now - 100.0 == pytest.approx(seconds)


@pytest.fixture
def registry(monkeypatch):
    """What the registry says: `live`, `previous` and `incoming`, as folders named by the encoder."""
    said = SimpleNamespace(live=None, previous=None, incoming=None)

    def release(name):
        folder = getattr(said, name)
        return folder and SimpleNamespace(space=space_of(folder).fingerprint, encoder_dir=folder, version="1")

    opened = SimpleNamespace(
        alias=release, live=lambda: release(Alias.LIVE), incoming_encoder=lambda: said.incoming
    )  # fmt: skip
    for module in (embed_spaces, encoder_in_use, reembed):
        monkeypatch.setattr(module, "Registry", lambda settings: opened)
    for module in (embed_spaces, encoder_in_use):
        monkeypatch.setattr(module, "has_registry", lambda settings: True)

    def open_encoder(path, device, threads=0):
        if path == "broken":
            raise NotFound("no weights")
        return SimpleNamespace(space=space_of(path))

    monkeypatch.setattr("models.encoders.open_encoder", open_encoder)
    return said


def test_a_night_embeds_in_every_space_in_use_once(registry, tmp_path, caplog):
    settings = load_settings(home=tmp_path, encoder={"path": "a"})
    assert embed_spaces.encoders_in_use(settings) == ["a"]
    registry.live, registry.previous, registry.incoming = "b", "d", "c"
    assert embed_spaces.encoders_in_use(settings) == ["a", "b", "d", "c"]
    assert embed_spaces.encoders_to_build(settings) == ["a", "b"]
    registry.live, registry.previous, registry.incoming = "a", "a", "a"
    assert embed_spaces.encoders_in_use(settings) == ["a"]
    registry.previous, registry.incoming = "broken", "c"
    assert embed_spaces.encoders_in_use(settings) == ["a", "c"]
    assert "the encoder in broken cannot be opened" in caplog.text
    registry.live = "broken"
    with pytest.raises(NotFound):
        embed_spaces.encoders_in_use(load_settings(home=tmp_path))


def test_without_the_setting_nights_follow_what_is_live_to_and_fro(registry, tmp_path):
    settings = load_settings(home=tmp_path)
    assert encoder_in_use.encoder_in_use(settings) == PACKAGED
    registry.live = "a"
    assert encoder_in_use.encoder_in_use(settings) == "a"
    registry.live, registry.previous = "b", "a"
    assert embed_spaces.encoders_in_use(settings) == ["b", "a"]
    assert embed_spaces.encoders_to_build(settings) == ["b"]
    registry.live, registry.previous = "a", "b"
    assert embed_spaces.encoders_in_use(settings) == ["a", "b"]
    assert encoder_in_use.encoder_in_use(load_settings(home=tmp_path, encoder={"path": "c"})) == "c"


def test_before_the_first_release_no_registry_is_made(tmp_path):
    settings = load_settings(home=tmp_path)
    assert encoder_in_use.encoder_in_use(settings) == PACKAGED
    assert list(tmp_path.iterdir()) == []


def test_one_reembed_at_a_time_and_none_without_a_name(registry, tmp_path):
    settings = load_settings(home=tmp_path)
    with pytest.raises(NotFound, match="no re-embed is under way"):
        reembed.run_reembed(settings, None, None)
    registry.live, registry.incoming = "a", "b"
    with pytest.raises(reembed.AnotherEncoderIncoming, match=r"b .* is incoming already"):
        reembed.run_reembed(settings, "c", None)
    registry.incoming = "a"  # by a hand in MLflow that no server has seen yet
    reembed._require_no_other(settings, space_of("c"))
