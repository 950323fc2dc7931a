"""Mean and standard deviation of every logit: one propagation compared with sampled passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from figures.support.style import BLUE, GREY, ORANGE, figure, save
from refbnn import Moments


def draw(pairs: dict[str, tuple[Moments, Moments]], n_samples: int, path: Path) -> None:
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
