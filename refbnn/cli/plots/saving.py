"""Save a picture of a command."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from figures.support import style


def save_plot(fig: Figure, path: Path) -> None:
    """Write a figure as PNG, SVG or PDF by the suffix, whole or not at all, and print its name."""
    style.save(fig, path)
    print(path)
