"""Figures for readers: Markdown tables, and panels in rows and columns, saved as one PNG that appears whole."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lookalike.storage.atomic import write_bytes

PANEL = (5.0, 3.9)
"""Inches, wide and high."""
MANY_TICKS = 3_000
"""Times that the end of a logarithmic axis is its beginning, from which on powers of ten alone are ticks."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown; a row may be shorter than the head."""
    filled = [[*row, *[""] * (len(head) - len(row))] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *filled))


@contextmanager
def panels(path: Path, rows: int, columns: int, title: str) -> Iterator[list[Any]]:
    """Axes, row by row, to be drawn on within the block; what is left empty is taken away. Then `path` is written."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FixedLocator

    figure, grid = pyplot.subplots(
        rows, columns, figsize=(columns * PANEL[0], rows * PANEL[1]), squeeze=False, layout="constrained"
    )
    axes = list(grid.flat)
    yield axes
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.set_visible(axis.has_data())
        for side in (axis.xaxis, axis.yaxis):
            if side.get_scale() == "log" and not isinstance(side.get_major_locator(), FixedLocator):
                _written_out(side)
    figure.suptitle(title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    pyplot.close(figure)
    write_bytes(path, buffer.getvalue())
    print(f"written: {path}")


def _written_out(side: Any) -> None:
    """Ticks of a logarithmic axis as plain numbers; matplotlib would write powers, one over the other."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = side.get_view_interval()
    side.set_major_locator(LogLocator(subs=(1,) if high > MANY_TICKS * low else (1, 2, 5)))
    side.set_major_formatter("{x:g}")
    side.set_minor_formatter(NullFormatter())


def marked(axis: Any, values: list[float], form: str = "{:g}") -> None:
    """Ticks of a logarithmic x axis at these values alone, each written out."""
    axis.set_xscale("log")
    axis.set_xticks(values, [form.format(value) for value in values])
    axis.minorticks_off()


def counted(items: float) -> str:
    """`3 M` for three million."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if items >= size:
            return f"{items / size:g} {unit}"
    return f"{items:g}"
