"""`lookalike plan`: figures for people and machines, the bounds that break, and plain words for wrong input."""

import json

import pytest
from typer.testing import CliRunner

from index_builder.recipes import list_recipes
from lookalike.cli.main import app
from lookalike.contracts.errors import SettingsError
from lookalike.line.quantities import (
    BYTES,
    MILLISECONDS,
    MOST_ITEMS,
    BadQuantity,
    as_bytes,
    as_time,
    quantity,
    share,
    whole,
)

WIDE = ("--items", "1e6", "--dim", "512", "--memory", "24GiB", "--recall", "0.9", "--p99", "10s")


def run(tmp_path, *arguments, as_json=True):
    options = ["--home", str(tmp_path), *(["--json"] if as_json else [])]
    return CliRunner().invoke(app, [*options, "plan", *arguments])


def told(tmp_path, *arguments):
    done = run(tmp_path, *arguments)
    return done.exit_code, json.loads(done.stdout)


def test_every_recipe_is_considered_and_one_chosen(tmp_path):
    code, report = told(tmp_path, *WIDE)
    assert code == 0
    assert sorted(each["recipe"] for each in report["recipes"]) == list_recipes()
    chosen = next(each for each in report["recipes"] if each["recipe"] == report["chosen"])
    assert chosen["holds"] and all(check["held"] and not check["change"] for check in chosen["checks"])
    assert chosen["build_seconds_in_all"] == pytest.approx(sum(chosen["build_seconds"].values()), abs=0.3)


def test_lists_tell_bytes_on_disk_and_in_memory_apart(tmp_path):
    _, report = told(tmp_path, *WIDE)
    lists = next(each for each in report["recipes"] if each["recipe"] == "ivf_pq")
    files = lists["files"]
    opened = lists["memory_bytes"] - files["index"] - files["centres"] - lists["process_bytes"]
    assert 2 * report["items"] <= opened < 5 * report["items"]  # the list of each row
    assert lists["disk_bytes"] == sum(files.values())
    assert lists["disk_bytes_at_peak"] > lists["disk_bytes"]
    assert set(lists["search"]) == {"nprobe", "k_factor"}
    assert set(lists["search_by_kind"]) == set(lists["recall"]) == {"pictures", "texts"}
    assert lists["warm"]["p50_ms"] <= lists["steady"]["p50_ms"] <= lists["cold"]["p50_ms"]
    assert lists["in_memory_when_steady"] == 1.0


def test_less_memory_leaves_room_for_fewer_of_the_finer_codes(tmp_path):
    wide = [value if value != "24GiB" else "300MiB" for value in WIDE]
    _, report = told(tmp_path, *wide)
    lists = next(each for each in report["recipes"] if each["recipe"] == "ivf_pq")
    assert 0 < lists["in_memory_when_steady"] < 1
    assert lists["warm"]["p50_ms"] < lists["steady"]["p50_ms"] < lists["cold"]["p50_ms"]


def test_what_no_recipe_holds_is_said_for_each_with_what_would_have_to_change(tmp_path):
    arguments = ("--items", "100e6", "--dim", "512", "--memory", "2GiB", "--recall", "0.95", "--p99", "20ms")
    code, report = told(tmp_path, *arguments)
    assert (code, report["chosen"]) == (1, None)
    for each in report["recipes"]:
        memory = next(check for check in each["checks"] if check["bound"] == "memory")
        assert not memory["held"] and memory["change"].startswith("allow --memory ")
    done = run(tmp_path, *arguments, as_json=False)
    assert done.exit_code == 1
    assert "no recipe holds these bounds for 100,000,000 vectors" in done.stdout
    for name in list_recipes():
        assert f"  {name}: memory (allow --memory " in done.stdout


def test_the_named_change_is_enough(tmp_path):
    arguments = ["--items", "1e6", "--dim", "512", "--memory", "24GiB", "--recall", "0.95", "--p99", "0.1ms"]
    code, report = told(tmp_path, *arguments)
    assert code == 1
    lists = next(each for each in report["recipes"] if each["recipe"] == "ivf_pq")
    time = next(check for check in lists["checks"] if check["bound"] == "p99")["expected"].replace(" ", "")
    number, unit = time.removesuffix("ms"), "ms"
    _, raised = told(tmp_path, *arguments[:-1], f"{float(number) * 1.01}{unit}")
    assert next(each for each in raised["recipes"] if each["recipe"] == "ivf_pq")["holds"]


def test_other_rates_give_other_times(tmp_path):
    from index_builder.rates import default_rates

    slow = default_rates().model_copy(update={"code_ns": 100.0, "machine": "a slow one"})
    (tmp_path / "rates.json").write_text(slow.model_dump_json())
    _, here = told(tmp_path, *WIDE)
    _, there = told(tmp_path, *WIDE, "--rates", str(tmp_path / "rates.json"))
    assert there["machine"] == "a slow one"
    assert there["recipes"][2]["warm"]["p50_ms"] > 2 * here["recipes"][2]["warm"]["p50_ms"]


def test_people_get_a_table_and_one_line(tmp_path):
    done = run(tmp_path, *WIDE, as_json=False)
    assert done.exit_code == 0
    for word in ("bytes per vector", "memory", "disk", "build", "p50", "recall@10", "held"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--items", "-5", ["--items", "-5", "from 1 to"]),
        ("--items", "1.5", ["--items", "whole number"]),
        ("--items", "many", ["--items", "no number"]),
        ("--items", "nan", ["--items", "no number"]),
        ("--items", "1e12", ["--items", f"{MOST_ITEMS:,}"]),
        ("--dim", "0", ["--dim", "from 1 to"]),
        ("--memory", "24", ["--memory", "no unit", "GiB"]),
        ("--memory", "24Gigs", ["--memory", "Gigs", "GiB"]),
        ("--memory", "-2GiB", ["--memory", "more than 0"]),
        ("--memory", "GiB", ["--memory", "no number"]),
        ("--p99", "20", ["--p99", "no unit", "ms"]),
        ("--p99", "20GiB", ["--p99", "GiB", "ms"]),
        ("--recall", "95", ["--recall", "at most 1"]),
        ("--recall", "95%", ["--recall", "0.95"]),
        ("--disk", "0GB", ["--disk", "more than 0"]),
        ("--build", "4", ["--build", "h"]),
        ("--rates", "absent.json", ["absent.json", "plan_rates.py"]),
    ],
)
def test_wrong_input_is_explained(tmp_path, option, value, words):
    done = run(tmp_path, *WIDE, option, value)
    assert isinstance(done.exception, BadQuantity | SettingsError)  # which `main` prints, with exit code 2
    for word in words:
        assert word in str(done.exception)


@pytest.mark.parametrize(
    ("text", "units", "expected"),
    [
        ("24GiB", BYTES, 24 * 2**30),
        ("70 GB", BYTES, 70e9),
        ("1.5e3MiB", BYTES, 1_500 * 2**20),
        ("20ms", MILLISECONDS, 20),
        ("0.02s", MILLISECONDS, 20),
        ("500us", MILLISECONDS, 0.5),
    ],
)
def test_quantities_are_read(text, units, expected):
    assert quantity("--x", text, units) == pytest.approx(expected)


def test_plain_numbers_are_read():
    assert (whole("--items", "100e6", MOST_ITEMS), whole("--items", "1_000", MOST_ITEMS)) == (100_000_000, 1_000)
    assert share("--recall", "1") == 1.0


def test_quantities_are_written_for_people():
    assert [as_bytes(size) for size in (12, 24 * 2**30, 1.5 * 2**20)] == ["12 B", "24 GiB", "1.5 MiB"]
    assert [as_time(seconds) for seconds in (0.0016, 1.5, 90, 9_000)] == ["1.6 ms", "1.5 s", "1.5 min", "2.5 h"]
