"""A fitted law over the measurements' histogram, and its residuals with the test's band.

The residual is F_n − F, the empirical distribution function minus the fitted one, half-way between
neighbouring values: there, steps of rounding do not show. The band is where the Kolmogorov–Smirnov
test of a fitted law does not refute it at 1 % (`refbnn.noise.fitting.evidence`), for all values at
once: a law is refuted if its residual leaves the band.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from figures.support.style import (
    BLUE,
    GREY,
    ORANGE,
    axis_label,
    figure,
    legend_below,
    per_unit,
    plain,
)
from refbnn.cli.plots.saving import save_plot
from refbnn.noise import Gaussian, NoiseFit
from refbnn.noise.fitting import REFUTED
from refbnn.noise.fitting.result import p_text

_MOST_POINTS = 5_000
_LEAST_POINTS = 400  # of a curve
_CUT = 3.0  # histogram heights at which a singular edge is cut


def draw(found: NoiseFit, values: np.ndarray, column: str, path: Path) -> None:
    """Draw and save the picture of a fit to the values of a column."""
    fig, axes = figure(1, 2, (5.6, 2.9), sharex=True, height_ratios=(1.6, 1.0))
    density, residual = axes[:, 0]
    _draw_density(density, found, values)
    _draw_residual(residual, found, values)
    density.set_title(
        plain(f"{found.family}, n = {found.n_values}, p {p_text(found.ks_p_value, sign=True)}")
    )
    density.set_ylabel(per_unit("probability density", column))
    residual.set(xlabel=axis_label(column), ylabel="$F_n - F$")
    legend_below(fig, density, residual, columns=2)
    save_plot(fig, path)


def _draw_density(axes, found: NoiseFit, values: np.ndarray) -> None:
    span = np.ptp(values)
    ends = (values.min() - 0.05 * span, values.max() + 0.05 * span)
    bins = 60 if values.size > 1000 else 30
    heights, *_ = axes.hist(values, bins, density=True, color=GREY, alpha=0.4, label="measurements")
    g = np.union1d(np.linspace(*ends, _LEAST_POINTS), np.clip(_quantiles(found), *ends))
    z = found.standardise(g)
    law = np.exp(found.law.log_pdf(z)) / found.scale
    axes.plot(g, law, color=BLUE, lw=1.8, label=f"fitted law ({found.family})")
    if found.family != "Gaussian":
        gaussian = np.exp(Gaussian().log_pdf((g - values.mean()) / values.std())) / values.std()
        axes.plot(g, gaussian, color=ORANGE, lw=1.2, ls="--", label="Gaussian, for comparison")
    # Show all of a peak, but cut a singular edge, which would hide the rest.
    top = max(1.1 * heights.max(), min(1.1 * law.max(), _CUT * heights.max()))
    axes.set(xlim=ends, ylim=(0.0, top))


def _quantiles(found: NoiseFit) -> np.ndarray:
    """Points of a curve where the law changes fast: its quantiles."""
    u = np.linspace(0.0, 1.0, _LEAST_POINTS + 1)[1:-1]
    return found.location + found.scale * found.law.icdf(u)


def _draw_residual(axes, found: NoiseFit, values: np.ndarray) -> None:
    distinct, counts = np.unique(values, return_counts=True)
    between = 0.5 * (distinct[1:] + distinct[:-1])
    empirical = np.cumsum(counts)[:-1] / values.size
    kept = np.linspace(0, between.size - 1, min(between.size, _MOST_POINTS)).astype(int)
    r = empirical[kept] - found.law.cdf(found.standardise(between[kept]))
    band = found.ks_critical_distance
    label = f"not refuted at {100 * REFUTED:g} %"
    axes.axhspan(-band, band, color=BLUE, alpha=0.12, lw=0, label=label)
    axes.axhline(0.0, color=GREY, lw=0.8)
    axes.plot(between[kept], r, color=BLUE, lw=1.0, label="$F_n - F$")
    high = 1.25 * max(band, float(np.abs(r).max()))
    axes.set_ylim(-high, high)
