"""One way to tell somebody: a log line or a webhook, as `settings.notify` says. It never makes a task fail.

Airflow calls `task_failed` when a task has failed for good and `deadline_missed` when a run is late.
"""

import json
import logging
import urllib.request
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from lookalike.contracts.settings import load_settings

LOG = logging.getLogger("lookalike.notify")
TIMEOUT_SECONDS = 5.0
ENDED = frozenset({"success", "failed"})


def notify(what: str, dag: str, run: str, task: str | None, url: str | None) -> None:
    """Send one message: to the log, and as JSON {what, dag, run, task, url, at} to the webhook where one is set."""
    message = {"what": what, "dag": dag, "run": run, "task": task, "url": url, "at": datetime.now(UTC).isoformat()}
    LOG.error("%s", json.dumps(message, ensure_ascii=False))
    try:
        settings = load_settings().notify
        if settings.kind == "webhook" and settings.url is not None:
            _post(settings.url, message)
    except Exception as error:
        # Whatever keeps a message from going out must not hide or change what it was about.
        LOG.warning("nobody was told: %s: %s", type(error).__name__, error)


def _post(url: str, message: dict[str, Any]) -> None:
    body = json.dumps(message, ensure_ascii=False).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            LOG.info("told %s (%s)", urlsplit(url).hostname, answer.status)
    except OSError as error:
        # The path of a webhook is often its secret: only the host is named.
        raise OSError(f"webhook at {urlsplit(url).hostname}: {error}") from None


def task_failed(context: Any) -> None:
    """`on_failure_callback` of every task."""
    instance = context["ti"]
    error = context.get("exception")
    what = f"{instance.dag_id}.{instance.task_id} failed: {error or 'see its log'}"
    notify(what, instance.dag_id, instance.run_id, instance.task_id, getattr(instance, "log_url", None))


def deadline_missed(context: dict[str, Any], within: str) -> None:
    """Callback of a deadline; `context` is the small one that Airflow's scheduler makes for it.

    Airflow forgets the deadlines of runs that succeed, not of those that fail: they are not late, and were told of.
    """
    run = context["dag_run"]
    dag, name = run["dag_id"], run["dag_run_id"]
    if run["state"] in ENDED:
        LOG.info("%s %s is %s: nobody is told that it is late", dag, name, run["state"])
        return
    notify(f"{dag} has not ended within {within}", dag, name, None, None)
