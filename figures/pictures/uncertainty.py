"""Histograms of uncertainty on in- and out-of-distribution inputs, by PFP and by SVI."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from figures.support.style import BLUE, ORANGE, figure, save
from refbnn.prediction.result import Prediction


def draw(
    predictions: dict[str, tuple[Prediction, Prediction]], names: tuple[str, str], path: Path
) -> None:
    """Save a PNG with a row for each method and a column for each measure of uncertainty.

    `predictions` holds, by method, those in and out of distribution; `names` names the data sets.
    """
    measures = {
        "predictive entropy (nats)": lambda p: p.entropy,
        "mutual information (nats)": lambda p: p.mutual_information,
    }
    fig, axes = figure(len(measures), len(predictions))
    for column, (label, measure) in enumerate(measures.items()):
        greatest = max(measure(p).max() for pair in predictions.values() for p in pair)
        bins = np.linspace(0.0, greatest, 50)
        for row, (method, pair) in enumerate(predictions.items()):
            for colour, name, prediction in zip((BLUE, ORANGE), names, pair, strict=True):
                axes[row, column].hist(
                    measure(prediction), bins, density=True, color=colour, alpha=0.55, label=name
                )
            # Confident inputs pile up at zero; a log scale keeps the rest in sight.
            axes[row, column].set(
                xlabel=label,
                ylabel="density",
                yscale="log",
                title=f"{method}: {label.split(' (')[0]}",
            )
            axes[row, column].legend(fontsize=8)
    save(fig, path)
