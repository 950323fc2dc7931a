"""The look that all figures share: colours, axes, legends, and PNG files without a date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from refbnn.files.atomic import written_atomically

# Okabe & Ito 2008: distinguishable with any colour vision.
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
    "text.parse_math": False,  # labels hold names from files
}


def figure(columns: int, rows: int = 1, panel: tuple[float, float] = (4.6, 3.5), **subplots):
    """Open a figure and its axes (rows, columns), each `panel` inches large, without a window.

    Further options, such as `sharex`, go to `Figure.subplots`.
    """
    with mpl.rc_context(_SETTINGS):
        fig = Figure(figsize=(panel[0] * columns, panel[1] * rows), layout="constrained")
        FigureCanvasAgg(fig)
        return fig, fig.subplots(rows, columns, squeeze=False, **subplots)


def save(fig: Figure, path: Path) -> None:
    """Write a PNG without version or date, so that equal pictures are equal files."""
    with mpl.rc_context(_SETTINGS), written_atomically(path) as temporary:
        fig.savefig(temporary, dpi=130, format="png", metadata={"Software": None})


def legend_below(fig: Figure, *sources: Axes, columns: int | None = None) -> None:
    """Draw one legend below all panels, with every label of the given axes once."""
    handles = {
        label: handle
        for axes in sources
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    fig.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=columns or len(handles),
        fontsize=9,
    )
