"""Other engines beside ours: same vectors, same queries, one process per engine, one core and one thread for search.

    python bench/peers/run.py --vectors items.npy --queries query_pictures.npy query_texts.npy --only build
    python bench/peers/run.py --vectors items.npy --queries query_pictures.npy query_texts.npy --only search
    python bench/peers/run.py --mixture bench/mixture.npz --items 10000000
    python bench/peers/report.py

Each engine gets an environment of its own (made below --folder). One process builds with all cores and saves; a second
one opens what was saved, so that its memory is that of search, and may use one core only, with all processes it starts.
Builds may run beside other work: processor seconds are noted, and those of others. Searches want a quiet machine:
first a short look at each setting, cheap ones first; then in full, one query at a time and in batches of 100, those
around recall@10 of 0.90, 0.95 and 0.99 of the kind of query that is found worst, and what the engine would choose.
Results are one JSON file per engine; a finished one stays unless --again, an engine that fails, runs out of time or
memory or does not fit leaves its reason and what was measured until then.
"""

import argparse
import json
import os
import platform
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from curves import BOTH, Point
from engines import ENGINES, ENVIRONMENTS, OURS, named, python_of
from inputs import Inputs, write_json
from processes import EngineFailed, Meter, Worker, bytes_of, cached, forget
from sweep import Setting, around, look, rising
from truth import K

FREE_MEMORY, FREE_DISK = 0.85, 0.9
"""Shares of the machine's memory, and of the disk that is left, that an engine may take."""
WARM_TIMES = 4
"""Times what a setting may take, for one pass over all queries that brings what they read of files into memory."""
OUR_PACKAGES = ("faiss-cpu", "numpy", "pyarrow")


def main() -> None:
    """Build, search or both, one engine after the other."""
    arguments = parse()
    inputs = (
        Inputs.generated(arguments.mixture, arguments.items, arguments.truth, arguments.folder)
        if arguments.mixture
        else Inputs.stored(arguments.vectors, arguments.queries, arguments.truth, arguments.folder)
    )
    results = arguments.folder / "results"
    results.mkdir(parents=True, exist_ok=True)
    for name in named(arguments.engines):
        one, path, started = Run(name, inputs, arguments), results / f"{name}.json", time.monotonic()
        if not arguments.again and is_finished(path, name, inputs):
            print(f"{name}: finished before", flush=True)
            continue
        if arguments.only == "search" and not one.is_built:
            print(f"{name}: not built", flush=True)
            continue
        result = one.result()
        if result is not None:
            write_json(path, result)
        done = "built" if result is None else result["error"] or f"{len(result['points'])} settings"
        print(f"{name}: {done}, {(time.monotonic() - started) / 60:.1f} min, {disk_of(one.home)}", flush=True)
    if not arguments.keep:
        inputs.forget_file()


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=Path, help=".npy of unit vectors, (n, dim), float32 or float16")
    parser.add_argument("--queries", type=Path, nargs="+", help=".npy, one per kind, named by its file")
    parser.add_argument("--item-texts", type=Path, help="text vectors of the items, which ours is tuned for as well")
    parser.add_argument("--mixture", type=Path, help="generator, of bench/mixture_fit.py, in place of files")
    parser.add_argument("--items", type=int, help="so many generated vectors")
    parser.add_argument("--truth", type=Path, help="where the truth is kept; else below --folder")
    parser.add_argument("--engines", nargs="*", default=[], metavar="NAME", help=f"of {', '.join(ENGINES)}")
    parser.add_argument("--only", choices=("build", "search"), help="build and keep, or search what is built")
    parser.add_argument("--folder", type=Path, default=Path("var/bench/peers"), help="environments, indexes, results")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="that search runs on")
    parser.add_argument("--seconds", type=float, default=5.0, help="most that each way of one setting may take")
    parser.add_argument("--look-seconds", type=float, default=2.0, help="most that a look at a setting may take")
    parser.add_argument("--limit-minutes", type=float, default=180.0, help="most that a build, and a search, may take")
    parser.add_argument("--again", action="store_true", help="measure finished engines anew")
    parser.add_argument("--keep", action="store_true", help="keep indexes whose search is finished")
    arguments = parser.parse_args()
    if bool(arguments.mixture and arguments.items) == bool(arguments.vectors and arguments.queries):
        parser.error("name either --vectors and --queries, or --mixture and --items")
    return arguments


class Run:
    """One engine, built and searched."""

    def __init__(self, name: str, inputs: Inputs, arguments: argparse.Namespace) -> None:
        self.name, self.home = name, arguments.folder / "indexes" / inputs.name / name
        self._engine, self._inputs, self._arguments = ENGINES[name], inputs, arguments
        self._built = self.home / "built.json"

    @property
    def is_built(self) -> bool:
        """With the options of today."""
        known: dict[str, Any] = json.loads(self._built.read_text()) if self._built.exists() else {}
        return bool(known) and known["options"] == self._engine.options

    def result(self) -> dict[str, Any] | None:
        """What was measured, with the reason where it came to no end; None where nothing was to be measured."""
        result: dict[str, Any] = {"engine": self.name, "options": self._engine.options, "inputs": self._inputs.facts()}
        result |= {"machine": machine(), "date": datetime.now(UTC).isoformat(timespec="seconds")}
        result |= {"points": [], "looks": [], "finished": False, "error": ""}
        try:
            python = python_of(self._engine.environment, self._arguments.folder / "environments")
            if not self.is_built:
                self._build(python)
            if self._arguments.only == "build":
                return None
            result["build"] = json.loads(self._built.read_text())
            self._search(python, result)
            result["finished"] = True
        except Exception as error:  # whatever it is, the other engines are still to be measured
            result["error"] = str(error) if isinstance(error, EngineFailed) else repr(error)
        if not self.is_built or (result["finished"] and not self._arguments.keep):
            shutil.rmtree(self.home, ignore_errors=True)
        return result

    def _build(self, python: Path) -> None:
        """Into home/index: seconds, processor seconds, those of others, peak memory, disk. Raises EngineFailed."""
        shutil.rmtree(self.home, ignore_errors=True)
        folder = self.home / "index"
        folder.mkdir(parents=True)
        engine, inputs = self._engine, self._inputs
        free = shutil.disk_usage(self.home).free * FREE_DISK
        if lacking := engine.lacks(inputs.rows, inputs.dim, most_memory(), free):
            raise EngineFailed(lacking)
        names = [pin.partition("==")[0].partition("<")[0] for pin in ENVIRONMENTS.get(engine.environment, OUR_PACKAGES)]
        with inputs.handed_over(engine.takes) as (items, descriptors):
            load = os.getloadavg()[0]
            with self._worker(python, False, descriptors) as process:
                versions, meter = process.ask(do="versions", names=names), Meter(process)
                process.ask(do="build", items=items, folder=str(folder.resolve()))
                facts = meter.took()
                process.ask(do="stop")
                peak = dict(process.peak)
        facts |= {"options": engine.options, "cores": len(os.sched_getaffinity(0)), "load": [load, os.getloadavg()[0]]}
        write_json(self._built, facts | {"peak": peak, "disk_bytes": bytes_of(folder), "versions": versions})

    def _search(self, python: Path, result: dict[str, Any]) -> None:
        """Open and search; what is measured goes into `result` at once, so that a later failure leaves it there."""
        folder, rows, seconds = self.home / "index", self.home / "rows.npz", self._arguments.seconds
        with self._worker(python, True) as process:

            def asked(do: str, setting: Setting, seconds: float) -> Point:
                found = process.ask(do=do, setting=setting, k=K, seconds=seconds, rows=str(rows.resolve()))
                self._judge(found, rows)
                result["points" if do == "measure" else "looks"].append(found)
                return found

            meter = Meter(process)
            opened = self._opened(process, result)
            looks = look(opened["settings"], lambda setting: asked("look", setting, self._arguments.look_seconds))
            front = rising(looks)
            if opened["reads_files"]:
                deepest = front[-1]["setting"]
                process.ask(do="read files", setting=deepest, k=K, seconds=WARM_TIMES * seconds)
            around(front, lambda setting: asked("measure", setting, seconds))
            if opened["chosen"]:
                asked("measure", opened["chosen"], seconds)["chosen"] = True
            files = cached(folder) if opened["reads_files"] else {}
            finer = files.get(opened["finer"], 0)
            result["memory"]["searched"] = process.memory() | {"files": sum(files.values()), "finer": finer}
            result["search"] = meter.took()
            process.ask(do="stop")

    def _opened(self, process: Worker, result: dict[str, Any]) -> dict[str, Any]:
        """What the adapter says of itself and of its index; nothing of its files is in memory before."""
        paths = {kind: str(path) for kind, path in self._inputs.query_paths.items()}
        loaded = process.ask(do="load", queries=paths)
        result["memory"] = {"before": process.memory()}
        if loaded["reads_files"]:
            forget(self.home / "index")
        opened = process.ask(do="open", folder=str((self.home / "index").resolve()))
        result["memory"]["opened"] = process.memory()
        result |= {"what": opened["what"], "held": opened["held"], "open_seconds": opened["seconds"]}
        return {**loaded, **opened}

    def _worker(self, python: Path, search: bool, descriptors: tuple[int, ...] = ()) -> Worker:
        """A process of this engine."""
        options = dict(self._engine.options)
        if self._engine.environment == OURS and self._arguments.item_texts:
            options["item_texts"] = str(self._arguments.item_texts.resolve())
        command = [str(python), str(Path(__file__).with_name("worker.py")), "--adapter", self._engine.adapter]
        command += ["--options", json.dumps(options), *(["--core", str(self._arguments.core)] if search else [])]
        deadline = time.monotonic() + self._arguments.limit_minutes * 60
        return Worker(command, self.home / "log.txt", deadline, most_memory(), search, descriptors)

    def _judge(self, point: Point, path: Path) -> None:
        """Put the recall of the found rows into the point."""
        with np.load(path) as kept:
            for way in (each for each in ("single", "batched") if each in point):
                for kind, truth in self._inputs.truth.items():
                    point[way][kind]["recall"] = truth.recall(kept[f"{way}.{kind}"])
                point[way][BOTH]["recall"] = min(point[way][kind]["recall"] for kind in self._inputs.truth)


def is_finished(path: Path, name: str, inputs: Inputs) -> bool:
    """Whether there is a whole result of the same inputs and configuration."""
    if not path.exists():
        return False
    known = json.loads(path.read_text())
    same = known["inputs"]["sha256"] == inputs.sha256 and known["options"] == ENGINES[name].options
    return bool(known["finished"]) and same


def most_memory() -> float:
    """Bytes that an engine may hold."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * FREE_MEMORY


def disk_of(home: Path) -> str:
    """In words."""
    return f"{bytes_of(home) / 2**20:,.0f} MiB on disk" if home.exists() else "nothing kept"


def machine() -> str:
    """Processor, cores, memory and load."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"{model or platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
