"""A reader never sees half a file or half a folder, and a failed write leaves nothing behind."""

import pytest

from lookalike.contracts.errors import LookalikeError
from lookalike.storage import atomic


def test_bytes_replace_the_old_file_in_one_step(tmp_path):
    path = tmp_path / "a" / "file"
    atomic.write_bytes(path, b"old")
    atomic.write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_a_folder_appears_only_when_its_writer_succeeds(tmp_path):
    target = tmp_path / "release"
    with pytest.raises(RuntimeError), atomic.new_directory(target) as folder:
        (folder / "part").write_text("half")
        assert not target.exists()
        raise RuntimeError("killed")
    assert list(tmp_path.iterdir()) == []
    with atomic.new_directory(target) as folder:
        (folder / "part").write_text("whole")
    assert (target / "part").read_text() == "whole"


def test_a_finished_folder_is_never_written_again(tmp_path):
    with atomic.new_directory(tmp_path / "r"):
        pass
    with pytest.raises(LookalikeError, match="never written again"), atomic.new_directory(tmp_path / "r"):
        pass
