"""Benches of scale: laws of growth and where they stop, which operating points are measured, what is drawn and told."""

import importlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[3] / "bench"
MODULES = ("figures", "growth", "growth_law", "scale_latency", "scale_match", "scale_plots")
SIZES = (1_000_000, 3_000_000, 10_000_000, 30_000_000, 100_000_000)


@pytest.fixture(scope="module")
def bench():
    """Its modules, which import each other as scripts of one folder do."""
    before = set(sys.modules)
    sys.path.insert(0, str(FOLDER))
    try:
        yield type("bench", (), {name: importlib.import_module(name) for name in MODULES})
    finally:
        sys.path.remove(str(FOLDER))
        for name in set(sys.modules) - before:
            if str(FOLDER) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]


@pytest.mark.parametrize(
    ("form", "law", "text"),
    [
        ("power", lambda items: 0.5 * (items / 1e6) ** 0.4, "0.5 · M^0.40"),
        ("line", lambda items: 0.25 + 0.08 * items / 1e6, "0.25 +0.08 · M"),
        ("log", lambda items: 30 + 4 * math.log2(items / 1e6), "30 +4 · log₂ M"),
    ],
)
def test_a_law_is_found_again_and_holds_to_the_end(bench, form, law, text):
    found = bench.growth_law.fitted("figure", form, {items: law(items) for items in SIZES})
    assert found.text == text
    assert found.holds and found.until == SIZES[-1] and found.stops is None
    assert all(found(items) == pytest.approx(law(items)) for items in SIZES)
    assert found.worst < 1e-9


def test_a_law_stops_at_the_first_size_that_it_does_not_foretell(bench):
    values = {items: (items / 1e6) ** 0.5 for items in SIZES}
    values[SIZES[3]] *= 1.2  # within the tolerance
    values[SIZES[4]] *= 3
    found = bench.growth_law.fitted("figure", "power", values)
    assert (found.until, found.stops) == (SIZES[3], SIZES[4])
    slope, start = np.polyfit(np.log(np.array(SIZES[:4]) / 1e6), np.log([values[items] for items in SIZES[:4]]), 1)
    foretold = math.exp(start + slope * math.log(100))
    assert found.off[SIZES[4]] == pytest.approx(values[SIZES[4]] / foretold - 1)
    assert found.stop_text.startswith("100,000,000 (+1")


def test_what_follows_no_law_is_said_to_hold_nowhere(bench):
    found = bench.growth_law.fitted("figure", "line", {SIZES[0]: 1.0, SIZES[1]: 9.0, SIZES[2]: 2.0})
    assert not found.holds and found.range_text == "nowhere"


class Ladder:
    """Stands for an index of lists: `nprobe` lists find that many of the true hundred of each query, in order."""

    def __init__(self, right):
        self.right = right
        point = type("Point", (), {})
        points = []
        for probe in range(1, 101):
            points.append(point())
            points[-1].search = {"nprobe": probe, "k_factor": 1}
        self.manifest = type("Manifest", (), {"operating_points": tuple(points)})()
        self.asked = set()

    def search_with(self, search, queries, k):
        """The query's first value says which query it is."""
        probe = search["nprobe"]
        self.asked.add(probe)
        query = int(queries[0, 0])
        share = probe / 100 if query % 2 == 0 else probe / 200 + 0.5  # texts reach 0.9 at 80, pictures at 90
        hit = round(share * len(self.right[query]))
        rows = np.array(self.right[query][:hit].tolist() + [-1] * len(self.right[query]))[:k]
        return None, rows[None]


@pytest.fixture
def ladder(tmp_path):
    """A folder of queries, pictures even and texts odd, whose true rows are known, and an index that finds a share."""
    count = 20
    numbers = np.repeat(np.arange(2 * count, dtype=np.float32)[:, None], 4, axis=1)
    rows = np.arange(2 * count)[:, None] * 100 + np.arange(100)
    scores = np.tile(np.linspace(1, 0, 100, dtype=np.float32), (2 * count, 1))
    np.savez(tmp_path / "queries.npz", pictures=numbers[0::2], texts=numbers[1::2], others=numbers)
    order = np.r_[0 : 2 * count : 2, 1 : 2 * count : 2]
    (tmp_path / "truth").mkdir()
    np.savez(tmp_path / "truth" / "00000.npz", scores=scores, rows=rows[order])
    return tmp_path, Ladder({query: rows[query][:10] for query in range(2 * count)})


def test_the_operating_points_around_each_recall_are_measured_and_few_others_asked(bench, ladder):
    folder, index = ladder
    points = bench.scale_latency._around_recalls(index, bench.scale_latency.Queries(folder))
    probes, asked = [point["search"]["nprobe"] for point in points], set(index.asked)
    for kind, recall in [(kind, recall) for kind in ("pictures", "texts") for recall in (0.90, 0.95, 0.99)]:
        naive = next(probe for probe in range(1, 101) if bench_recall(index, kind, probe) >= recall)
        assert {naive - 1, naive} <= set(probes)
    assert len(probes) <= 12
    assert len(asked) < 60
    for point in points:
        for kind in ("pictures", "texts"):
            assert point["single"][kind]["recall"] == pytest.approx(
                bench_recall(index, kind, point["search"]["nprobe"])
            )
        assert point["single"]["both"]["recall"] == min(
            point["single"][kind]["recall"] for kind in ("pictures", "texts")
        )


def test_a_query_with_more_copies_than_the_truth_has_rows_is_not_judged(bench, ladder):
    folder, index = ladder
    with np.load(folder / "truth" / "00000.npz") as stored:
        scores, rows = stored["scores"].copy(), stored["rows"]
    scores[3], scores[25, :40] = 0.8, 0.7  # of a picture all hundred are alike, of a text the first forty are
    np.savez(folder / "truth" / "00000.npz", scores=scores, rows=rows)
    queries = bench.scale_latency.Queries(folder)
    assert {kind: len(vectors) for kind, vectors in queries.vectors.items()} == {"pictures": 19, "texts": 20}
    assert 6 not in queries.vectors["pictures"][:, 0]
    assert len(queries.truth["pictures"]) == 19
    found = np.array([index.right[query] for query in queries.vectors["texts"][:, 0].astype(int)])
    assert queries.share(found, "texts") == 1
    found[5] += 30  # others of the forty; the query is row 25 of all
    assert queries.share(found, "texts") == 1
    found[4] += 30  # of another query, of whose rows the first ten alone are right
    assert queries.share(found, "texts") == 0.95


def bench_recall(index, kind, probe):
    """By a naive count."""
    query = 0 if kind == "pictures" else 1
    found = Ladder.search_with(index, {"nprobe": probe}, np.array([[query]]), 10)[1][0].tolist()
    return len(set(found) & set(index.right[query].tolist())) / 10


def write_size(folder, items, factor=1.0):
    """What builds and measurements leave, by laws that are known."""
    millions = items / 1e6
    (folder / "index").mkdir(parents=True)
    space = {"encoder": "e", "dim": 8, **{f"{part}_sha256": "0" * 64 for part in
             ("weights", "preprocessing", "tokenizer")}}  # fmt: skip
    sizes = {"index.faiss": 70 * items, "refine.faiss": 500 * items, "items.arrow": 30 * items, "centres.faiss": 0}
    manifest = {
        "created_at": "2026-11-23T00:00:00Z", "space": space, "chosen_because": "", "items": items,
        "table_versions": {},
        "recipe": {"name": "ivf_pq", "description": "", "factory": "IVF{nlist}", "nlist": 4096},
        "files": {name: {"sha256": "0" * 64, "bytes": size} for name, size in sizes.items()},
        "build": {"codes": {"axes": 96}},
    }  # fmt: skip
    (folder / "index" / "manifest.json").write_text(json.dumps(manifest))
    seconds = {"pin": 0, "train": 2 * millions, "encode": 30 * millions, "merge": 8 * millions}
    (folder / "build.json").write_text(json.dumps({"machine": "m", "seconds": seconds}))
    points = []
    for recall, deep in ((0.86, 1), (0.94, 2), (0.96, 2.4), (0.995, 8)):
        figures = {"recall": recall, "mean_ms": deep * factor * millions**0.3}
        figures |= {"p50_ms": figures["mean_ms"], "p99_ms": 3 * figures["mean_ms"]}
        search = {"nprobe": round(64 * deep * millions**0.5), "k_factor": 8}
        points.append({"search": search, "single": dict.fromkeys(("pictures", "texts", "both"), figures)})
    quantiles = {"p50 ms": 1.0, "p95 ms": 2.0, "p99 ms": 3.0, "worst": 4.0}
    spread = quantiles | {"ms by percentile": {"1": 0.5, "50": 1.0, "99": 3.0, "100": 4.0}}
    under_load = {"queries/s": 100.0, **quantiles}
    search = {"nprobe": 64, "k_factor": 8}
    recall = {"pictures": 0.99, "texts": 0.95}
    varied = [
        {"search": search | {name: round(value * by)}, "recall": recall, **quantiles}
        for name, value in search.items()
        for by in (0.5, 1, 2)
    ]
    latency = {
        "machine": "m", "items": items, "search": search, "recall": recall, "points": points, "memory limit": 2**34,
        "latency": dict.fromkeys(("cold", "steady", "again"), spread), "by parameters": varied,
        "by k": dict.fromkeys(("10", "50", "100"), quantiles), "memory": {"VmHWM": 600 * millions, "RssAnon": 100.0},
        "load": dict.fromkeys(("1", "2", "4"), under_load),
    }  # fmt: skip
    (folder / "latency.json").write_text(json.dumps(latency))
    return folder


@pytest.fixture
def grown(tmp_path):
    """Four sizes; a query of the largest takes three times what the law of the others says."""
    return [write_size(tmp_path / str(items), items, 3 if items == SIZES[3] else 1) for items in SIZES[:4]]


def test_a_recall_that_the_largest_does_not_reach_is_said_to_be_missing(bench, grown):
    path = grown[3] / "latency.json"
    latency = json.loads(path.read_text())
    latency["points"] = latency["points"][:-1]
    path.write_text(json.dumps(latency))
    sizes = [bench.growth.Size.read(folder) for folder in grown]
    laws = bench.growth.laws_of(sizes)
    line = next(line for line in bench.growth.tables(sizes, laws).splitlines() if line.startswith("| p50 ms at 0.99"))
    assert line.count("not reached") == 1 and line.endswith("not reached |")
    assert next(law for law in laws if law.name == "p50 ms at 0.99").until == SIZES[2]


def test_growth_reads_folders_finds_their_laws_and_writes_them_down(bench, grown, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["growth.py", *map(str, reversed(grown)), "--out", str(tmp_path / "out")])
    bench.growth.main()
    laws = {law["name"]: law for law in json.loads((tmp_path / "out" / "growth.json").read_text())["laws"]}
    assert laws["disk GiB"]["slope"] == pytest.approx(600 * 1e6 / 2**30)
    assert laws["searched first GiB"]["slope"] == pytest.approx(70 * 1e6 / 2**30)
    assert laws["build µs a vector"]["start"] == pytest.approx(40)
    assert laws["lists probed at 0.95"]["slope"] == pytest.approx(0.5, abs=0.01)
    assert laws["p50 ms at 0.95"]["slope"] == pytest.approx(0.3, abs=1e-6)
    assert laws["p50 ms at 0.95"]["stops"] == SIZES[3]
    assert laws["p50 ms at 0.95"]["off"][str(SIZES[3])] == pytest.approx(2, abs=1e-6)
    assert laws["lists probed at 0.95"]["stops"] is None
    # Half-way between 0.94 and 0.96, by the logarithm.
    assert math.exp(laws["p50 ms at 0.95"]["start"]) == pytest.approx(math.sqrt(2 * 2.4))
    assert (tmp_path / "out" / "growth.png").read_bytes().startswith(b"\x89PNG")
    assert "30,000,000 (+200%)" in capsys.readouterr().out


@pytest.mark.parametrize(("chosen", "said"), [([0], "two or more"), ([0, 0], "two or more")])
def test_growth_of_one_size_is_refused(bench, grown, chosen, said, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["growth.py", *(str(grown[at]) for at in chosen)])
    with pytest.raises(SystemExit, match=said):
        bench.growth.main()


def test_a_folder_that_was_not_measured_names_the_command(bench, grown):
    (grown[0] / "latency.json").unlink()
    with pytest.raises(SystemExit, match=f"scale_latency.py {grown[0]}"):
        bench.growth.Size.read(grown[0])


def test_plots_of_one_size_have_every_setting_in_order(bench, grown, tmp_path):
    measured = bench.scale_plots.read_latency(grown[0])
    assert [each["search"]["nprobe"] for each in bench.scale_plots.by_parameter(measured, "nprobe")] == [32, 64, 128]
    assert {each["search"]["k_factor"] for each in bench.scale_plots.by_parameter(measured, "nprobe")} == {8}
    assert "| k = 50 | 1.00 | 2.00 | 3.00 |" in bench.scale_plots.tables(measured)
    bench.scale_plots.draw(measured, tmp_path / "scale.png")
    assert (tmp_path / "scale.png").read_bytes().startswith(b"\x89PNG")


def test_a_setting_at_a_recall_lies_between_two_by_its_logarithm_and_nowhere_beyond(bench):
    curve = {1: 0.5, 4: 0.9, 16: 0.98}
    assert bench.scale_match.setting_at(curve, 0.94) == pytest.approx(8)
    assert bench.scale_match.setting_at(curve, 0.9) == pytest.approx(4)
    assert bench.scale_match.setting_at(curve, 0.99) is None
    assert bench.scale_match.setting_at(curve, 0.4) is None
