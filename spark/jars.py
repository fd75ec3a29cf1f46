"""JARs fetched once from Maven Central and checked by sha256: Delta's five for Spark, and any other list.

Of Delta only `io.delta` is taken: the 28 further JARs that a resolver would add are older copies of what Spark ships.
The fetching is done by the Ivy that is in PySpark, called by itself, so that neither Maven nor a first Spark session
is needed, with Maven Central as its only source and its own folder (a half-filled Maven cache breaks Ivy).
"""

import hashlib
import importlib.util
import ssl
import struct
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lookalike.contracts.errors import MissingPrerequisite
from lookalike.contracts.settings import Settings
from lookalike.storage.atomic import write_bytes
from spark.java import find_java


@dataclass(frozen=True)
class Jar:
    """One file of Maven Central, and the digest that it must have."""

    group: str
    name: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """Its name in a folder of JARs."""
        return f"{self.name}-{self.version}.jar"


_DELTA = {
    "delta-spark_4.2_2.13": "27d4fd8b1f879535c573ed1c718177d6a27f24d3e626ba02e216369725721ead",
    "delta-storage": "c46735481fa8e326b0957be02b4420cbcab4b325bb08009b7f2045a95133f1cc",
    "delta-kernel-api": "ee9b5a14ac3b7efdff4d61a58478fe8eb0e5a3fbca43889dca7290795fe79a11",
    "delta-kernel-defaults": "225c975199e4718b38ee5b7e6da7f19e9585024262b2cec2656b32151a856b0b",
    "delta-kernel-unitycatalog": "cea22dfb4ac562b3cd27bf652697750e8336009d73fb06631363aaaad5345ffa",
}
DELTA_JARS = tuple(Jar("io.delta", name, "4.4.0", digest) for name, digest in _DELTA.items())
FETCH_SECONDS = 300

_SETTINGS = """<ivysettings>
  <settings defaultResolver="central"/>
  <resolvers><ibiblio name="central" m2compatible="true"/></resolvers>
</ivysettings>"""
_MODULE = """<ivy-module version="2.0">
  <info organisation="lookalike" module="jars"/>
  <dependencies>{}</dependencies>
</ivy-module>"""
_DEPENDENCY = '<dependency org="{}" name="{}" rev="{}" transitive="false" conf="default->master"/>'


def delta_jars(settings: Settings) -> list[Path]:
    """The JARs of Delta in HOME/jars; see `fetch_jars`."""
    home = settings.home.absolute()
    return fetch_jars(DELTA_JARS, home / "jars", home / "java")


def fetch_jars(jars: Sequence[Jar], folder: Path, java_wrapper: Path) -> list[Path]:
    """The paths of `jars` in `folder`, fetched first if one is missing or is not what it should be.

    `java_wrapper` is handed to `find_java`. Raises MissingPrerequisite when they cannot be fetched; its message names
    the files and where to put them.
    """
    if not _all_whole(folder, jars):
        _fetch(jars, folder, java_wrapper)
    return [folder / jar.file_name for jar in jars]


def _all_whole(folder: Path, jars: Sequence[Jar]) -> bool:
    return all(_is_whole(folder / jar.file_name, jar) for jar in jars)


def _is_whole(path: Path, jar: Jar) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == jar.sha256


def _fetch(jars: Sequence[Jar], folder: Path, java_wrapper: Path) -> None:
    """Let Ivy fetch into a scratch folder, check every file, then put each in place in one step."""
    java = find_java(java_wrapper).home / "bin" / "java"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".ivy-", dir=folder) as scratch_name:
        scratch = Path(scratch_name)
        said = _run_ivy(java, scratch, jars, [])
        if not _all_whole(scratch / "got", jars):
            # A proxy may sign with a company's own root, which Python usually knows and a bundled Java does not.
            said = _run_ivy(java, scratch, jars, _python_trust(scratch))
        if not _all_whole(scratch / "got", jars):
            wanted = ", ".join(f"{jar.group}:{jar.file_name} (sha256 {jar.sha256})" for jar in jars)
            raise MissingPrerequisite(
                f"JARs could not be fetched from Maven Central. Needed in {folder}, by hand if this machine "
                f"has no way out: {wanted}. Ivy's last words:\n{said[-1500:]}"
            )
        for jar in jars:
            write_bytes(folder / jar.file_name, (scratch / "got" / jar.file_name).read_bytes())


def _run_ivy(java: Path, scratch: Path, jars: Sequence[Jar], options: list[str]) -> str:
    """Run Ivy's own command line; its output (the answer is in the files)."""
    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise MissingPrerequisite("PySpark is not installed: `pip install 'lookalike[spark]'`")
    (scratch / "settings.xml").write_text(_SETTINGS)
    dependencies = "".join(_DEPENDENCY.format(jar.group, jar.name, jar.version) for jar in jars)
    (scratch / "module.xml").write_text(_MODULE.format(dependencies))
    command = [
        str(java), *options, *_proxy_options(), "-cp", str(Path(spec.origin).parent / "jars" / "*"),
        "org.apache.ivy.Main", "-settings", str(scratch / "settings.xml"), "-cache", str(scratch / "cache"),
        "-ivy", str(scratch / "module.xml"), "-retrieve", str(scratch / "got" / "[artifact]-[revision].[ext]"),
    ]  # fmt: skip
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer within {FETCH_SECONDS} s"
    return run.stdout + run.stderr


def _proxy_options() -> list[str]:
    """The proxies that Python would use, in Java's words."""
    options = []
    for scheme in ("http", "https"):
        proxy = urlsplit(urllib.request.getproxies().get(scheme, ""))
        if proxy.hostname:
            options += [f"-D{scheme}.proxyHost={proxy.hostname}", f"-D{scheme}.proxyPort={proxy.port or 80}"]
    return options


def _python_trust(scratch: Path) -> list[str]:
    """Java options that trust the authorities which Python trusts on this machine."""
    authorities = ssl.create_default_context().get_ca_certs(binary_form=True)
    store = scratch / "trust.jks"
    store.write_bytes(trust_store(authorities, "changeit"))
    return [f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStoreType=JKS"]


def trust_store(authorities: list[bytes], password: str) -> bytes:
    """A Java key store (JKS, version 2) of DER certificates: entries, then SHA-1 over password, a constant and them."""
    now = int(time.time() * 1000)
    body = struct.pack(">IIi", 0xFEEDFEED, 2, len(authorities))
    for number, certificate in enumerate(authorities):
        alias = f"ca{number}".encode()
        body += struct.pack(">iH", 2, len(alias)) + alias + struct.pack(">q", now)
        body += struct.pack(">H", 5) + b"X.509" + struct.pack(">i", len(certificate)) + certificate
    return body + hashlib.sha1(password.encode("utf-16-be") + b"Mighty Aphrodite" + body).digest()
