"""How the command line speaks: progress and remarks on stderr, results on stdout, JSON when a machine asks.

Every verb ends through `Console.done` with one line that says what it did (or one JSON document with `--json`).
"""

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from lookalike.contracts.progress import LogProgress, Step
from lookalike.contracts.progress import Progress as ProgressPort
from lookalike.contracts.settings import Settings


class _RichStep:
    def __init__(self, bars: Progress, task: Any) -> None:
        self._bars, self._task = bars, task

    def advance(self, count: int = 1) -> None:
        self._bars.advance(self._task, count)


class RichProgress:
    """Progress bars for a terminal."""

    def __init__(self, console: RichConsole) -> None:
        self._console = console

    @contextmanager
    def step(self, name: str, total: int | None = None) -> Iterator[Step]:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeElapsedColumn(), console=self._console) as bars:
            task = bars.add_task(name, total=total)
            yield _RichStep(bars, task)
            done = bars.tasks[0].completed
            bars.update(task, total=done or 1, completed=done or 1)


@dataclass(frozen=True)
class Console:
    """What a verb gets: settings, progress, and how to answer."""

    settings: Settings
    as_json: bool

    @property
    def progress(self) -> ProgressPort:
        err = RichConsole(stderr=True)
        return RichProgress(err) if err.is_terminal and not self.as_json else LogProgress()

    def say(self, text: str) -> None:
        """A remark on the way; never part of the result."""
        RichConsole(stderr=True).print(escape(text), highlight=False)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table for people; left out with --json, where `done` carries the data."""
        if self.as_json:
            return
        table = Table(*columns, title=title, title_justify="left")
        for row in rows:
            table.add_row(*(escape("" if cell is None else str(cell)) for cell in row))
        RichConsole().print(table)

    def done(self, line: str, result: Any) -> None:
        """End of a verb: one line, or the result as JSON."""
        if self.as_json:
            sys.stdout.write(json.dumps(result, default=jsonable, ensure_ascii=False, indent=2) + "\n")
        else:
            RichConsole(soft_wrap=True).print(escape(line), highlight=False)


def jsonable(value: Any) -> Any:
    """Typed results as JSON: dataclasses, pydantic models, paths, times and numpy scalars."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not JSON")


def set_up_logging(verbose: bool) -> None:
    """Plain lines on stderr; other libraries only from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s"))
    # On the handler, because some libraries set the levels of their own loggers.
    handler.addFilter(lambda record: record.name.startswith("lookalike") or record.levelno >= logging.WARNING)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("lookalike").setLevel(logging.DEBUG if verbose else logging.INFO)
