"""The operator behind every task: a command of `lookalike`, run as it would be by hand with the same words.

It runs as a process beside the worker, so that torch or Spark never meet Airflow in one interpreter, and so that a
verb's memory is given back when it ends. Its log lines are the task's log; its JSON document is the task's result.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from airflow.sdk import BaseOperator, BaseOperatorLink, Context
from airflow.sdk.exceptions import AirflowFailException

from house.answer import read_document, require_success

WATCH = Path(__file__).with_name("watch.py")
REMEMBERED_LINES = 200
LOGGED_CHARACTERS = 4_000
# A verb needs none of Airflow's own secrets (database, keys, connections).
SECRET_PREFIXES = ("AIRFLOW__", "_AIRFLOW_", "AIRFLOW_CONN_", "AIRFLOW_VAR_")
# Without a terminal a message would be broken at 80 characters, and the last line be only its end.
LINE_WIDTH = "2000"


class Step(BaseOperator):
    """`lookalike WORDS` as a task. Words are templates; one that renders to nothing is left out.

    each: the mapped value (`Step.partial(…).expand(each=…)`), in words as `{{ task.each }}`.
    maps: a list in the answer that is to be mapped over: it becomes the task's result, and every other field of the
    answer an XCom of that name, because Airflow maps over results only.
    links: buttons on the task's page.
    """

    template_fields: Sequence[str] = ("words",)
    ui_color: str = "#dcebf7"
    # Between SIGTERM and SIGKILL of the command; the worker waits a little longer for the watch itself.
    grace_seconds: ClassVar[float] = 10.0
    margin_seconds: ClassVar[float] = 5.0

    def __init__(
        self,
        *,
        words: Sequence[str],
        each: Any = None,
        maps: str | None = None,
        links: Sequence[BaseOperatorLink] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.operator_extra_links = tuple(links)
        self.words = words
        self.each = each
        self.maps = maps
        self._process: subprocess.Popen[str] | None = None

    def execute(self, context: Context) -> Any:
        """Run the command to its end; its JSON document. Raises as `house.answer.require_success` says."""
        words = [str(word) for word in self.words if str(word)]
        document = self.run_command(words)
        if self.maps is None:
            return document
        if not isinstance(document, dict) or not isinstance(document.get(self.maps), list):
            raise AirflowFailException(f"`lookalike {shlex.join(words)}` answers no list {self.maps!r}: {document!r}")
        for key, value in document.items():
            if key != self.maps:
                context["ti"].xcom_push(key, value)
        return document[self.maps]

    def command(self, words: list[str]) -> list[str]:
        """The program with its arguments: `lookalike` of this very environment."""
        return [sys.executable, "-m", "lookalike.cli", "--json", *words]

    def run_command(self, words: list[str]) -> Any:
        """One run: its stderr goes to the log as it comes; its stdout, read as JSON, is returned."""
        shown = f"lookalike {shlex.join(words)}"
        self.log.info("$ %s", shown)
        lines: deque[str] = deque(maxlen=REMEMBERED_LINES)
        with tempfile.TemporaryFile() as answer:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(WATCH), str(os.getpid()), str(self.grace_seconds), *self.command(words)],
                stdin=subprocess.DEVNULL,
                stdout=answer,
                stderr=subprocess.PIPE,
                start_new_session=True,
                env=command_environment(),
                text=True,
                encoding="utf-8",
                errors="replace",
            )
            assert self._process.stderr is not None
            for line in self._process.stderr:
                lines.append(line)
                if line.strip():
                    self.log.info("%s", line.rstrip())
            code = self._process.wait()
            answer.seek(0)
            text = answer.read().decode("utf-8", "replace")
        if text.strip():
            self.log.info("answer: %s", _shortened(text))
        require_success(code, shown, text, lines)
        return read_document(text, shown)

    def on_kill(self) -> None:
        """Stop the command and all that it started; called at a time-out and when the task is taken from the worker."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        self.log.warning("stopping the command")
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(self.grace_seconds + self.margin_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def command_environment() -> dict[str, str]:
    """This process's environment without what is Airflow's own."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(SECRET_PREFIXES)}
    return ours | {"COLUMNS": LINE_WIDTH}


def _shortened(text: str) -> str:
    try:
        flat = json.dumps(json.loads(text), ensure_ascii=False)
    except ValueError:
        flat = text.strip()
    return flat if len(flat) <= LOGGED_CHARACTERS else f"{flat[:LOGGED_CHARACTERS]}… ({len(flat):,} characters)"
