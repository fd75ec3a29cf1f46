"""The command line answers wrong use in words, with exit code 2 and no traceback; `--help` needs no engine."""

import json
import subprocess
import sys

import pytest

from lookalike.cli import main
from lookalike.cli.main import parse_assignments
from lookalike.cli.search import parse_filter
from lookalike.contracts.errors import BadQuery, NotFound, SettingsError
from lookalike.contracts.query import Filter
from lookalike.storage.log.port import LogUnavailable


def run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "lookalike.cli", *arguments], cwd=cwd, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "gate.min_recall=1", "status"], ["gate.min_recall", "min_recall_at_10"]),
        (["--set", "gate", "status"], ["section.key=value"]),
        (["ingest", "nowhere"], ["nowhere", "snapshot.json"]),
        (["ingest"], ["lookalike catalogue fetch icons"]),
        (["search"], ["--picture FILE"]),
        (["search", "--picture", "absent.png"], ["absent.png", "No such file"]),
    ],
)
def test_wrong_use_is_explained(tmp_path, arguments, words):
    done = run("--home", "home", *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_an_unknown_verb_is_refused(tmp_path):
    done = run("serch", cwd=tmp_path)
    assert done.returncode == 2
    assert "serch" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_starts_no_engine(tmp_path):
    code = (
        "import sys; sys.argv = ['lookalike', '--help']\n"
        "from lookalike.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "engines = {'torch', 'pyspark', 'faiss', 'mlflow', 'great_expectations'} & set(sys.modules)\n"
        "assert not engines, engines"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "catalogue" in done.stdout


def test_assignments_nest():
    assert parse_assignments(["gate.seed=3", "home=x"]) == {"gate": {"seed": "3"}, "home": "x"}
    with pytest.raises(SettingsError):
        parse_assignments(["seed"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("brand=noto|twemoji", Filter(field="brand", any_of=("noto", "twemoji"))),
        ("tags!=flag", Filter(field="tags", none_of=("flag",))),
        ("price>=2.5", Filter(field="price", at_least=2.5)),
        ("price<=9", Filter(field="price", at_most=9)),
    ],
)
def test_filters_are_read(text, expected):
    assert parse_filter(text) == expected


@pytest.mark.parametrize("text", ["brand", "price>=cheap"])
def test_a_filter_that_says_nothing_is_refused(text):
    with pytest.raises(BadQuery):
        parse_filter(text)


def test_json_comes_alone_on_stdout(tmp_path):
    done = run("--home", "home", "releases", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"releases": [], "ledger": []}


@pytest.mark.parametrize(
    ("fault", "code", "told"),
    [
        (LogUnavailable("the broker is away"), 75, "lookalike: the broker is away"),
        (NotFound("no such release"), 2, "lookalike: no such release"),
        (ZeroDivisionError("ours"), 70, "Traceback"),
    ],
)
def test_the_exit_code_says_whether_trying_again_may_help(monkeypatch, capsys, fault, code, told):
    def fails(*_, **__):
        raise fault

    monkeypatch.setattr(main, "app", fails)
    monkeypatch.setattr("sys.argv", ["lookalike", "status"])
    with pytest.raises(SystemExit) as stop:
        main.main()
    assert stop.value.code == code
    assert told in capsys.readouterr().err
