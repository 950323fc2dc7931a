"""Pictures that compare propagation with sampling: moments of logits, and uncertainties."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from figures.support.style import BLUE, GREY, ORANGE, figure, save
from refbnn import Moments
from refbnn.prediction.result import Prediction


def draw_moments(pairs: dict[str, tuple[Moments, Moments]], n_samples: int, path: Path) -> None:
    """Save a PNG of logit moments (B, C), propagated and sampled ones as a pair a data set."""
    fig, ((means, spreads),) = figure(2)
    for colour, (name, (propagated, sampled)) in zip((BLUE, ORANGE), pairs.items(), strict=False):
        style = {"color": colour, "ms": 2, "alpha": 0.35, "label": name}
        means.plot(sampled.mean.ravel(), propagated.mean.ravel(), ".", **style)
        spreads.plot(np.sqrt(sampled.var).ravel(), np.sqrt(propagated.var).ravel(), ".", **style)
    for axes, what in ((means, "mean"), (spreads, "standard deviation")):
        low, high = axes.get_xlim()
        axes.plot([low, high], [low, high], color=GREY, lw=1, ls="--", label="equal", zorder=3)
        axes.set(xlabel=f"sampled, {n_samples} passes", ylabel="propagated, one pass")
        axes.set_title(f"Logit {what}")
        legend = axes.legend(fontsize=8, markerscale=5)
        for handle in legend.legend_handles:
            handle.set_alpha(1.0)
    save(fig, path)


def draw_uncertainty(
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
