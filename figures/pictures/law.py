"""A law's density and inverse CDF, alone or over the measurements that it was fitted to."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from figures.support.style import BLUE, GREY, ORANGE, axis_label, figure, per_unit, save
from refbnn.noise import Gaussian, Law
from refbnn.noise.storage import Measured

_OUTSIDE = 1e-4  # probability left out on either side where there are no measurements
_NODES = 8


def draw(law: Law, place: Measured, path: Path, values: np.ndarray | None = None) -> None:
    """Save a picture of a law on the scale of what was measured: PNG, SVG or PDF.

    Values (n,), the measurements behind it, are shown as a histogram and as quantiles.
    """
    fig, ((density, inverse),) = figure(2)
    _draw_density(density, law, place, values)
    inside = _OUTSIDE if values is None else 0.0
    u = np.linspace(inside, 1.0 - inside, 2001)
    if values is not None:
        levels = np.linspace(0.0, 1.0, 41)
        quantiles = np.quantile(values, levels)
        inverse.plot(levels, quantiles, "o", color=GREY, mfc="none", label="quantiles of values")
    inverse.plot(u, place.location + place.scale * law.icdf(u), color=BLUE, lw=2, label="G(u)")
    inverse.set(xlabel="u", ylabel=axis_label(place.quantity), title="Inverse CDF G(u)")
    for axes in (density, inverse):
        axes.legend(fontsize=8, loc="upper left")
    save(fig, path)


def _draw_density(axes, law: Law, place: Measured, values: np.ndarray | None) -> None:
    if values is None:
        ends = place.location + place.scale * law.icdf(np.array([_OUTSIDE, 1.0 - _OUTSIDE]))
    else:
        ends = np.array([values.min(), values.max()])
    margin = 0.06 * (ends[1] - ends[0])
    x = np.linspace(ends[0] - margin, ends[1] + margin, 2001)
    z = (x - place.location) / place.scale
    gaussian = np.exp(Gaussian().log_pdf(z)) / place.scale
    q = np.exp(law.log_pdf(z)) / place.scale
    # Near a singular edge the density has no maximum: there the picture is cut.
    high = np.exp(np.quantile(law.log_pdf(law.icdf(np.linspace(0.01, 0.99, 99))), 0.9))
    top = max(min(q.max(), 3.0 * high / place.scale), gaussian.max())
    if values is not None:
        heights, *_ = axes.hist(
            values, 60, density=True, color=GREY, alpha=0.4, label="measurements"
        )
        top = max(top, heights.max())
    axes.plot(x, q, color=BLUE, lw=2, label=type(law).__name__)
    axes.plot(x, gaussian, color=ORANGE, ls="--", label="Gaussian, same mean and scale")
    nodes = place.location + place.scale * law.quadrature(_NODES).nodes
    nodes = nodes[(nodes >= x[0]) & (nodes <= x[-1])]
    label = f"nodes of the {_NODES}-node Gauss rule"
    axes.plot(nodes, np.zeros(nodes.size), "|", color=GREY, ms=14, mew=1.5, label=label)
    axes.set_ylim(-0.04 * top, 1.5 * top)  # room for the legend
    axes.set(
        xlabel=axis_label(place.quantity),
        ylabel=per_unit("probability density", place.quantity),
        title="Law",
    )
