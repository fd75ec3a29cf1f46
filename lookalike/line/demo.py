"""The whole line in one go: real pictures → tables → vectors → index → gate → live → a server that answers.

Each step is the same function that its own verb calls. A second run with nothing changed finds every step done.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lookalike.contracts.errors import LookalikeError, NotPromotable
from lookalike.contracts.progress import Progress
from lookalike.contracts.settings import Settings
from lookalike.line.live_checks import SearchCheck, run_checks
from lookalike.line.server_process import ServerProcess, start_server

Say = Callable[[str], None]


@dataclass
class Step:
    """One finished step. `download` steps are not counted as pipeline."""

    name: str
    what: str
    seconds: float
    download: bool = False


@dataclass
class DemoReport:
    """What the demo did and what the running server answered."""

    steps: list[Step] = field(default_factory=list)
    searches: list[SearchCheck] = field(default_factory=list)
    release: str = ""
    items: int = 0
    embedded: int = 0
    url: str = ""
    _server: ServerProcess | None = None

    @property
    def pipeline_seconds(self) -> float:
        """Everything after the downloads."""
        return sum(step.seconds for step in self.steps if not step.download)

    @property
    def holds(self) -> bool:
        """Whether every step was done and every search held."""
        return bool(self.searches) and all(check.held for check in self.searches)

    def step_rows(self) -> list[tuple[str, str, str]]:
        """Rows for a table."""
        return [(step.name, step.what, f"{step.seconds:.1f}") for step in self.steps]

    def search_rows(self) -> list[tuple[str, str, str]]:
        """Rows for a table."""
        return [(check.search, "holds" if check.held else "FAILED", check.found) for check in self.searches]

    def wait_for_server(self) -> None:
        """Stay until the server ends or Ctrl-C; then stop it."""
        if self._server is not None:
            try:
                self._server.process.wait()
            finally:
                self._server.stop()


class _Line:
    def __init__(self, settings: Settings, progress: Progress, say: Say) -> None:
        self.settings, self.progress, self.say = settings, progress, say
        self.report = DemoReport()

    @contextmanager
    def step(self, name: str, download: bool = False) -> Iterator[Callable[[str], None]]:
        started = time.monotonic()
        words: list[str] = []
        yield words.append
        done = Step(name, " ".join(words), time.monotonic() - started, download)
        self.report.steps.append(done)
        self.say(f"{done.name}: {done.what} ({done.seconds:.1f} s)")

    def prepare(self) -> None:
        from lookalike.catalogue.icons import fetch_packages
        from spark.jars import delta_jars

        with self.step("downloads", download=True) as said:
            fetch_packages(self.settings)
            jars = delta_jars(self.settings)
            said(f"icon packages and {len(jars)} Delta JARs are here")

    def catalogue(self) -> Any:
        from lookalike.catalogue.icons import fetch_icons

        with self.step("catalogue") as said:
            snapshot = fetch_icons(self.settings, self.progress)
            said(f"snapshot {snapshot.snapshot_id}, {snapshot.items:,} products")
        return snapshot

    def ingest(self, folder: Any) -> None:
        from lookalike.line.ingest import ingest

        with self.step("ingest") as said:
            done = ingest(self.settings, folder, self.progress)
            said("nothing new" if done is None else f"{done.taken:,} taken, {sum(done.refused.values()):,} refused")

    def fold(self) -> None:
        """Only where a stream ran on this home before: what it archived is in no release yet."""
        from lookalike.line.fold import fold
        from spark.fold import pending

        if pending(self.settings) == 0:
            return
        with self.step("fold") as said:
            done = fold(self.settings, self.progress)
            said("nothing new" if done is None else f"{done.changes:,} changes of {done.items:,} items")

    def embed(self) -> None:
        from lookalike.line.embed import embed

        with self.step("embed") as said:
            done = embed(self.settings, self.progress)
            self.report.embedded = 0 if done is None else done.embedded
            said(f"{self.report.embedded:,} items embedded")

    def release(self) -> None:
        from lookalike.line.build import build
        from lookalike.line.gate import gate
        from lookalike.line.releases import promote

        with self.step("build") as said:
            built = build(self.settings, self.progress)
            self.report.items = built.items
            said(f"release {built.version}{' (reused)' if built.reused else ''}, recipe {built.recipe}")
        with self.step("gate") as said:
            verdict = gate(self.settings, self.progress, built.version, again=not built.reused)
            said(f"{'passed' if verdict.passed else 'FAILED'}: {len(verdict.checks)} checks")
        if not verdict.passed:
            failed = "; ".join(f"{c.name}: {c.observed} (bar: {c.bar})" for c in verdict.checks if not c.passed)
            raise NotPromotable(f"release {built.version} did not pass its gate: {failed}")
        with self.step("promote") as said:
            move = promote(self.settings, built.version)
            self.report.release = move.version
            said(f"live is release {move.version}")

    def serve(self, port: int | None) -> ServerProcess:
        with self.step("serve") as said:
            server = start_server(self.settings, self.settings.serving.port if port is None else port)
            server.wait_ready()
            self.report.url = server.url
            said(f"answering at {server.url}")
        return server


def run_demo(settings: Settings, progress: Progress, say: Say, port: int | None, stay_up: bool) -> DemoReport:
    """Run the line, start the server, ask it. The server stays only when `stay_up` and everything held."""
    line = _Line(settings, progress, say)
    line.prepare()
    line.ingest(line.catalogue().folder)
    line.fold()
    line.embed()
    _stop_spark()
    line.release()
    server = line.serve(port)
    try:
        with line.step("searches") as said:
            line.report.searches = run_checks(server.url, line.report.release)
            said(f"{sum(check.held for check in line.report.searches)} of {len(line.report.searches)} hold")
    except BaseException:
        server.stop()
        raise
    if stay_up and line.report.holds:
        line.report._server = server
        say(f"open {server.url}  (Ctrl-C stops)")
    else:
        server.stop()
    return line.report


def _stop_spark() -> None:
    """Free the JVM's memory before the index is built and served; harmless when none was started."""
    import sys

    if "pyspark" in sys.modules:
        from spark.session import stop

        try:
            stop()
        except LookalikeError:
            return
