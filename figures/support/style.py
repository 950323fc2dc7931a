"""The look that all figures share: colours, labels, legends, and picture files without a date."""

from __future__ import annotations

import re
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
    "svg.hashsalt": "refbnn",  # names of an SVG's parts are random otherwise
}
_UNDATED: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
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
    """Write PNG, SVG or PDF without version or date, so that equal pictures are equal files."""
    with mpl.rc_context(_SETTINGS), written_atomically(path) as temporary:
        fig.savefig(temporary, dpi=130, metadata=_UNDATED.get(path.suffix))


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


def axis_label(column: str) -> str:
    """Label an axis by a column's name: "conductance_uS" -> "conductance (µS)"."""
    name, unit = _parts(column)
    return plain(f"{name} ({unit})" if unit else name)


def per_unit(text: str, column: str) -> str:
    """Label an axis of something per unit of a column: "density" -> "density (1/µS)"."""
    unit = _parts(column)[1]
    return plain(f"{text} (1/{unit})" if unit else text)


def plain(text: str) -> str:
    """Escape what Matplotlib would read as a formula."""
    return text.replace("$", r"\$")


def _parts(column: str) -> tuple[str, str]:
    """Name and unit of a column, "" where it states none: name (unit), or name_uS."""
    if match := re.fullmatch(r"(.+?)\s*[(\[](.+)[)\]]", column):
        return match[1], match[2].replace("uS", "µS")
    name, _, unit = column.rpartition("_")
    return (name, "µS") if unit == "uS" and name else (column, "")
