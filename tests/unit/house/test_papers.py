"""The papers stay true: README and proofs name files and verbs that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAPERS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("paper", PAPERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(paper):
    for target in re.findall(r"\]\(([^)#:]+)\)", paper.read_text()):
        assert (paper.parent / target).exists(), f"{paper.name} links to {target}"


@pytest.mark.parametrize("paper", PAPERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_make_targets_exist(paper):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for named in re.findall(r"`make ([a-z-]+)", paper.read_text()):
        assert named in targets, f"{paper.name} names `make {named}`"


def test_every_verb_of_the_command_line_is_in_the_readme():
    from lookalike.cli.main import app

    readme = (ROOT / "README.md").read_text()
    verbs = [command.name or command.callback.__name__ for command in app.registered_commands]
    verbs += [group.name for group in app.registered_groups]
    assert len(verbs) >= 14
    for verb in verbs:
        assert f"lookalike {verb}" in readme, f"README does not show `lookalike {verb}`"


def test_ci_runs_the_test_command_of_the_readme():
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert "make test" in (ROOT / "README.md").read_text()


def test_every_proof_names_a_file_that_exists():
    rows = [line for line in (ROOT / "docs" / "proofs.md").read_text().splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 10
    for row in rows:
        for path in re.findall(r"((?:tests|bench|models)/[\w/.-]+\.\w+)", row):
            assert (ROOT / path).exists(), f"docs/proofs.md names {path}"
