"""Device: whether a GPU takes part in a build, decided when it is pinned; and which wheel of faiss is installed.

Two wheels own the module `faiss`, and only one of them knows GPUs. What is trained and made on a GPU is as good as what
is made without one, but has other bytes: so this is one of a build's inputs.
"""

import ctypes
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import faiss

from lookalike.contracts.errors import LookalikeError, MissingPrerequisite
from lookalike.contracts.manifest import IndexRecipe

Device = Literal["cpu", "gpu"]
FAISS: Any = faiss
SETTING = "index.device"
WHEELS = {"faiss-cpu": "index", "faiss-gpu-cuvs": "index-gpu"}
"""By name, with the extra that installs it."""
OTHER_WHEELS = ("faiss-gpu", "faiss-gpu-cu12", "faiss")
"""That own the same module and are in no extra."""
WORTH_ITEMS = 10_000
"""A CPU is done with fewer in the seconds that it takes to begin on a GPU."""
CONTEXT_BYTES = 2**30
"""Of the GPU's memory: its kernels, and what faiss sets aside to work in."""
TILE_BYTES = 2**30
"""Of products of vectors and centres on their way: faiss takes so much at most."""
GRAPH_DEGREE, FIRST_DEGREE = 64, 128
"""Links of each row in a graph made on a GPU, and before it is pruned."""


def choose_device(wanted: str, recipe: IndexRecipe, items: int, dim: int) -> tuple[Device, str]:
    """Where lists are trained and graphs made, and why in words. `wanted`: the setting: auto, cpu or gpu.

    Raises MissingPrerequisite when it is gpu and none can be used here.
    """
    if wanted == "cpu":
        return "cpu", f"{SETTING} is cpu"
    if not (needed := gpu_bytes(recipe, items, dim)):
        return "cpu", f"recipe {recipe.name} has nothing that a GPU would do"
    if wanted == "auto" and items < WORTH_ITEMS:
        return "cpu", f"{items:,} items are fewer than {WORTH_ITEMS:,}, from which on a GPU is quicker"
    lack = lacking(needed)
    if lack and wanted == "gpu":
        raise MissingPrerequisite(f"{SETTING} is gpu, but {lack}; or set {SETTING} to auto or cpu")
    return ("cpu", lack) if lack else ("gpu", f"{SETTING} is {wanted}, and there is one")


def require_gpu(needed: int, what: str) -> None:
    """Before a step of a build that was pinned for a GPU. Raises MissingPrerequisite where none can be used."""
    if lack := lacking(needed):
        raise MissingPrerequisite(
            f"this build was pinned where there is a GPU, and {what} takes one, but {lack}; do this step there, or pin "
            f"the build again with {SETTING}=cpu"
        )


def lacking(needed: int) -> str:
    """Why no GPU can be used here for what takes `needed` bytes of its memory; empty where one can."""
    if not hasattr(faiss, "StandardGpuResources"):
        there, wanted = " and ".join(installed_wheels()) or "faiss of no known wheel", "faiss-gpu-cuvs"
        return (
            f"{there} is installed, which knows no GPU; install the extra {WHEELS[wanted]} ({wanted}) in its place, "
            "never beside it"
        )
    if not FAISS.get_num_gpus():
        return "faiss finds no NVIDIA GPU; look at `nvidia-smi` and CUDA_VISIBLE_DEVICES"
    free = free_bytes()
    return f"{needed:,} bytes of the GPU's memory are needed and {free:,} are free" if free < needed else ""


def free_bytes() -> int:
    """Of the first GPU's memory; 0 where CUDA does not tell."""
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    try:  # the wheels for GPUs have loaded CUDA, for all to see
        failed = ctypes.CDLL(None).cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
    except AttributeError:
        return 0
    return 0 if failed else free.value


def gpu_bytes(recipe: IndexRecipe, items: int, dim: int) -> int:
    """Of the GPU's memory, that a build takes; 0 for a recipe without lists or graph."""
    if recipe.nlist is not None:
        return gpu_lists_bytes(recipe.nlist, dim)
    return gpu_graph_bytes(items, dim) if "efSearch" in recipe.search else 0


def gpu_lists_bytes(nlist: int, dim: int) -> int:
    """Of the GPU's memory, to compare vectors with so many centres: vectors come in blocks, so they do not count."""
    return CONTEXT_BYTES + TILE_BYTES + 2 * 4 * nlist * dim


def gpu_graph_bytes(items: int, dim: int) -> int:
    """Of the GPU's memory, to make a graph over so many vectors: these, and the graph before and after pruning."""
    return CONTEXT_BYTES + TILE_BYTES + items * 4 * (dim + 2 * FIRST_DEGREE + GRAPH_DEGREE)


def installed_wheels() -> list[str]:
    """Name and version of each that owns the module `faiss`."""
    found = []
    for name in (*WHEELS, *OTHER_WHEELS):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found


def require_one_wheel() -> None:
    """Raises LookalikeError where two wheels lie over each other: what is imported then is a mixture of both."""
    found = installed_wheels()
    if len(found) > 1:
        names = " ".join(each.split()[0] for each in found)
        extras = " or ".join(f"{extra} ({name})" for name, extra in WHEELS.items())
        raise LookalikeError(
            f"{' and '.join(found)} are installed, and all own the module `faiss`. Remove them all "
            f"(pip uninstall {names}), then install one extra: {extras}"
        )
