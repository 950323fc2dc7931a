"""A grid of examples of a data set, each with its label or its target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from figures.support.style import figure, save
from refbnn.data import Dataset

_COLUMNS, _ROWS = 12, 6
_STYLE: Any = {"cmap": "gray", "interpolation": "nearest"}
_GAP = 0.3  # space for a label between pictures, in picture widths


def draw(dataset: Dataset, path: Path) -> None:
    """Save a grid of images (N, 1 or 3, height, width), evenly spread over the data set, as PNG."""
    fig, ((axis,),) = figure(1, panel=(0.8 * _COLUMNS, 0.83 * _ROWS))
    step = 1.0 + _GAP
    # Where there are fewer examples than cells, each is shown once.
    shown = np.unique(np.linspace(0, len(dataset) - 1, _COLUMNS * _ROWS).astype(int))
    for cell, i in enumerate(shown):
        row, column = divmod(cell, _COLUMNS)
        left, top = column * step, row * step
        extent = (left, left + 1.0, top + 1.0, top)
        axis.imshow(dataset.x[i].transpose(1, 2, 0), vmin=0.0, vmax=1.0, extent=extent, **_STYLE)
        label = dataset.y[i]
        words = str(label) if dataset.task == "classes" else ", ".join(f"{v:.2f}" for v in label)
        axis.text(left + 0.5, top - 0.05, words, ha="center", va="bottom", fontsize=8)
    axis.set(xlim=(0.0, _COLUMNS * step - _GAP), ylim=(_ROWS * step - _GAP, -_GAP), aspect="equal")
    axis.set_axis_off()
    axis.set_title(f"{dataset.name}, {len(dataset):,} examples", fontsize=10)
    save(fig, path)
