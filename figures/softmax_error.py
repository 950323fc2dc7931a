"""Error of the ways from Gaussian logits to mutual information, by spread and number of classes.

Shown: root mean square error of softmax means and of mutual information (nats), and the time of an
input, for every way of `refbnn.prediction.softmax`, over the spread of the logits and C = 2, 10,
100. The truth is `by_quadrature`, which tests compare with other integrals and
`verification.softmax` with draws; its own error, 1e-14, lies below the picture. Inputs: means
~ N(0, 3²), spreads uniform within a factor of two around the one named.

What to look for. The error of the delta method grows as the square of the variance; from spread 1
on it is useless. The scalings are a few per cent off and give no mutual information. The Laplace
bridge assumes logits near each other: with means as far apart as here its α are hundreds, its mean
is off at any spread for C > 2, and nearly all mutual information is lost. Even draws are up to a
hundred times more accurate than independent ones for small spreads, twice for large ones.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np

from figures.support.softmax_closed_forms import (
    delta_method,
    laplace_bridge,
    pairwise_softmax,
    scaled_softmax,
)
from figures.support.style import AMBER, BLUE, GREEN, GREY, ORANGE, PINK, figure, legend_below, save
from refbnn.layers.moments import Moments
from refbnn.numerics.random.streams import stream
from refbnn.prediction.result import Prediction, from_logit_samples
from refbnn.prediction.softmax import by_quadrature, by_sampling

SPREADS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
CLASSES = (2, 10, 100)
N_DRAWS = 1024
_INPUTS = 64
_MEANS = 3.0  # spread of the logits' means
_COLOURS = {
    "independent draws": GREY,
    "even draws": BLUE,
    "scaled softmax": ORANGE,
    "pairwise softmax": AMBER,
    "Laplace bridge": PINK,
    "delta method": GREEN,
}

# E[p], and MI where the way gives it.
Answer = tuple[np.ndarray, np.ndarray | None]
STEPS = len(CLASSES)  # calls of `tick`


def make(folder: Path, seed: int, mc_samples: int, tick: Callable[[str], None]) -> dict:
    """Save the picture; return the numbers."""
    cases = []
    for n_classes in CLASSES:
        cases += [_case(n_classes, spread, seed) for spread in SPREADS]
        tick(f"softmax: {n_classes} classes")
    _draw(cases, folder / "softmax_error.png")
    return {"draws": N_DRAWS, "inputs": _INPUTS, "spread_of_means": _MEANS, "cases": cases}


def _case(n_classes: int, spread: float, seed: int) -> dict:
    rng = stream(seed, f"softmax error, {n_classes} classes, spread {spread}")
    mean = rng.normal(0.0, _MEANS, (_INPUTS, n_classes))
    logits = Moments(mean, (spread * rng.uniform(2.0 / 3.0, 4.0 / 3.0, mean.shape)) ** 2)
    by_quadrature(logits)  # compile before timing
    start = perf_counter()
    truth = by_quadrature(logits)
    seconds = {"quadrature": perf_counter() - start}
    errors = {}
    for name, way in _ways(rng).items():
        start = perf_counter()
        p, information = way(logits)
        seconds[name] = perf_counter() - start
        errors[name] = {"softmax": _rms(p - truth.probabilities)}
        if information is not None:
            difference = information - truth.mutual_information
            errors[name]["mutual_information_nats"] = _rms(difference)
    return {
        "classes": n_classes,
        "spread": spread,
        "mean_mutual_information_nats": float(truth.mutual_information.mean()),
        "rms_error": errors,
        "microseconds_an_input": {name: 1e6 * s / _INPUTS for name, s in seconds.items()},
    }


def _ways(rng: np.random.Generator) -> dict[str, Callable[[Moments], Answer]]:
    def independent(logits: Moments) -> Answer:
        z = rng.standard_normal((N_DRAWS, 1, logits.shape[1]))
        return _both(from_logit_samples(logits.mean + np.sqrt(logits.var) * z, logits))

    return {
        "independent draws": independent,
        "even draws": lambda logits: _both(by_sampling(logits, N_DRAWS, rng)),
        "scaled softmax": lambda logits: (scaled_softmax(logits), None),
        "pairwise softmax": lambda logits: (pairwise_softmax(logits), None),
        "Laplace bridge": lambda logits: _both(laplace_bridge(logits)),
        "delta method": lambda logits: delta_method(logits)[::2],
    }


def _both(prediction: Prediction) -> Answer:
    return prediction.probabilities, prediction.mutual_information


def _rms(difference: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(difference))))


def _draw(cases: list[dict], path: Path) -> None:
    fig, axes = figure(len(CLASSES), 3, (3.6, 2.7), sharex=True, sharey="row")
    fig.suptitle(f"Ways from Gaussian logits to uncertainty; draws: {N_DRAWS}")
    for column, n_classes in enumerate(CLASSES):
        chosen = [case for case in cases if case["classes"] == n_classes]
        for row, key in enumerate(("softmax", "mutual_information_nats")):
            ax = axes[row, column]
            ax.set(xscale="log", yscale="log")
            for name, colour in _COLOURS.items():
                values = [case["rms_error"][name].get(key, np.nan) for case in chosen]
                ax.plot(SPREADS, values, "o-", ms=3, lw=1.2, color=colour, label=name)
        mean = [case["mean_mutual_information_nats"] for case in chosen]
        axes[1, column].plot(SPREADS, mean, "k--", lw=1, label="mean mutual information")
        for name, colour in ({"quadrature": "black"} | _COLOURS).items():
            values = [case["microseconds_an_input"][name] for case in chosen]
            axes[2, column].plot(SPREADS, values, "o-", ms=3, lw=1.2, color=colour, label=name)
        axes[2, column].set(yscale="log")
        axes[0, column].set_title(f"{n_classes} classes")
        axes[2, column].set_xlabel("spread of the logits")
    for row, label in enumerate(("error of E[p]", "error of MI (nats)", "time of an input (µs)")):
        axes[row, 0].set_ylabel(label)
    legend_below(fig, axes[1, 0], axes[2, 0], columns=4)
    save(fig, path)
