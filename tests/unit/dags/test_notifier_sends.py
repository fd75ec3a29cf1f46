"""Failures and missed deadlines reach the log and the webhook; a webhook that is down changes nothing."""

import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest


@pytest.fixture
def webhook():
    """A server that keeps what it gets; (url, messages)."""
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((self.headers["Content-Type"], json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hooks/secret", got
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def said():
    """Lines of the notifier's own log, whatever Airflow did to the root."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    log = logging.getLogger("lookalike.notify")
    log.addHandler(handler)
    yield lines
    log.removeHandler(handler)


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def failure():
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", log_url="http://airflow/log")
    return {"ti": ti, "exception": ValueError("row_loss 0.2")}


def missed(state):
    return {"dag_run": {"dag_id": "d", "dag_run_id": "r", "state": state}, "deadline": {}}


def use(monkeypatch, url):
    monkeypatch.setenv("LOOKALIKE_NOTIFY__KIND", "webhook")
    monkeypatch.setenv("LOOKALIKE_NOTIFY__URL", url)


def test_a_failed_task_is_told(monkeypatch, webhook, said):
    from house.notifier import task_failed

    url, got = webhook
    use(monkeypatch, url)
    task_failed(failure())
    [(kind, message)] = got
    assert kind == "application/json"
    assert message.pop("at").endswith("+00:00")
    assert message == {
        "what": "d.t failed: row_loss 0.2", "dag": "d", "run": "r", "task": "t", "url": "http://airflow/log",
    }  # fmt: skip
    assert "row_loss 0.2" in said[0]


def test_a_missed_deadline_is_told(monkeypatch, webhook):
    from house.notifier import deadline_missed

    url, got = webhook
    use(monkeypatch, url)
    deadline_missed(context=missed("running"), within="8 h")
    [(_, message)] = got
    assert (message["what"], message["dag"], message["run"], message["task"]) == (
        "d has not ended within 8 h",
        "d",
        "r",
        None,
    )


@pytest.mark.parametrize("state", ["failed", "success"])
def test_a_run_that_has_ended_is_not_late(monkeypatch, webhook, state):
    from house.notifier import deadline_missed

    url, got = webhook
    use(monkeypatch, url)
    deadline_missed(context=missed(state), within="8 h")
    assert got == []


def test_by_default_it_is_a_log_line(webhook, said):
    from house.notifier import task_failed

    task_failed(failure())
    assert len(said) == 1 and not webhook[1]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/hooks/secret", "ftp://x"])
def test_a_webhook_that_cannot_be_reached_changes_nothing(monkeypatch, said, url):
    from house.notifier import task_failed

    use(monkeypatch, url)
    task_failed(failure())
    assert "row_loss" in said[0] and "nobody was told" in said[1]
    assert "secret" not in said[1]


def test_a_webhook_without_a_url_is_a_wrong_setting(monkeypatch):
    from lookalike.contracts.errors import SettingsError
    from lookalike.contracts.settings import load_settings

    monkeypatch.setenv("LOOKALIKE_NOTIFY__KIND", "webhook")
    with pytest.raises(SettingsError, match=r"needs notify\.url"):
        load_settings()


def test_airflow_can_find_the_callback_by_its_path(dags):
    from airflow.sdk._shared.module_loading import import_string

    from house.notifier import deadline_missed

    for dag in dags.values():
        for deadline in dag.deadline or []:
            assert import_string(deadline.callback.path) is deadline_missed
            assert set(deadline.callback.kwargs) == {"within"}
