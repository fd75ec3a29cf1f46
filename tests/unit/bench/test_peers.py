"""The bench of engines: its truth, recall and curves against naive ones, when it stops, and what it kills."""

import importlib
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[3] / "bench" / "peers"
MODULES = ("truth", "curves", "sweep", "engines", "processes", "inputs", "bar", "run", "report", "worker")
ITEMS = "adapters.items"


@pytest.fixture(scope="module")
def peers():
    """Its modules, which import each other as scripts of one folder do."""
    sys.path.insert(0, str(FOLDER))
    try:
        modules = {name: importlib.import_module(name) for name in MODULES}
        yield type("peers", (), modules | {"items": importlib.import_module(ITEMS)})
    finally:
        sys.path.remove(str(FOLDER))
        for name in (*MODULES, ITEMS, "adapters"):
            del sys.modules[name]


def unit(rows, dim, seed):
    vectors = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_truth_is_that_of_a_naive_loop_wherever_blocks_end(peers, monkeypatch):
    monkeypatch.setattr(peers.truth, "BLOCK_ROWS", 7)
    vectors, queries = unit(100, 8, 1), unit(5, 8, 2)
    naive = [
        {at for _, at in sorted(((float(query @ vector), at) for at, vector in enumerate(vectors)), reverse=True)[:10]}
        for query in queries
    ]
    for blocks in ([vectors], [vectors[:9], vectors[9:50], vectors[50:]]):
        found = peers.truth.nearest(lambda blocks=blocks: blocks, queries)
        assert [set(found.near(at).tolist()) for at in range(5)] == naive


def test_recall_counts_equals_as_right_and_doubles_and_nothing_as_wrong(peers):
    vectors = np.eye(16, dtype=np.float32)[[0] * 300 + [1, 2, 3]]
    query = np.array([[0.9, 0.4, 0.1, *[0] * 13]], np.float32)
    truth = peers.truth.nearest(lambda: [vectors], query)
    assert truth.near(0).tolist() == list(range(300))  # any ten of them
    every = list(range(100, 110))
    for rows, right in (
        (every, 1.0), ([*every[:9], 302], 0.9), ([5] * 10, 0.1), ([-1] * 5 + every[:5], 0.5), ([999, *every[:9]], 0.9),
    ):  # fmt: skip
        assert truth.recall(np.array([rows])) == right, rows


def test_where_there_are_fewer_than_ten_all_are_right(peers):
    truth = peers.truth.nearest(lambda: [unit(4, 8, 1)], unit(2, 8, 2))
    assert truth.near(1).tolist() == [0, 1, 2, 3]


def test_the_truth_is_kept_for_its_inputs_only(peers, tmp_path):
    vectors, queries = unit(150, 8, 1), {"pictures": unit(3, 8, 2), "texts": unit(4, 8, 3)}
    found = peers.truth.read_or_find(tmp_path / "t.npz", lambda: [vectors], queries, "one")
    for kind, these in queries.items():
        assert len(found[kind]) == len(these)
        for at, best in enumerate(np.argsort(-(these @ vectors.T), axis=1)[:, :10]):
            assert set(found[kind].near(at).tolist()) == set(best.tolist())
    again = peers.truth.read_or_find(tmp_path / "t.npz", None, queries, "one")  # may not be asked for again
    assert np.array_equal(found["texts"].rows, again["texts"].rows)
    with pytest.raises(SystemExit, match="other vectors"):
        peers.truth.read_or_find(tmp_path / "t.npz", None, queries, "two")


def test_vectors_that_are_not_unit_vectors_are_refused(peers, tmp_path):
    np.save(tmp_path / "v.npy", 2 * unit(20, 8, 1))
    with pytest.raises(SystemExit, match="unit vectors are needed"):
        peers.truth.load_unit(tmp_path / "v.npy")
    np.save(tmp_path / "v.npy", np.ones(20, np.float32))
    with pytest.raises(SystemExit, match="shape"):
        peers.truth.load_unit(tmp_path / "v.npy")


def points(*pairs):
    return [{"single": {"both": {"recall": recall, "mean_ms": ms, "p99_ms": 3 * ms}}} for recall, ms in pairs]


def test_the_front_has_no_point_that_another_beats(peers):
    measured = points((0.9, 1.0), (0.85, 2.0), (0.99, 8.0), (0.95, 4.0), (0.95, 5.0), (0.8, 0.5))
    best = peers.curves.front(measured, "single", "both")
    assert [(each["recall"], each["mean_ms"]) for each in best] == [(0.8, 0.5), (0.9, 1.0), (0.95, 4.0), (0.99, 8.0)]
    for each in measured:  # whichever is not in it is no better than one that is
        mine = each["single"]["both"]
        assert any(other["recall"] >= mine["recall"] and other["mean_ms"] <= mine["mean_ms"] for other in best)


def test_a_recall_between_two_settings_costs_what_lies_between_their_logarithms(peers):
    measured = points((0.9, 1.0), (0.98, 4.0))
    at = peers.curves.at
    assert at(measured, 0.94, "single", "both", "mean_ms") == pytest.approx(2.0)
    assert at(measured, 0.94, "single", "both", "p99_ms") == pytest.approx(6.0)
    assert at(measured, 0.92, "single", "both", "mean_ms") == pytest.approx(math.sqrt(2))
    assert at(measured, 0.98, "single", "both", "mean_ms") == pytest.approx(4.0)
    assert at(measured, 0.5, "single", "both", "mean_ms") == 1.0
    assert at(measured, 0.99, "single", "both", "mean_ms") is None
    assert at([], 0.5, "single", "both", "mean_ms") is None


def looked(recall, ms=1.0, setting=None):
    return {"setting": setting, "single": {"both": {"recall": recall, "p50_ms": ms}}}


def test_deeper_settings_are_looked_at_while_they_find_more(peers):
    recalls = [[0.5, 0.6, 0.6, 0.9], [0.7, 0.8], [0.8, 0.8], [0.8], [0.8], [0.99]]
    asked = []

    def reached(setting):
        asked.append(setting["at"])
        return looked(recalls[setting["at"][0]][setting["at"][1]])

    groups = [[{"at": (group, at)} for at in range(len(these))] for group, these in enumerate(recalls)]
    peers.sweep.look(groups, reached)
    assert asked == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (4, 0)]
    asked.clear()
    recalls[0][1] = 0.999
    peers.sweep.look(groups, reached)
    assert asked == [(0, 0), (0, 1)]  # neither a deeper one nor another group


@pytest.mark.parametrize("shift", [-0.04, -0.01, 0.0, 0.01, 0.04])
def test_settings_on_both_sides_of_each_recall_are_measured_though_a_look_was_wrong(peers, shift):
    recalls = [0.3, 0.6, 0.8, 0.88, 0.92, 0.94, 0.96, 0.98, 0.985, 0.992, 0.996]
    looks = [looked(recall + shift, 1.0 + at, at) for at, recall in enumerate(recalls)]
    dear = [looked(recall + shift, 100.0 + at, 99) for at, recall in enumerate(recalls)]
    front = peers.sweep.rising(looks + dear)
    assert [point["setting"] for point in front] == list(range(len(recalls)))
    asked = []

    def measured(setting):
        asked.append(setting)
        return looked(recalls[setting], 1.0 + setting, setting)

    points = peers.sweep.around(front, measured)
    assert {3, 4, 5, 6, 8, 9} <= set(asked) and len(asked) == len(set(asked)) == len(points)
    for recall in (0.90, 0.95, 0.99):
        near = {point["setting"] for point in points}
        assert max(at for at in near if recalls[at] < recall) + 1 == min(at for at in near if recalls[at] >= recall)


def test_where_a_recall_is_never_reached_the_best_is_measured(peers):
    front = [looked(recall, ms, ms) for ms, recall in enumerate((0.5, 0.7, 0.85))]
    points = peers.sweep.around(front, lambda setting: front[setting])
    assert [point["setting"] for point in points] == [2]
    assert peers.sweep.around([], None) == []


def test_engines_are_named_by_themselves_or_by_their_family(peers):
    assert peers.engines.named(["milvus", "usearch"]) == ["milvus-hnsw", "milvus-ivf-sq8", "milvus-scann", "usearch"]
    assert peers.engines.named([]) == list(peers.engines.ENGINES)
    with pytest.raises(SystemExit, match="known are"):
        peers.engines.named(["mivlus"])
    for engine in peers.engines.ENGINES.values():
        assert (FOLDER / "adapters" / f"{engine.adapter.split(':')[0]}.py").is_file()
        assert engine.environment in {*peers.engines.ENVIRONMENTS, peers.engines.OURS}


def test_what_cannot_fit_is_told_before(peers):
    engines, gibibyte = peers.engines.ENGINES, 2**30
    assert engines["faiss-hnsw"].lacks(1_000_000, 512, 20 * gibibyte, 40 * gibibyte) == ""
    assert engines["faiss-hnsw-sq8"].lacks(10_000_000, 512, 20 * gibibyte, 40 * gibibyte) == ""
    assert "21.6 GiB of memory" in engines["faiss-hnsw"].lacks(10_000_000, 512, 20 * gibibyte, 40 * gibibyte)
    assert "most of a day" in engines["autofaiss"].lacks(10_000_000, 512, 20 * gibibyte, 40 * gibibyte)
    assert "GiB of disk" in engines["milvus-ivf-sq8"].lacks(10_000_000, 512, 20 * gibibyte, 40 * gibibyte)


@pytest.mark.parametrize("size", [3, 7, 100])
def test_items_come_whole_and_in_order_from_a_file_and_through_a_pipe(peers, tmp_path, size):
    vectors = unit(20, 8, 1)
    np.save(tmp_path / "half.npy", vectors.astype(np.float16))
    stored = peers.items.Items(20, 8, file=str(tmp_path / "half.npy"))
    reads, writes = os.pipe()
    os.write(writes, vectors.tobytes())
    os.close(writes)
    for items, exact in ((stored, 1e-3), (peers.items.Items(20, 8, pipe=reads), 0.0)):
        starts, blocks = zip(*items.blocks(size), strict=True)
        assert list(starts) == list(range(0, 20, size))
        assert np.abs(np.concatenate(blocks) - vectors).max() <= exact
        assert all(block.dtype == np.float32 for block in blocks)
    assert len(stored.some(5)) == 5 and np.allclose(stored.some(5)[-1], vectors[-1], atol=1e-3)


def test_a_pipe_that_ends_early_is_an_error_and_no_short_index(peers):
    reads, writes = os.pipe()
    os.write(writes, bytes(8 * 4 * 3))
    os.close(writes)
    with pytest.raises(EOFError):
        list(peers.items.Items(4, 8, pipe=reads).blocks())
    with pytest.raises(ValueError, match="one file"):
        peers.items.Items(4, 8, pipe=reads).mapped()


class Found:
    """An adapter that finds rows by a naive search, and is slow."""

    def __init__(self, vectors):
        self.vectors = vectors

    def search(self, queries, k):
        time.sleep(0.001)
        return np.argsort(-(queries @ self.vectors.T), axis=1)[:, :k]


@pytest.mark.parametrize("size", [1, 7])
def test_every_query_is_asked_once_and_its_rows_stand_in_order(peers, size):
    vectors, queries = unit(60, 8, 1), {"pictures": unit(20, 8, 2), "texts": unit(16, 8, 3)}
    found = peers.worker.run(Found(vectors), queries, 10, 60.0, size)
    for kind, these in queries.items():
        times, rows = found[kind]
        assert np.array_equal(rows, Found(vectors).search(these, 10))
        assert len(times) == math.ceil(len(these) / size)
        figures = peers.worker.figures(times, len(rows))
        assert figures["mean_ms"] == pytest.approx(1_000 * times.sum() / len(these))


def test_a_setting_is_measured_no_longer_than_its_time_but_with_enough_queries(peers):
    vectors, queries = unit(60, 8, 1), {"pictures": unit(5_000, 8, 2)}
    times, rows = peers.worker.run(Found(vectors), queries, 10, 0.05, 1)["pictures"]
    assert len(rows) == len(times) == peers.worker.LEAST


CHILD = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', '{}']); sys.stdin.readline(); {}"


def started(peers, tmp_path, child, parent, seconds=60.0, memory=2**40):
    code = CHILD.format(child, parent)
    return peers.processes.Worker(
        [sys.executable, "-c", code], tmp_path / "log", time.monotonic() + seconds, memory, False
    )


def test_processor_time_of_a_worker_counts_its_children_and_not_others(peers, tmp_path):
    burn = "import time; end = time.process_time() + {}\nwhile time.process_time() < end: pass"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn.format(0.3)!r}])"
    answer = "print('{}', flush=True); sys.stdin.readline()"
    code = f"import sys; sys.stdin.readline()\n{burn.format(0.2)}\n{child}\n{answer}"
    with peers.processes.Worker(
        [sys.executable, "-c", code], tmp_path / "log", time.monotonic() + 60, 2**40, False
    ) as worker:
        meter = peers.processes.Meter(worker)
        worker.ask(do="anything")
        took = meter.took()
    assert 0.4 < took["cpu_seconds"] < 1.5
    assert took["seconds"] > 0.0


def test_pages_of_files_that_were_read_are_counted_and_others_not(peers, tmp_path):
    for name in ("one", "two", "none"):
        (tmp_path / name).write_bytes(bytes(0 if name == "none" else 2**20))
    assert peers.processes.cached(tmp_path) == {"one": 2**20, "two": 2**20}
    peers.processes.forget(tmp_path)
    (tmp_path / "one").read_bytes()
    found = peers.processes.cached(tmp_path)
    assert found["one"] == 2**20 and found["two"] in (0, 2**20)  # some file systems keep all that they hold in memory


def test_what_a_worker_started_is_counted_and_ends_with_it(peers, tmp_path):
    hold = "b = bytearray(80_000_000); import time; time.sleep(100)"
    with started(peers, tmp_path, hold, "time.sleep(100)") as worker:
        deadline = time.monotonic() + 30
        while worker.memory()["anonymous"] < 80_000_000 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert worker.memory()["anonymous"] > 80_000_000
        session = worker._popen.pid
        assert len(peers.processes.members(session)) == 2
    assert peers.processes.members(session) == []


@pytest.mark.parametrize(("limits", "reason"), [({"seconds": 0.0}, "time was over"), ({"memory": 2**20}, "held more")])
def test_a_worker_beyond_its_limits_is_killed_and_says_why(peers, tmp_path, limits, reason):
    with (
        started(peers, tmp_path, "import time; time.sleep(100)", "time.sleep(100)", **limits) as worker,
        pytest.raises(peers.processes.EngineFailed, match=reason),
    ):
        worker.ask(do="anything")


def test_a_worker_that_fails_says_what_it_wrote(peers, tmp_path):
    with (
        started(peers, tmp_path, "pass", "raise ValueError(7 * 191)") as worker,
        pytest.raises(peers.processes.EngineFailed, match="1337"),
    ):
        worker.ask(do="anything")


def test_a_worker_ends_when_the_bench_is_killed(tmp_path):
    code = (
        f"import sys, os, time; sys.path.insert(0, {str(FOLDER)!r}); import worker\n"
        "if os.fork() == 0:\n"
        "    os.setsid(); worker.end_with_parent(); print(os.getpid(), flush=True); time.sleep(100)\n"
        "time.sleep(100)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as bench:
        child = int(bench.stdout.readline())
        bench.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 30
        while Path(f"/proc/{child}/stat").exists() and time.monotonic() < deadline:
            if Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
                return
            time.sleep(0.05)
        alive = Path(f"/proc/{child}").exists()
        if alive:
            os.kill(child, signal.SIGKILL)
        assert not alive


def result(name, ms, megabytes, recalls=(0.90, 0.93), **more):
    """Of an engine that answers in so many milliseconds at the first of its recalls, and doubles them."""
    points = []
    for at, recall in enumerate(recalls):
        figures = {"recall": recall, "mean_ms": ms * 2**at, "p50_ms": ms * 2**at, "p99_ms": 3 * ms * 2**at}
        points.append({way: dict.fromkeys(("both", "pictures"), figures) for way in ("single", "batched")})
    inputs = {"vectors": 1_000, "dim": 8, "queries": {"pictures": 5}}
    sizes = {"anonymous": megabytes * 2**20, "shared": 0, "files": 0, "finer": 0}
    memory = {"before": dict.fromkeys(sizes, 0), "searched": sizes}
    known = {"engine": name, "inputs": inputs, "machine": "m", "error": "", "finished": True, "what": "a graph"}
    return known | {"points": points, "memory": memory} | more


def test_the_report_says_what_was_not_reached_and_what_was_not_quiet(peers):
    took = {"seconds": 600.0, "cpu_seconds": 300.0, "others_cpu_seconds": 600.0}
    build = took | {"cores": 2, "disk_bytes": 2**20, "peak": {"anonymous": 2**21}}
    one = result("one", 2.0, 7, (0.93,), build=build, search=took | {"others_cpu_seconds": 6.0})
    failed = {"engine": "other", "inputs": one["inputs"], "machine": "m", "points": [], "finished": False}
    failed["error"] = "killed: its time was over"
    text = peers.report.tables([one, failed])
    assert "| one | 500 | 2.000 | 6.000 | 500 | 0.930 |" in text
    assert text.count("| one | not reached |  |  | not reached |  |") == 2
    assert "| one | a graph | 7 | 0 | 0 | 7 | 1 | 10.0* (50%) | 5.0 | 2 | 0.9300 |  |" in text
    assert "killed: its time was over" in text


REACHING = (0.94, 0.96)


@pytest.mark.parametrize(
    ("peers_are", "held"),
    [
        ([("fast", 1.0, 301)], True),  # as fast, with less than a third of its memory
        ([("fast", 1.0, 300)], False),
        ([("fast", 0.9, 1_000)], False),
        ([("fast", 0.9, 1_000), ("small", 1.9, 200)], False),
        ([("fast", 0.9, 1_000), ("small", 2.1, 200)], True),  # twice as fast as each of similar memory
        ([("fast", 0.9, 1_000), ("smaller", 1.9, 20)], False),
    ],
)
def test_the_bar_is_held_by_either_of_its_sides(peers, peers_are, held):
    ours = result("lookalike", 1.0, 100, REACHING)
    others = [result(name, ms, megabytes, REACHING) for name, ms, megabytes in peers_are]
    for said in peers.bar.bar([ours, *others, result("poor", 0.1, 1, (0.8, 0.9))])[:2]:
        assert ("NOT held" not in said) == held, said
        assert ": held." in said or ": NOT held." in said


def test_the_bar_counts_pages_of_files_and_names_what_is_not_measured(peers):
    ours, fast = result("lookalike", 1.0, 100, REACHING), result("fast", 1.0, 301, REACHING)
    failed = result("other", 1.0, 1, (), finished=False, error="killed")
    assert "Not measured to the end: other (killed)." in peers.bar.bar([ours, fast, failed])
    ours["memory"]["searched"]["files"] = 2**20
    assert all("NOT held" in said for said in peers.bar.bar([ours, fast])[:2])
    assert peers.bar.bar([fast]) == []
    assert "does not reach it" in peers.bar.bar([result("lookalike", 1.0, 100), fast])[0]


class Numbered:
    """Vectors in blocks, as a generator makes them."""

    def __init__(self, vectors, block_rows):
        self.vectors, self.items, self.dim, self._rows = vectors, *vectors.shape, block_rows

    def block(self, number):
        return self.vectors[number * self._rows : (number + 1) * self._rows]

    def queries(self):
        return type("queries", (), {"pictures": unit(3, 8, 5), "texts": unit(3, 8, 6)})


@pytest.fixture
def generated(peers, tmp_path, monkeypatch):
    """Inputs of 5,000 vectors, more than a pipe holds, that come in blocks of 300, and these vectors."""
    vectors = unit(5_000, 8, 1)
    monkeypatch.setattr(peers.inputs, "_generator", lambda *_: Numbered(vectors, 300))
    monkeypatch.setattr(peers.inputs, "_blocks", lambda of: (of.block(number) for number in range(17)))
    monkeypatch.setattr(peers.inputs, "_sample", lambda of: of.vectors[::10])
    (tmp_path / "mixture").write_bytes(b"any")
    return peers.inputs.Inputs.generated(tmp_path / "mixture", 5_000, None, tmp_path / "out"), vectors


def test_generated_vectors_come_whole_by_pipe_and_in_half_precision_by_file(peers, generated):
    inputs, vectors = generated
    with inputs.handed_over("pipe") as (told, descriptors):
        items = peers.items.Items(**told | {"pipe": os.dup(descriptors[0])})  # a worker has a copy too
        assert np.array_equal(np.concatenate([block for _, block in items.blocks(77)]), vectors)
        assert len(items.some(50)) == 50 and items.rows == 5_000
    with inputs.handed_over("file") as (told, _):
        assert np.abs(peers.items.Items(**told).mapped() - vectors).max() < 1e-3
        inputs.forget_file()
        assert not Path(told["file"]).exists()
    best = (np.load(inputs.query_paths["texts"]) @ vectors.T).argmax(axis=1)
    assert all(row in inputs.truth["texts"].near(at) for at, row in enumerate(best))


def test_a_build_that_ends_early_does_not_keep_the_generator(generated):
    import threading

    inputs, before = generated[0], threading.active_count()
    with inputs.handed_over("pipe"):
        pass
    deadline = time.monotonic() + 30
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before
