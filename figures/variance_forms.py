"""Two forms of one variance: what second raw moments lose in float32, and what they cost.

Shown: the relative error of the variances of a dense layer 100-100 in float32, greatest of all
outputs, against the ratio of means to standard deviations of inputs and weights; in the layers' own
form, and in that of second raw moments (`refbnn.prediction.raw_moments`). Truth is float64. Beside
it the times of both on this machine, float32 and float64, 256 inputs: a benchmark.

What to look for. The raw form loses the square of the ratio: the line ε·r² is drawn. Neither is
faster: both are three products.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np

from figures.support.style import AMBER, BLUE, GREY, figure, save
from refbnn.layers import Dense
from refbnn.layers.moments import Moments
from refbnn.layers.posterior import Posterior
from refbnn.numerics.random.streams import stream
from refbnn.prediction import raw_moments

RATIOS = np.geomspace(0.1, 1e4, 26)
_SIZE, _BATCH, _CALLS = 100, 256, 30
_LAYER = Dense(_SIZE, _SIZE)
FORMS = {
    "variance": lambda x, own: _LAYER.moments(x, own),
    "second raw moment": lambda x, own: raw_moments.moments(_LAYER, x, own),
}
_COLOURS = (BLUE, AMBER)


def steps() -> int:
    """How often `make` ticks."""
    return 2


def make(folder: Path, seed: int, mc_samples: int, tick: Callable[[str], None]) -> dict:
    """Save the picture, return errors and times; `mc_samples` is not used."""
    rng = stream(seed, "variance forms")
    errors: dict[str, list[float]] = {name: [] for name in FORMS}
    for ratio in RATIOS:
        x, own = _layer_at(ratio, _BATCH, rng)
        truth = _LAYER.moments(x, own).var
        for name, form in FORMS.items():
            var = form(*_single(x, own)).var
            errors[name].append(float(np.abs(var / truth - 1.0).max()))
    tick("variance forms: errors")
    x, own = _layer_at(1.0, _BATCH, rng)
    times = {
        name: {"float32": _ms(form, *_single(x, own)), "float64": _ms(form, x, own)}
        for name, form in FORMS.items()
    }
    tick("variance forms: times")
    _draw(errors, times, folder / "variance_forms.png")
    return {
        "ratio_of_mean_to_deviation": RATIOS.tolist(),
        "greatest_relative_error_float32": errors,
        "ms_for_256_inputs": times,
    }


def _layer_at(ratio: float, batch: int, rng: np.random.Generator):
    """Inputs and weights of deviation 1 and means of both signs, `ratio` in the mean square."""

    def around(*shape: int) -> np.ndarray:
        return ratio * rng.standard_normal(shape)

    x = Moments(around(batch, _SIZE), np.ones((batch, _SIZE)))
    weight = Posterior(around(_SIZE, _SIZE), np.ones((_SIZE, _SIZE)))
    return x, {"weight": weight, "bias": Posterior(np.zeros(_SIZE), np.zeros(_SIZE))}


def _single(x: Moments, own: dict[str, Posterior]):
    def single(array: np.ndarray) -> np.ndarray:
        return array.astype(np.float32)

    posteriors = {n: Posterior(single(p.mean), single(p.scale)) for n, p in own.items()}
    return Moments(single(x.mean), single(x.var)), posteriors


def _ms(form, x, own) -> float:
    times = []
    for _ in range(_CALLS):
        begin = process_time()
        form(x, own)
        times.append(1e3 * (process_time() - begin))
    return median(times)


def _draw(errors, times, path: Path) -> None:
    fig, ((left, right),) = figure(2)
    for (name, values), colour in zip(errors.items(), _COLOURS, strict=True):
        left.loglog(RATIOS, values, "o-", ms=3, color=colour, label=name)
    epsilon = np.finfo(np.float32).eps / 2.0
    left.loglog(RATIOS, epsilon * np.maximum(RATIOS, 1.0) ** 2, "--", color=GREY, label="ε·r²")
    left.set(
        xlabel="r: mean over standard deviation, inputs and weights",
        ylabel="greatest relative error of the variance",
        ylim=(1e-8, 100.0),
    )
    left.legend(fontsize=8)
    for place, of_form in enumerate(times.values()):
        for shift, (dtype, ms) in zip((-0.2, 0.2), of_form.items(), strict=True):
            right.barh(
                place + shift, ms, 0.35, color=_COLOURS[place], alpha=1.0 if shift < 0 else 0.6
            )
            right.text(ms, place + shift, f" {dtype}: {ms:.2g}", va="center", fontsize=8)
    right.set_yticks(range(len(times)), [*times])
    right.margins(x=0.3)
    right.set(xlabel=f"ms for {_BATCH} inputs of a {_SIZE}-{_SIZE} layer")
    save(fig, path)
