"""A saved law: its density with the nodes of a Gauss rule, and its inverse CDF."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from figures.support.style import BLUE, GREY, ORANGE, figure, save, with_unit
from refbnn.noise import Gaussian, Law
from refbnn.noise.storage import Measured

_SHOWN = 1e-4  # probability left out on either side
_NODES = 8


def draw(law: Law, place: Measured, path: Path) -> None:
    """Save the picture as a PNG file, in the unit that was measured."""
    fig, ((density, inverse),) = figure(2)
    low, high = law.icdf(np.array([_SHOWN, 1.0 - _SHOWN]))
    margin = 0.05 * (high - low)
    z = np.linspace(low - margin, high + margin, 2001)
    x = place.location + place.scale * z
    # At a singular edge the density has no greatest value: the picture ends where all but 1 % is.
    q = np.exp(law.log_pdf(z)) / place.scale
    top = 1.1 * np.exp(np.quantile(law.log_pdf(law.icdf(np.linspace(0.01, 0.99, 99))), 0.99))
    density.plot(x, q, color=BLUE, lw=2, label=type(law).__name__)
    gaussian = np.exp(Gaussian().log_pdf(z)) / place.scale
    density.plot(x, gaussian, color=ORANGE, ls="--", label="Gaussian, same mean and scale")
    nodes = place.location + place.scale * law.quadrature(_NODES).nodes
    shown = nodes[(nodes >= x[0]) & (nodes <= x[-1])]
    label = f"nodes of the {_NODES}-node Gauss rule"
    density.plot(shown, np.zeros(shown.size), "|", color=GREY, ms=14, mew=1.5, label=label)
    top = max(top / place.scale, 1.1 * gaussian.max())
    density.set_ylim(-0.04 * top, 1.4 * top)  # room for the legend
    density.set(xlabel=with_unit(place.quantity), ylabel="probability density", title="Law")
    density.legend(fontsize=8, loc="upper left")

    u = np.linspace(_SHOWN, 1.0 - _SHOWN, 2001)
    inverse.plot(u, place.location + place.scale * law.icdf(u), color=BLUE, lw=2)
    inverse.set(xlabel="u", ylabel=with_unit(place.quantity), title="Inverse CDF G(u)")
    save(fig, path)
