"""Checksums read again from the disk: a flipped byte, a missing, a longer, a foreign file."""

import hashlib

import pytest

from lookalike.contracts.manifest import FileRecord
from lookalike.quality.artifact import bytes_on_disk, corrupt_files


@pytest.fixture
def artifact(bench, tmp_path):
    contents = {"index.faiss": b"vectors" * 1_000, "columns.arrow": b"rows"}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    files = {
        name: FileRecord(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data)) for name, data in contents.items()
    }
    return tmp_path, bench.healthy().manifest.model_copy(update={"files": files})


def test_files_as_written_have_no_fault(artifact):
    assert corrupt_files(*artifact) == []
    assert bytes_on_disk(artifact[0]) == 7_004


def test_a_flipped_byte_is_found(artifact):
    directory, manifest = artifact
    data = bytearray((directory / "index.faiss").read_bytes())
    data[3_456] ^= 1
    (directory / "index.faiss").write_bytes(data)
    (fault,) = corrupt_files(directory, manifest)
    assert fault.startswith("index.faiss: sha256")


def test_a_missing_and_a_cut_file_are_found(artifact):
    directory, manifest = artifact
    (directory / "columns.arrow").unlink()
    (directory / "index.faiss").write_bytes(b"short")
    assert [fault.split(":")[0] for fault in corrupt_files(directory, manifest)] == ["columns.arrow", "index.faiss"]


def test_a_name_that_leads_outside_is_a_fault(artifact):
    directory, manifest = artifact
    record = FileRecord(sha256="0" * 64, bytes=0)
    outside = manifest.model_copy(update={"files": {"../other": record}})
    assert corrupt_files(directory, outside) == ["../other: lies outside the artifact"]


def test_a_manifest_without_files_is_a_fault(artifact):
    directory, manifest = artifact
    assert corrupt_files(directory, manifest.model_copy(update={"files": {}}))
