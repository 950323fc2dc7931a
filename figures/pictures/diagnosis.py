"""Where a network's propagation should not be trusted, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from figures.support.style import BLUE, GREY, ORANGE, PINK, figure, legend_below

_LINEAR = 1e-3  # nats: below it the axis is linear, as less chance a divergence may be negative


def draw(layers: Sequence[Mapping[str, Any]], threshold: float) -> Figure:
    """Draw the divergence from a Gaussian and, of sampled passes, the ratio of variances.

    Parameters
    ----------
    layers : sequence of mapping
        Rows of `refbnn diagnose --json`: "layer", "kind", "divergence_nats" and "sampled".
    threshold : float
        Divergence above which an entry is flagged, in nats.
    """
    sampled = [row["sampled"] for row in layers if row["sampled"] is not None]
    fig, (axes,) = figure(2 if sampled else 1, panel=(4.8, 3.5))
    place = np.arange(len(layers))
    divergences = [row["divergence_nats"] for row in layers]
    _quantiles(axes[0], place - 0.1, divergences, BLUE, "first order")
    if sampled:
        of_samples = [s["divergence_less_chance_nats"] for s in sampled]
        _quantiles(axes[0], place + 0.1, of_samples, ORANGE, "sampled")
        divergences += of_samples
        ratios = [s["variance_ratio_sampled_to_propagated"] for s in sampled]
        middle = np.array([r["median"] for r in ratios])
        ends = np.array([[r["q05"], r["q95"]] for r in ratios]).T
        axes[1].errorbar(place, middle, np.abs(ends - middle), fmt="o", color=ORANGE, capsize=3)
        axes[1].axhline(1.0, color=PINK, lw=1)
        axes[1].set(ylabel="variance, sampled/propagated", title="Variance: median, 5 to 95 %")
    axes[0].axhline(threshold, color=GREY, ls="--", lw=1, label="flagged above")
    axes[0].set(
        ylabel="KL from a Gaussian (nats)",
        title="Divergence: median to 95 %",
    )
    axes[0].set_yscale("symlog", linthresh=_LINEAR)
    axes[0].set_ylim(bottom=min(0.0, *(1.2 * row["median"] for row in divergences)))
    legend_below(fig, axes[0])
    for ax in axes:
        ax.set_xticks(place, [f"{row['layer']}\n{row['kind']}" for row in layers])
        ax.set_xlabel("layer")
        ax.margins(x=0.15)
    return fig


def _quantiles(ax, place: np.ndarray, quantiles: list[Mapping[str, float]], colour: str,
               label: str) -> None:  # fmt: skip
    """Medians with a bar up to the 95 % quantile."""
    middle, high = (np.array([q[key] for q in quantiles]) for key in ("median", "q95"))
    ax.errorbar(place, middle, [np.zeros_like(middle), high - middle], fmt="o", color=colour,
                capsize=3, label=label)  # fmt: skip
