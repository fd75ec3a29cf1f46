"""An encoder is kept once per space, whole or not at all."""

import shutil

import pytest

from lookalike.contracts.errors import NotFound
from lookalike.releases import encoder_store
from lookalike.releases.encoder_store import keep_encoder


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "tiny"
    (folder / "deep").mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(b"weights")
    (folder / "deep" / "words.txt").write_text("apple")
    return folder


def test_all_files_are_copied_and_a_kept_encoder_stays(folder, tmp_path):
    kept = keep_encoder(folder, tmp_path / "encoders", "f" * 16)
    assert (kept / "weights.safetensors").read_bytes() == b"weights"
    assert (kept / "deep" / "words.txt").read_text() == "apple"
    (folder / "weights.safetensors").write_bytes(b"other")
    assert keep_encoder(folder, tmp_path / "encoders", "f" * 16) == kept
    assert (kept / "weights.safetensors").read_bytes() == b"weights"


def test_a_copy_that_breaks_leaves_nothing(folder, tmp_path, monkeypatch):
    def breaks(source, target, **_):
        shutil.copy(source / "weights.safetensors", target)
        raise OSError("disk full")

    monkeypatch.setattr(encoder_store.shutil, "copytree", breaks)
    with pytest.raises(OSError, match="disk full"):
        keep_encoder(folder, tmp_path / "encoders", "f" * 16)
    assert list((tmp_path / "encoders").iterdir()) == []


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(NotFound, match="nowhere"):
        keep_encoder(tmp_path / "nowhere", tmp_path / "encoders", "f" * 16)
