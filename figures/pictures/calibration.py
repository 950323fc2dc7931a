"""The variance factor's criterion against the factor, with the chosen one."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from figures.support.style import BLUE, GREY, ORANGE, figure
from refbnn.uncertainty.variance_factor import Choice


def draw(found: Choice) -> Figure:
    """Draw the values that the search has seen, the chosen factor and its standard error."""
    factors, values = np.array(sorted(found.tried)).T
    fig, ((ax,),) = figure(1, panel=(5.4, 3.6))
    ax.plot(factors, values, "o-", ms=4, lw=1.2, color=BLUE, label="tried by the search")
    if np.isfinite(found.standard_error):
        low, high = (found.factor + s * found.standard_error for s in (-1.0, 1.0))
        ax.axvspan(max(low, factors[0]), high, color=ORANGE, alpha=0.25, lw=0,
                   label="± one standard error")  # fmt: skip
    label = f"chosen, {found.factor:.3g}" + (" (a bound)" if found.on_bound else "")
    ax.axvline(found.factor, color=ORANGE, lw=1.5, label=label)
    ax.axvline(1.0, color=GREY, lw=1, ls="--", label="no factor")
    unit = "nats an example" if found.criterion == "log_score" else "|log(PFP/SVI)|"
    ax.set(
        xscale="log",
        xlabel="factor on the variance of every weight",
        ylabel=f"{found.criterion.replace('_', ' ')}, {unit}",
        title="Choice of the variance factor",
    )
    ax.xaxis.set_major_locator(LogLocator(base=2.0))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.legend(fontsize=8)
    return fig
