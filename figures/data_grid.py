"""Examples of a data set, each with its label or its target."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from figures.style import figure, save
from refbnn.data import Dataset

_COLUMNS, _ROWS = 12, 6


def draw(dataset: Dataset, path: Path) -> None:
    """Save a grid of examples, evenly spread over the data set, as a PNG file.

    Parameters
    ----------
    dataset
        Of images: x of shape (N, 1 or 3, height, width).
    path
    """
    fig, axes = figure(_COLUMNS, _ROWS, panel=(0.8, 0.95))
    # Distinct where there are enough; the last of fewer examples is repeated by no one.
    shown = np.unique(np.linspace(0, len(dataset) - 1, _COLUMNS * _ROWS).astype(int))
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, i in zip(axes.flat, shown, strict=False):
        image = dataset.x[i].transpose(1, 2, 0)
        axis.imshow(image, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
        label = dataset.y[i]
        words = str(label) if dataset.task == "classes" else ", ".join(f"{v:.2f}" for v in label)
        axis.set_title(words, fontsize=8, pad=2)
    fig.suptitle(f"{dataset.name}, {len(dataset):,} examples", fontsize=10)
    save(fig, path)
