"""One Spark session for every folder of integration tests, so that no folder depends on which came first.

A JVM lives as long as the process, and its workers see the environment of the moment it was started: what they import
is given to the session itself.
"""

import sys
from pathlib import Path

import pytest

from lookalike.contracts.settings import load_settings

CACHED_JARS = Path(__file__).parents[2] / ".cache" / "spark-tests"
TINY_ENCODER = Path(__file__).parent / "spark" / "tiny_encoder.py"


@pytest.fixture(scope="session")
def spark_session():
    """The session; JARs are fetched once into the checkout's cache. Tests and workers may import `tiny_encoder`."""
    from spark.session import start, stop

    session = start(load_settings(home=CACHED_JARS, spark={"master": "local[2]"}), "lookalike-tests")
    session.sparkContext.addPyFile(str(TINY_ENCODER))
    sys.path.insert(0, str(TINY_ENCODER.parent))
    yield session
    stop()
