"""The contact sheet in Airflow's pages: the route that serves it, to whom, and the question that shows it."""

import ast
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urljoin

import pytest

from house.contact_sheet import ContactSheetLink, comparison, sheet_address
from lookalike.contracts.settings import load_settings
from lookalike.line.compare import SHEET
from lookalike.quality.evidence import run_name

ROOT = Path(__file__).parents[3]
PLUGINS = ROOT / "dags" / "plugins"
RUN = run_name(datetime(2026, 11, 23, tzinfo=UTC), "fc083050ed3b" + "0" * 52)
PICTURE = b"\x89PNG\r\n\x1a\n not for everybody"
# The token of the cookie, as the browser sends it with a request for a picture, and what its owner may read.
MAY = {"ada": {"index_release"}, "grace": {"catalogue_nightly"}}


class AuthManager:
    """Airflow's question to whoever manages users; everything between it and the route is Airflow's own."""

    async def get_user_from_token(self, token):
        from jwt import InvalidTokenError

        if token not in MAY:
            raise InvalidTokenError
        return token

    def is_authorized_dag(self, *, method, details, user, access_entity=None):
        return method == "GET" and details.id in MAY[user]


@pytest.fixture
def plugin():
    """The plugin as Airflow loads it from its folder."""
    from airflow._shared.plugins_manager.plugins_manager import _load_plugins_from_plugin_directory

    found, errors = _load_plugins_from_plugin_directory(str(PLUGINS))
    assert not errors
    assert len(found) == 1
    return found[0]


@pytest.fixture
def client(plugin, tmp_path, monkeypatch):
    """An API server below the path `/airflow`, over a home with one contact sheet."""
    from airflow.api_fastapi.core_api import security
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    monkeypatch.setattr(security, "get_auth_manager", AuthManager)
    monkeypatch.setattr(security.DagModel, "get_team_name", lambda dag_id: None)  # asks the database
    monkeypatch.setenv("LOOKALIKE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    sheet = load_settings().reports_root / "compare" / RUN / SHEET
    sheet.parent.mkdir(parents=True)
    sheet.write_bytes(PICTURE)
    server = FastAPI(root_path="/airflow")
    for each in plugin.fastapi_apps:
        server.mount(each["url_prefix"], each["app"])
    return TestClient(server, base_url="http://house/airflow/")


@pytest.fixture
def document(tmp_path):
    """What `lookalike --json compare` prints."""
    return {
        "version": "2",
        "live": "1",
        "passed": True,
        "metrics": [{"name": "recall_at_10", "candidate": "0.991", "live": "0.990", "bar": "0.95", "passed": True}],
        "questions": 200,
        "shared": 0.95,
        "changed": [{"question": "words: shoe", "shared": 3, "live": ["a", "b"], "candidate": ["b", "c"]}],
        "sheet": str(tmp_path / "reports" / "compare" / RUN / SHEET),
    }


def get(client, address, user="ada"):
    client.cookies.clear()
    if user is not None:
        client.cookies.set("_token", user)
    return client.get(address)


def test_who_may_read_the_dag_gets_the_very_file(client, document):
    answer = get(client, sheet_address(document))
    assert answer.status_code == 200, answer.text
    assert answer.content == PICTURE
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"].startswith("private")


@pytest.mark.parametrize(("user", "code"), [(None, 401), ("eve", 403), ("grace", 403)])
@pytest.mark.parametrize("run", [RUN, "20260101T000000000000Z-000000000000"])
def test_nobody_else_learns_even_whether_it_is_there(client, user, code, run):
    answer = get(client, f"lookalike/compare/{run}/{SHEET}", user)
    assert answer.status_code == code
    assert PICTURE not in answer.content


@pytest.mark.parametrize(
    "below",
    [
        f"%2e%2e/{SHEET}",
        f"..%2f..%2f{SHEET}",
        f"{RUN}%2f..%2f..%2f..%2f{SHEET}",
        f"%2fetc/{SHEET}",
        f"{RUN}%00/{SHEET}",
        f"{RUN}%0a/{SHEET}",
        f"{RUN}/%2e%2e%2f%2e%2e%2f{SHEET}",
        f"{RUN}/other.png",
        f"{RUN}/",
        RUN,
        "",
    ],
)
def test_no_other_file_is_served(client, tmp_path, below):
    for folder in (tmp_path, tmp_path / "reports", tmp_path / "reports" / "compare", tmp_path / "reports" / "gate"):
        folder.mkdir(exist_ok=True)
        (folder / SHEET).write_bytes(b"a secret")
    (tmp_path / "reports" / "compare" / RUN / "other.png").write_bytes(b"a secret")
    answer = get(client, f"lookalike/compare/{below}")
    assert answer.status_code == 404
    assert b"secret" not in answer.content


def test_a_sheet_that_is_gone_is_named_with_what_to_do(client, tmp_path):
    sheet = tmp_path / "reports" / "compare" / RUN / SHEET
    sheet.unlink()
    answer = get(client, f"lookalike/compare/{RUN}/{SHEET}")
    assert answer.status_code == 404
    assert str(sheet) in answer.json()["detail"]
    assert "LOOKALIKE_HOME" in answer.json()["detail"]


def test_what_keeps_the_server_from_reading_is_said(client, monkeypatch, tmp_path):
    sheet = tmp_path / "reports" / "compare" / RUN / SHEET
    sheet.unlink()
    sheet.mkdir()
    unreadable = get(client, f"lookalike/compare/{RUN}/{SHEET}")
    assert (unreadable.status_code, "directory" in unreadable.text) == (503, True)
    monkeypatch.setenv("LOOKALIKE_GATE__MAX_ROW_LOSS", "much")
    wrong = get(client, f"lookalike/compare/{RUN}/{SHEET}")
    assert wrong.status_code == 503
    assert "LOOKALIKE_GATE__MAX_ROW_LOSS" in wrong.json()["detail"]


def test_the_address_holds_below_any_path_and_airflow_takes_the_route(plugin, document):
    from airflow.api_fastapi.app import RESERVED_URL_PREFIXES

    address = sheet_address(document)
    for base in ("http://house/", "http://house/airflow/"):
        assert urljoin(base, address) == f"{base}lookalike/compare/{RUN}/{SHEET}"
    (app,) = plugin.fastapi_apps
    assert f"/{address}".startswith(app["url_prefix"] + "/")
    assert not app["url_prefix"].startswith(tuple(RESERVED_URL_PREFIXES))


def test_loading_the_plugin_loads_no_web_framework():
    # Every task of the house loads it.
    tree = ast.parse((PLUGINS / "lookalike_pictures.py").read_text())
    names = [node.module for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert set(names) == {"functools", "typing", "airflow.plugins_manager"}


def images(text):
    """(source, text instead, what a click opens) of each picture, as another reader of Markdown finds them."""
    from markdown_it import MarkdownIt

    for block in MarkdownIt("commonmark").enable("table").parse(text):
        link = None
        for token in block.children or []:
            link = token.attrGet("href") if token.type == "link_open" else link
            if token.type == "image":
                yield token.attrGet("src"), token.content, link


def question(dags, document):
    ask = dags["index_release"].get_task("ask")
    pulled = {"merge": {"version": "2"}, "compare": document}
    ti = SimpleNamespace(xcom_pull=lambda task_ids, key=None: pulled[task_ids])
    return ask.render_template(ask.body, {"ti": ti}, dags["index_release"].get_template_env())


def test_the_question_shows_the_sheet_before_the_figures(dags, document):
    text = question(dags, document)
    address = f"lookalike/compare/{RUN}/{SHEET}"
    (picture,) = images(text)
    assert (picture[0], picture[2]) == (address, address)
    assert "named above" in picture[1]
    order = ["Release **2**", f"- **sheet**: {document['sheet']}", f"]({address})", "| recall_at_10 | 0.991", "| words"]
    assert sorted(order, key=text.index) == order
    assert "- **passed**: True" in text


@pytest.mark.parametrize("sheet", [None, "", "/elsewhere/sheet.png", f"/reports/compare/{RUN}/..", 7])
def test_a_question_without_a_sheet_still_has_all_figures(dags, document, sheet):
    text = question(dags, document | {"sheet": sheet})
    assert not list(images(text))
    assert "| recall_at_10 | 0.991 | 0.990 | 0.95 | True |" in text
    assert "| words: shoe | 3 | a, b | b, c |" in text
    assert comparison("nothing") == "- nothing"


def test_the_task_has_a_button_to_its_sheet(dags, document, monkeypatch):
    from airflow.sdk.execution_time.xcom import XCom
    from airflow.serialization.serialized_objects import DagSerialization

    compare = dags["index_release"].get_task("compare")
    (link,) = compare.operator_extra_links
    left = {("compare", "return_value"): document}
    monkeypatch.setattr(XCom, "get_value", lambda *, ti_key, key: left.get((ti_key.task_id, key)))
    key = SimpleNamespace(task_id="compare")
    assert link.get_link(compare, ti_key=key) == f"lookalike/compare/{RUN}/{SHEET}"
    left.clear()
    assert link.get_link(compare, ti_key=key) == ""
    read = DagSerialization.from_dict(DagSerialization.to_dict(dags["index_release"]))
    assert list(read.get_task("compare").extra_links) == [ContactSheetLink.name]
    assert not any(task.extra_links for task in read.tasks if task.task_id != "compare")


def test_the_image_finds_the_plugin_and_draws_sheets_as_wide_as_their_page(document):
    from airflow.api_fastapi.common.types import Theme

    from lookalike.line.airflow_home import THEME

    text = (ROOT / "docker" / "airflow.Dockerfile").read_text()
    assert "AIRFLOW__CORE__PLUGINS_FOLDER=/opt/airflow/dags/plugins" in text
    assert re.search(r"^COPY .*dags /opt/airflow/dags$", text, re.MULTILINE)
    assert json.loads(re.search(r"AIRFLOW__API__THEME='(.*)'$", text, re.MULTILINE)[1]) == THEME
    (selector,) = Theme.model_validate(THEME).globalCss
    assert sheet_address(document).startswith(re.fullmatch(r"img\[src\^=(\w+)\]", selector)[1])
