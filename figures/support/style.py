"""One look for every figure, and files that come out the same twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe & Ito 2008: told apart with any colour vision.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#777777"
GREEN, PINK, AMBER = "#009E73", "#CC79A7", "#E69F00"

_SETTINGS: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "font.size": 10,
    "axes.titlesize": 11,
}


def figure(columns: int, rows: int = 1, panel: tuple[float, float] = (4.6, 3.5), **subplots):
    """Open a figure and its axes, without any window system.

    Parameters
    ----------
    columns, rows : int
    panel : (float, float)
        Width and height of one panel in inches.
    **subplots
        Such as `sharex`, for `Figure.subplots`.

    Returns
    -------
    Figure, and its axes of shape (rows, columns)
    """
    with mpl.rc_context(_SETTINGS):
        fig = Figure(figsize=(panel[0] * columns, panel[1] * rows), layout="constrained")
        FigureCanvasAgg(fig)
        return fig, fig.subplots(rows, columns, squeeze=False, **subplots)


def save(fig: Figure, path: Path) -> None:
    """Write a PNG without version or date, so that equal pictures are equal files."""
    with mpl.rc_context(_SETTINGS):
        fig.savefig(path, dpi=130, metadata={"Software": None})


def with_unit(column: str) -> str:
    """Axis label of a column of measurements: "conductance_uS" -> "conductance (µS)"."""
    name, _, unit = column.rpartition("_")
    label = f"{name} (µS)" if unit == "uS" and name else column
    return label.replace("$", r"\$")  # no formula
