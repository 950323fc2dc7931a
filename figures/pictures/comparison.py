"""Propagation against sampled passes: every difference, its errors and its limit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from figures.support.style import BLUE, GREEN, GREY, ORANGE, figure
from refbnn.uncertainty.pfp_vs_svi import Measure


def draw(found: Mapping[str, Measure], method: str, n_samples: int) -> Figure:
    """Draw measures that have a limit on the left, the others on the right.

    Bars: one standard error from SVI's passes (thick) and from the choice of inputs (thin, with
    caps).
    """
    limited = {key: m for key, m in found.items() if m.limit is not None}
    others = {key: m for key, m in found.items() if m.limit is None}
    rows = max(len(limited), len(others))
    fig, ((left, right),) = figure(2, panel=(5.2, 1.2 + 0.42 * rows))
    for ax, measures, title in (
        (left, limited, "with a limit"),
        (right, others, "without a limit"),
    ):
        for place, m in enumerate(measures.values()):
            if m.limit is not None:
                band = [place - 0.35, place + 0.35]
                ax.fill_betweenx(band, -m.limit, m.limit, color=GREY, alpha=0.2, lw=0)
            colour = BLUE if m.limit is None else (GREEN if m.held else ORANGE)
            if m.inputs_se is not None:
                ax.errorbar(m.difference, place, xerr=m.inputs_se, color=colour, lw=0.8, capsize=3)
            ax.errorbar(m.difference, place, xerr=m.monte_carlo_se, fmt="o", color=colour, lw=3)
        ax.set_yticks(np.arange(len(measures)), [key.replace("_", " ") for key in measures])
        ax.invert_yaxis()
        ax.axvline(0.0, color=GREY, lw=1)
        ax.set(xlabel=f"{method.upper()} − SVI ({n_samples} passes)", title=title)
    fig.legend(
        handles=[
            Patch(color=GREY, alpha=0.2, label="limit"),
            Line2D([], [], color=GREEN, marker="o", lw=3, label="held, ± 1 error from passes"),
            Line2D([], [], color=ORANGE, marker="o", lw=3, label="missed"),
            Line2D([], [], color=GREY, lw=0.8, marker="|", label="± 1 error from inputs"),
        ],
        loc="outside lower center",
        ncols=4,
        fontsize=9,
    )
    return fig
