"""Which device a build takes, what is said where there is no GPU, and that one wheel of faiss is there."""

import re
import sys
import tomllib
from itertools import combinations
from pathlib import Path

import faiss
import pytest

from index_builder import device
from index_builder.device import (
    choose_device,
    free_bytes,
    gpu_bytes,
    gpu_graph_bytes,
    gpu_lists_bytes,
    installed_wheels,
    lacking,
    require_gpu,
    require_one_wheel,
)
from index_builder.pin import Pin, make_pin
from index_builder.recipes import load_recipe, settle
from lookalike.contracts.errors import LookalikeError, MissingPrerequisite, SettingsError
from lookalike.contracts.settings import IndexSettings, load_settings

ROOT = Path(__file__).parents[3]
MANY, DIM = 1_000_000, 512
HNSW, EXACT = load_recipe("hnsw"), load_recipe("exact")


def lists():
    return settle(load_recipe("ivf_pq"), MANY)


@pytest.fixture
def of_cpu(monkeypatch):
    """faiss as the wheel without GPUs has it."""
    monkeypatch.delattr(faiss, "StandardGpuResources", raising=False)


@pytest.fixture
def with_gpus(monkeypatch):
    """faiss as the wheel for GPUs has it, on a machine with so many of them and so much of the first one's memory."""

    def of(count: int, free: int = 0) -> None:
        monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
        monkeypatch.setattr(faiss, "get_num_gpus", lambda: count)
        monkeypatch.setattr(device, "free_bytes", lambda: free)

    return of


@pytest.mark.parametrize("recipe", [HNSW, lists()], ids=["graph", "lists"])
def test_with_the_wheel_of_cpus_auto_takes_the_cpu_and_gpu_names_the_extra(of_cpu, recipe):
    assert choose_device("auto", recipe, MANY, DIM)[0] == "cpu"
    with pytest.raises(MissingPrerequisite, match=r"index\.device is gpu, but .*extra index-gpu \(faiss-gpu-cuvs\)"):
        choose_device("gpu", recipe, MANY, DIM)


def test_without_a_gpu_auto_takes_the_cpu_and_gpu_says_where_to_look(with_gpus):
    with_gpus(0)
    chosen, because = choose_device("auto", HNSW, MANY, DIM)
    assert chosen == "cpu" and "no NVIDIA GPU" in because
    with pytest.raises(MissingPrerequisite, match=r"no NVIDIA GPU.*nvidia-smi"):
        choose_device("gpu", HNSW, MANY, DIM)


@pytest.mark.parametrize("recipe", [HNSW, lists()], ids=["graph", "lists"])
def test_a_gpu_is_taken_when_its_memory_is_enough(with_gpus, recipe):
    needed = gpu_bytes(recipe, MANY, DIM)
    with_gpus(1, needed)
    assert choose_device("auto", recipe, MANY, DIM)[0] == choose_device("gpu", recipe, MANY, DIM)[0] == "gpu"
    assert choose_device("cpu", recipe, MANY, DIM)[0] == "cpu"
    with_gpus(1, needed - 1)
    chosen, because = choose_device("auto", recipe, MANY, DIM)
    assert chosen == "cpu" and f"{needed:,} bytes" in because and f"{needed - 1:,} are free" in because
    with pytest.raises(MissingPrerequisite, match=f"{needed:,}"):
        choose_device("gpu", recipe, MANY, DIM)


def test_few_items_are_left_to_the_cpu_unless_a_gpu_is_named(with_gpus):
    with_gpus(1, 2**40)
    assert choose_device("auto", HNSW, device.WORTH_ITEMS - 1, DIM)[0] == "cpu"
    assert choose_device("auto", HNSW, device.WORTH_ITEMS, DIM)[0] == "gpu"
    assert choose_device("gpu", HNSW, device.WORTH_ITEMS - 1, DIM)[0] == "gpu"


def test_a_scan_has_nothing_for_a_gpu(with_gpus):
    with_gpus(1, 2**40)
    assert {choose_device(wanted, EXACT, MANY, DIM)[0] for wanted in ("auto", "cpu", "gpu")} == {"cpu"}


def test_memory_of_lists_does_not_grow_with_the_items_and_that_of_a_graph_does():
    assert gpu_bytes(lists(), MANY, DIM) == gpu_bytes(lists(), 100 * MANY, DIM) == gpu_lists_bytes(lists().nlist, DIM)
    assert gpu_lists_bytes(65_536, DIM) < 3 * 2**30  # fits the smallest GPUs that are sold for this
    assert gpu_graph_bytes(2 * MANY, DIM) - gpu_graph_bytes(MANY, DIM) >= 4 * MANY * (DIM + 64)


def test_a_step_without_the_gpu_it_was_pinned_for_says_what_to_do(of_cpu):
    with pytest.raises(
        MissingPrerequisite, match=r"making the graph takes one.*pin the build again with index\.device=cpu"
    ):
        require_gpu(1, "making the graph")


@pytest.mark.skipif(
    hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0, reason="what a machine without a GPU says"
)
def test_this_machine_says_that_it_has_none():
    assert lacking(0) and free_bytes() == 0


def test_one_wheel_is_installed_here():
    require_one_wheel()
    assert len(installed_wheels()) == 1


def test_each_pinned_union_has_one_wheel_and_extras_of_two_wheels_exclude_each_other():
    for name, wheel in {"requirements.txt": "faiss-cpu", "requirements-gpu.txt": "faiss-gpu-cuvs"}.items():
        assert re.findall(r"(?m)^faiss[^=]*", (ROOT / name).read_text()) == [wheel]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]

    def wheels(extra: str) -> set[str]:
        needs = " ".join(extras[extra])
        nested = [each for names in re.findall(r"lookalike\[([^]]*)", needs) for each in names.split(",")]
        return set(re.findall(r"faiss-[a-z-]+", needs)).union(*map(wheels, nested))

    assert {extra: wheels(extra) for extra in extras if wheels(extra)} == {
        "index": {"faiss-cpu"},
        "line": {"faiss-cpu"},
        "index-gpu": {"faiss-gpu-cuvs"},
        "line-gpu": {"faiss-gpu-cuvs"},
    }
    excluded = {frozenset(each["extra"] for each in pair) for pair in project["tool"]["uv"]["conflicts"]}
    for one, other in combinations(extras, 2):
        assert (len(wheels(one) | wheels(other)) > 1) == (frozenset((one, other)) in excluded), (one, other)


def test_two_wheels_are_reported_by_name_before_a_build(tmp_path, monkeypatch, catalogue):
    there = installed_wheels()[0].split()[0]
    other = next(name for name in device.WHEELS if name != there)
    folder = tmp_path / f"{other.replace('-', '_')}-1.15.1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {other}\nVersion: 1.15.1\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    with pytest.raises(
        LookalikeError, match=r"(?s)faiss-cpu .* and faiss-gpu-cuvs .*pip uninstall faiss-cpu faiss-gpu"
    ):
        make_pin(catalogue.settings, catalogue.source, "exact")


def test_the_device_is_one_of_a_builds_inputs(catalogue, of_cpu):
    settings = catalogue.settings
    pinned = make_pin(settings, catalogue.source, "hnsw")
    assert pinned.device == "cpu" and pinned.device_because
    assert pinned.model_copy(update={"device": "gpu"}).build_id != pinned.build_id
    older = pinned.model_dump(exclude={"device", "device_because"})
    assert Pin.model_validate(older).build_id == pinned.build_id  # what an earlier version began is gone on with
    demanded = settings.model_copy(update={"index": settings.index.model_copy(update={"device": "gpu"})})
    with pytest.raises(MissingPrerequisite, match="index-gpu"):
        make_pin(demanded, catalogue.source, "hnsw")


def test_another_device_is_refused_with_those_that_are_allowed(monkeypatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOOKALIKE_INDEX__DEVICE", "cuda")
    with pytest.raises(SettingsError, match=r"index\.device.*'auto', 'cpu' or 'gpu'"):
        load_settings()
    assert IndexSettings().device == "auto"
