"""A worker: one pipeline on the local runner in a process of its own, started and replaced by `lookalike stream`.

It prepares everything, says READY and begins at GO, so that a replacement is warm before the old worker ends. It ends
when it is told to, and by itself when the supervisor is gone: the pipe that it listens to then closes.
"""

import fcntl
import importlib
import json
import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from beam.courtesy import step_back
from beam.pipelines import DRAIN, GO, READS, READY, drain_file
from lookalike.contracts.errors import LookalikeError
from lookalike.contracts.settings import Settings

LOG = logging.getLogger("lookalike.stream")

BEAT_SECONDS = 1.0
LOCK_SECONDS = 90.0
"""Longer than the supervisor lets a worker drain before it kills it."""
LOCK_POLL_SECONDS = 0.02
EXIT_FAULT = 1
EXIT_USER_ERROR = 2
PAGE = os.sysconf("SC_PAGE_SIZE")


class WorkerInTheWay(LookalikeError):
    """Another worker of the same pipeline and home does not end."""


def run_worker(name: str, commands: TextIO, answers: TextIO) -> None:
    """Run the pipeline `name` until drained. `commands` and `answers`: see beam.pipelines. Raises what it raises."""
    settings = Settings(**json.loads(commands.readline()))
    step_back(settings.stream.nice)
    module = importlib.import_module(f"beam.{name}")
    pipeline = _built(name, settings)
    if hasattr(module, "prepare"):
        module.prepare(settings)
    _say(answers, READY)
    if commands.readline().strip() != GO:
        return
    with only_worker(settings, name):
        drain_file(settings, name).unlink(missing_ok=True)  # of an earlier worker: it has ended, by the lock
        signal.signal(signal.SIGTERM, lambda *_: drain(settings, name))
        for target in (lambda: _obey(commands, settings, name), lambda: _beat(answers, module)):
            threading.Thread(target=target, daemon=True).start()
        pipeline.run()
    LOG.info("%s: drained", name)


def drain(settings: Settings, name: str) -> None:
    """Tell the running worker of a pipeline to end when its bundle is done."""
    drain_file(settings, name).touch()


@contextmanager
def only_worker(settings: Settings, name: str) -> Iterator[None]:
    """Hold the pipeline's lock on this home, also against a worker whose supervisor was killed.

    Raises WorkerInTheWay when the other one has not ended after LOCK_SECONDS.
    """
    path = settings.stream_root / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        _lock(file, path, name)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _lock(file: TextIO, path: Path, name: str) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise WorkerInTheWay(
                    f"the pipeline {name} of this home still runs in process {path.read_text()}; end that process"
                ) from error
            time.sleep(LOCK_POLL_SECONDS)


def _built(name: str, settings: Settings) -> Any:
    import apache_beam
    from apache_beam.options.pipeline_options import PipelineOptions

    from beam.local_runner import LocalRunner
    from beam.options import add_pipeline

    pipeline = apache_beam.Pipeline(runner=LocalRunner(), options=PipelineOptions(["--streaming"]))
    add_pipeline(name, pipeline, settings)
    return pipeline


def _obey(commands: TextIO, settings: Settings, name: str) -> None:
    """Until DRAIN, or the end of the pipe, which is the end of the supervisor."""
    for line in commands:
        if line.strip() == DRAIN:
            break
    drain(settings, name)


def _beat(answers: TextIO, module: Any) -> None:
    while True:
        counts = module.counts() if hasattr(module, "counts") else {}
        _say(answers, json.dumps({"rss_bytes": rss_bytes(), "counts": counts}))
        time.sleep(BEAT_SECONDS)


def _say(answers: TextIO, text: str) -> None:
    try:
        answers.write(text + "\n")
        answers.flush()
    except OSError:
        pass  # nobody listens any more; the closed pipe of commands ends this worker


def rss_bytes() -> int:
    """Memory of this process that is resident now; where /proc does not say, the most that ever was."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(name: str) -> int:
    """The process. Its own stdout carries answers only; what libraries print goes to stderr, into the worker's log."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the supervisor, which drains us
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    logging.getLogger("lookalike").setLevel(logging.INFO)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        run_worker(name, sys.stdin, answers)
    except LookalikeError as error:
        LOG.error("%s: %s", name, error)
        return EXIT_USER_ERROR
    except Exception:
        LOG.exception("%s: the pipeline failed", name)
        return EXIT_FAULT
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in READS:
        sys.exit(EXIT_USER_ERROR)
    code = main(sys.argv[1])
    logging.shutdown()
    os._exit(code)  # all that counts is committed; taking an encoder and a runner apart can take seconds
