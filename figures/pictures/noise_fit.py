"""The fitted law over the measurements, and its inverse CDF over their quantiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from figures.support.style import BLUE, GREY, ORANGE, figure, save
from refbnn.noise import Gaussian, NoiseFit


def draw(values: np.ndarray, unit: str, fit: NoiseFit, path: Path) -> None:
    """Save the picture.

    Parameters
    ----------
    values : (n,)
        Measurements in `unit`.
    unit : str
        For the axis, such as "conductance (µS)".
    fit : NoiseFit
    path : Path
        PNG file to write.
    """
    fig, ((density, inverse),) = figure(2)
    span = values.max() - values.min()
    g = np.linspace(values.min() - 0.08 * span, values.max() + 0.08 * span, 1201)
    z = fit.standardise(g)
    density.hist(values, bins=60, density=True, color=GREY, alpha=0.4, label="values")
    density.plot(g, np.exp(fit.law.log_pdf(z)) / fit.scale, color=BLUE, lw=2, label="fitted law")
    gaussian = np.exp(Gaussian().log_pdf(z)) / fit.scale
    density.plot(g, gaussian, color=ORANGE, ls="--", label="Gaussian, same mean and scale")
    rule = fit.law.quadrature(8)
    nodes = fit.location + fit.scale * rule.nodes
    density.plot(nodes, np.zeros(8), "|", color=BLUE, ms=14, mew=1.5, label="8-node Gauss rule")
    density.set(xlabel=unit, ylabel="probability density", title="Law and values")
    density.legend(fontsize=8)

    u = np.linspace(0.0, 1.0, 801)
    levels = np.linspace(0.0, 1.0, 41)
    quantiles = np.quantile(values, levels)
    inverse.plot(levels, quantiles, "o", color=GREY, mfc="none", label="quantiles of the values")
    inverse.plot(u, fit.location + fit.scale * fit.law.icdf(u), color=BLUE, lw=1.5, label="G(u)")
    inverse.set(xlabel="u", ylabel=unit, title="Inverse CDF")
    inverse.legend(fontsize=8)
    save(fig, path)
