"""The rules of CONTRIBUTING.md that a machine can check: size, first docstrings, names, engines in their folders."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("lookalike", "models", "index_builder", "spark", "beam", "dags")
MAX_MODULE_LINES, MAX_FUNCTION_LINES = 320, 60
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_module_is_small_and_says_what_it_is_for(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "no docstring opens the module"
    assert len(text.splitlines()) <= MAX_MODULE_LINES
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_names_say_what_is_inside(path):
    assert path.stem not in {"utils", "util", "common", "helpers", "manager", "misc"}


ENGINES = {
    "pyspark": "spark",
    "delta": "spark",
    "torch": "models",
    "faiss": "index_builder",
    "apache_beam": "beam",
}


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_an_engine_is_imported_in_its_folder_only(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.append(node.module)
        for name in names:
            home = ENGINES.get(name.split(".")[0])
            assert home is None or path.is_relative_to(ROOT / home), f"{name} belongs into {home}/"


def test_the_docker_folder_holds_no_python():
    # The docker SDK owns the name; a Python file would make the folder importable in its place.
    assert not list((ROOT / "docker").rglob("*.py"))
