"""The page's files keep what its content policy and its plainness promise, without starting a browser."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "lookalike" / "serving" / "page"
FILES = sorted(PAGE.iterdir())
SCRIPTS = [path for path in FILES if path.suffix == ".js"]
HTML = (PAGE / "index.html").read_text()


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_only_known_kinds_of_files_lie_there():
    assert {path.suffix for path in FILES} == {".html", ".css", ".js", ".svg"}


@pytest.mark.parametrize("path", FILES, ids=names(FILES))
def test_a_file_is_short_and_asks_nothing_of_strangers(path):
    text = path.read_text()
    assert text.count("\n") <= 300
    assert set(re.findall(r"https?://[^\s\"'`)]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert "@import" not in text


@pytest.mark.parametrize("path", SCRIPTS, ids=names(SCRIPTS))
def test_a_script_says_what_it_does_and_never_writes_markup(path):
    text = path.read_text()
    assert text.startswith("// ")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc", text)
    for imported in re.findall(r"from \"(.+?)\"", text):
        assert imported.startswith("./")
        assert (PAGE / imported).is_file()


def test_each_imported_name_is_exported():
    texts = {path.name: path.read_text() for path in SCRIPTS}
    imports = {
        (source, name.strip())
        for text in texts.values()
        for found, source in re.findall(r"import \{([^}]*)\} from \"\./(.+?)\"", text)
        for name in found.split(",")
        if name.strip()
    }
    for source, name in imports:
        exported = rf"export (?:async )?(?:function|class|const) {re.escape(name)}\b"
        assert re.search(exported, texts[source]), f"{source} does not export {name}"


def test_the_html_has_neither_inline_script_nor_inline_style():
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", HTML)
    assert re.findall(r"<script([^>]*)>(.*?)</script>", HTML, re.DOTALL) == [(' type="module" src="/page/page.js"', "")]


def test_every_file_that_the_html_names_is_there():
    named = set(re.findall(r"(?:src|href)=\"/page/([^\"]+)\"", HTML))
    assert named <= {path.name for path in FILES}
    assert named >= {"page.js", "page.css", "results.css", "favicon.svg"}


def test_every_id_that_a_script_asks_for_is_in_the_html():
    ids = re.findall(r"\sid=\"([^\"]+)\"", HTML)
    assert len(ids) == len(set(ids))
    made_by_script = {"detail-title"}
    asked = {name for path in SCRIPTS for name in re.findall(r"byId\(\"([^\"]+)\"\)", path.read_text())}
    assert asked <= set(ids) | made_by_script
