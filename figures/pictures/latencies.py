"""Latencies or instruction counts of whole networks, a group of bars a batch size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from figures.support.style import BLUE, GREY, figure


def draw(results: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Draw a panel a batch size.

    Parameters
    ----------
    results : sequence of mapping
        "by_batch_size" of `refbnn bench --json`: "batch_size", and "latency_seconds" by name or, on
        the emulated core, "executed_instructions" by name and class.
    title : str
        What was measured, where.
    """
    panels = [_values(result) for result in results]
    rows = max(len(values) for values, _ in panels)
    fig, (axes,) = figure(len(results), panel=(5.0, 1.2 + 0.34 * rows))
    for ax, result, (values, unit) in zip(axes, results, panels, strict=True):
        place = np.arange(len(values))
        colours = [BLUE if name.startswith("PFP") else GREY for name in values]
        bars = ax.barh(place, list(values.values()), color=colours)
        ax.bar_label(bars, fmt=_text, fontsize=8, padding=2)
        ax.set_yticks(place, list(values), fontsize=8)
        ax.invert_yaxis()
        ax.margins(x=0.15)
        ax.set(xscale="log", xlabel=unit, title=f"batch size {result['batch_size']}")
        ax.grid(visible=False, axis="y")
    fig.suptitle(title, fontsize=10)
    return fig


def _text(value: float) -> str:
    """Three digits, and no powers of ten."""
    return f"{value:,.0f}" if value >= 100.0 else f"{value:.3g}"


def _values(result: Mapping[str, Any]) -> tuple[dict[str, float], str]:
    if "latency_seconds" in result:
        seconds = result["latency_seconds"]
        return {name: 1e6 * t for name, t in seconds.items()}, "µs a call"
    counts = result["executed_instructions"]
    return {name: count["total"] / 1e3 for name, count in counts.items()}, "1000 instructions"
