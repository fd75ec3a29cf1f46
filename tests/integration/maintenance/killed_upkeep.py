"""Imports everything once, then forks a process per delay and kills it after that; says how many it hit."""

import os
import signal
import sys
import time

import deltalake
import mlflow.store.model_registry.sqlalchemy_store

from lookalike.contracts.progress import LogProgress
from lookalike.contracts.settings import Settings
from lookalike.line.maintenance import maintain
from lookalike.line.prune import prune


def main(what: str, settings: Settings, delays: list[float]) -> int:
    killed = 0
    for delay in delays:
        child = os.fork()
        if child == 0:
            maintain(settings, LogProgress()) if what == "maintain" else prune(settings, 0, False, LogProgress())
            os._exit(0)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    return killed


if __name__ == "__main__":
    assert deltalake and mlflow
    hit = main(sys.argv[1], Settings.model_validate_json(sys.argv[2]), [float(each) for each in sys.argv[3:]])
    sys.stdout.write(str(hit))
