"""The words and exit codes of `ingest --night`, `backfill`, `check` and `reembed`."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from lookalike.cli.console import Console
from lookalike.cli.main import app
from lookalike.cli.nights import parse_night, tell_checks
from lookalike.contracts.settings import load_settings
from lookalike.line.check_tables import Checked, TableChecks


def run(home, *arguments):
    return CliRunner().invoke(app, ["--json", "--home", str(home), *arguments])


def test_a_night_without_a_snapshot_is_no_fault(tmp_path):
    done = run(tmp_path, "ingest", "--night", "2026-11-20")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["snapshots"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ingest", "--night", "20th"], "write the UTC day like 2026-11-20"),
        (["ingest", "icons", "--night", "2026-11-20"], "not more than one of them"),
        (["ingest", "--must"], "--must belongs to --night"),
        (["backfill", "--from", "2026-11-20"], "--to"),
        (["backfill", "--from", "2026-11-20", "--to", "x"], "is not a night"),
        (["reembed", "plan"], "--encoder"),
        (["reembed", "run", "--items-per-second", "-1"], "items-per-second"),
    ],
)
def test_wrong_use_is_exit_2_and_says_what_is_allowed(tmp_path, arguments, said):
    done = run(tmp_path, *arguments)
    assert done.exit_code == 2
    assert said in " ".join(done.output.replace("│", " ").split())


def test_a_night_that_must_be_there_is_an_error(tmp_path):
    done = run(tmp_path, "ingest", "--night", "2026-11-20", "--must")
    assert "no snapshot of the night 2026-11-20" in str(done.exception)


def test_failed_expectations_are_exit_1_and_the_last_line_names_them(tmp_path, capsys):
    failed = ("at least 8 rows remain of 10 in live: observed 6", "title is not empty: 1 of 6 rows do not (e.g.  )")
    check = Checked("silver", 3, None, False, "17 of 19 expectations hold on 6 rows", failed, Path("docs"))
    with pytest.raises(typer.Exit) as stop:
        tell_checks(Console(load_settings(home=tmp_path), True), TableChecks("silver", False, (check,)))
    assert stop.value.exit_code == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["failed"] == list(failed)
    assert err.splitlines()[-1] == f"lookalike: check silver FAILED: {failed[0]}; {failed[1]}"


def test_a_night_is_a_day():
    assert parse_night("2026-02-28").day == 28
