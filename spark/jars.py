"""The five Delta JARs, fetched once and checked by sha256; a session then starts without any network.

Only `io.delta` is taken: the 28 further JARs that a resolver would add are older copies of what Spark ships. The
fetching is done by the Ivy that is in PySpark, called by itself, so that neither Maven nor a first Spark session is
needed, with Maven Central as its only source and its own folder (a half-filled Maven cache breaks Ivy).
"""

import hashlib
import importlib.util
import ssl
import struct
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from lookalike.contracts.errors import MissingPrerequisite
from lookalike.contracts.settings import Settings
from lookalike.storage.atomic import write_bytes
from spark.java import find_java

GROUP, VERSION = "io.delta", "4.4.0"
SHA256 = {
    "delta-spark_4.2_2.13": "27d4fd8b1f879535c573ed1c718177d6a27f24d3e626ba02e216369725721ead",
    "delta-storage": "c46735481fa8e326b0957be02b4420cbcab4b325bb08009b7f2045a95133f1cc",
    "delta-kernel-api": "ee9b5a14ac3b7efdff4d61a58478fe8eb0e5a3fbca43889dca7290795fe79a11",
    "delta-kernel-defaults": "225c975199e4718b38ee5b7e6da7f19e9585024262b2cec2656b32151a856b0b",
    "delta-kernel-unitycatalog": "cea22dfb4ac562b3cd27bf652697750e8336009d73fb06631363aaaad5345ffa",
}
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
    """The JARs in HOME/jars, fetched first if one is missing or is not what it should be.

    Raises MissingPrerequisite when they cannot be fetched; its message names the files and where to put them.
    """
    folder = settings.home.absolute() / "jars"
    if not all(_is_whole(folder, name) for name in SHA256):
        _fetch(folder, settings.home.absolute() / "java")
    return [folder / file_name(name) for name in SHA256]


def file_name(name: str) -> str:
    """File name of one of the JARs."""
    return f"{name}-{VERSION}.jar"


def _is_whole(folder: Path, name: str) -> bool:
    path = folder / file_name(name)
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == SHA256[name]


def _fetch(folder: Path, java_wrapper: Path) -> None:
    """Let Ivy fetch into a scratch folder, check every file, then put each in place in one step."""
    java = find_java(java_wrapper).home / "bin" / "java"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".ivy-", dir=folder) as scratch_name:
        scratch = Path(scratch_name)
        said = _run_ivy(java, scratch, [])
        if not _all_whole(scratch):
            # A proxy may sign with a company's own root, which Python usually knows and a bundled Java does not.
            said = _run_ivy(java, scratch, _python_trust(scratch))
        if not _all_whole(scratch):
            wanted = ", ".join(f"{file_name(name)} (sha256 {digest})" for name, digest in SHA256.items())
            raise MissingPrerequisite(
                f"the Delta JARs could not be fetched from Maven Central. Needed in {folder}, by hand if this machine "
                f"has no way out: {wanted}. Ivy's last words:\n{said[-1500:]}"
            )
        for name in SHA256:
            write_bytes(folder / file_name(name), (scratch / "got" / file_name(name)).read_bytes())


def _all_whole(scratch: Path) -> bool:
    return all(_is_whole(scratch / "got", name) for name in SHA256)


def _run_ivy(java: Path, scratch: Path, options: list[str]) -> str:
    """Run Ivy's own command line; its output (the answer is in the files)."""
    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise MissingPrerequisite("PySpark is not installed: `pip install 'lookalike[spark]'`")
    (scratch / "settings.xml").write_text(_SETTINGS)
    (scratch / "module.xml").write_text(
        _MODULE.format("".join(_DEPENDENCY.format(GROUP, name, VERSION) for name in SHA256))
    )
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
