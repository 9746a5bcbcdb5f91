"""How reports are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DOTS_PER_INCH = 150
DARK = 0.55
"""Above, numbers stand on light cells."""


def figure(width: float, height: float) -> tuple[Figure, Any]:
    """An empty picture of this size in inches, and its axes. No window is ever opened."""
    drawn = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(drawn)
    return drawn, drawn.subplots()


def heat_map(axes: Axes, shares: Sequence[Sequence[float]], rows: Sequence[str], columns: Sequence[str]) -> None:
    """Shares from 0 to 1 as colours with their percentage; NaN stays white."""
    axes.imshow(shares, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    for row, line in enumerate(shares):
        for column, value in enumerate(line):
            if value == value:  # no NaN
                colour = "black" if value > DARK else "white"
                axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", color=colour, fontsize=7)
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=7)
    axes.set_yticks(range(len(rows)), rows, fontsize=7)
