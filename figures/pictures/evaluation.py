"""The quality of predictions on test data: uncertainty in and out of distribution, calibration."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from figures.support.style import BLUE, GREY, ORANGE, PINK, figure, legend_below
from refbnn.prediction.result import Prediction, TargetPrediction
from refbnn.uncertainty.auroc import auroc
from refbnn.uncertainty.calibration import coverage, reliability

_BINS = 40


def classes(
    predictions: Mapping[str, tuple[Prediction, Prediction | None]],
    y: np.ndarray,
    names: tuple[str, str | None],
) -> Figure:
    """Draw a row a method: distributions of both uncertainties, and the reliability diagram.

    Parameters
    ----------
    predictions : mapping of str to (inside, outside)
        By method; `outside` is None without data out of distribution.
    y : (N,) of int
        Labels of the data in distribution.
    names : (str, str or None)
        Names of the two data sets.
    """
    measures = (
        ("predictive entropy", lambda p: p.entropy),
        ("mutual information", lambda p: p.mutual_information),
    )
    fig, axes = figure(3, len(predictions), (4.0, 3.2))
    for row, (method, (inside, outside)) in zip(axes, predictions.items(), strict=True):
        for ax, (what, measure) in zip(row, measures, strict=False):
            values = measure(inside), None if outside is None else measure(outside)
            _distributions(ax, *values, names)
            title = _title(method, *values)
            ax.set(xlabel=f"{what} (nats)", ylabel="density", yscale="log", title=title)
        _reliability(row[2], inside, y)
        row[2].set_title(f"{method.upper()}: reliability")
    legend_below(fig, axes[0, 0], axes[0, 2])
    return fig


def targets(predictions: Mapping[str, TargetPrediction], y: np.ndarray) -> Figure:
    """Draw, by method, the coverage of central intervals and the errors against the spread.

    y (N, D) are the targets, in their own units.
    """
    fig, axes = figure(2, len(predictions), (4.2, 3.3))
    for row, (method, prediction) in zip(axes, predictions.items(), strict=True):
        curve = coverage(prediction, y)
        ax = row[0]
        ax.plot([0, 1], [0, 1], color=PINK, lw=1, label="calibrated")
        error = curve.standard_error
        low, high = curve.level - error, curve.level + error
        label = "± 1 standard error if calibrated"
        ax.fill_between(curve.level, low, high, color=GREY, alpha=0.3, lw=0, label=label)
        ax.plot(curve.level, curve.share, "o-", ms=3, lw=1.2, color=BLUE, label="observed")
        ax.set(
            xlabel="level of the central interval",
            ylabel="share of targets inside",
            title=f"{method.upper()}: coverage",
        )
        ax.legend(fontsize=8)
        spread = np.sqrt(prediction.epistemic + prediction.aleatoric).ravel()
        ax = row[1]
        errors = np.abs(y - prediction.mean).ravel()
        ax.plot(spread, errors, ".", ms=2, color=BLUE, alpha=0.4, label="a target")
        line = np.array([spread.min(), spread.max()])
        ax.plot(line, line, color=PINK, lw=1, label="one predicted deviation")
        ax.set(
            xlabel="predicted standard deviation",
            ylabel="|target − predicted mean|",
            title=f"{method.upper()}: errors",
        )
        ax.legend(fontsize=8)
    return fig


def _distributions(ax, inside: np.ndarray, outside: np.ndarray | None, names) -> None:
    values = [inside] if outside is None else [inside, outside]
    # A range of no width, as of a network without noise, gets one.
    bins = np.linspace(0.0, max(1e-9, *(float(v.max()) for v in values)), _BINS)
    for data, colour, name in zip(values, (BLUE, ORANGE), names, strict=False):
        ax.hist(data, bins, density=True, color=colour, alpha=0.55, label=name)


def _title(method: str, inside: np.ndarray, outside: np.ndarray | None) -> str:
    if outside is None:
        return method.upper()
    area, error = auroc(inside, outside)
    return f"{method.upper()}: AUROC {area:.3f} ± {error:.3f}"


def _reliability(ax, inside: Prediction, y: np.ndarray) -> None:
    diagram = reliability(inside, y)  # the bins of the table's ECE
    error = np.sqrt(diagram.variance) / diagram.count
    ax.plot([0, 1], [0, 1], color=PINK, lw=1, label="calibrated")
    ax.errorbar(
        diagram.confidence,
        diagram.accuracy,
        error,
        fmt="o-",
        ms=4,
        lw=1.2,
        color=BLUE,
        label="observed, ± 1 standard error if calibrated",
    )
    text = f"ECE {diagram.ece:.3f}\nby chance {diagram.ece_if_calibrated:.3f}"
    ax.text(0.97, 0.03, text, transform=ax.transAxes, ha="right", va="bottom", fontsize=9)
    ax.set(
        xlabel="mean confidence", ylabel="share classified correctly", xlim=(0, 1), ylim=(0, 1.1)
    )
