"""Second raw moments: the accuracy that this form of a variance loses in float32, and its time.

Shown: the relative error of the variances of a dense layer 100-100 in float32, maximum over
outputs, against the ratio of mean to standard deviation of inputs and weights; for the layers' own
form and for that of second raw moments (`refbnn.prediction.raw_moments`). The truth is float64.
Beside it a benchmark: times of both forms for 256 inputs on this machine.

What to look for. The raw form loses the square of the ratio: the line ε·r² is drawn. Neither form
is faster: both take three products.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from figures.support.style import AMBER, BLUE, GREY, figure, save
from kernels.bench.latency import latency
from refbnn.layers import Dense
from refbnn.layers.moments import Moments
from refbnn.layers.posterior import Posterior
from refbnn.numerics.random.streams import stream
from refbnn.prediction import raw_moments

RATIOS = np.geomspace(0.1, 1e4, 26)
_SIZE, _BATCH = 100, 256
_LAYER = Dense(_SIZE, _SIZE)
FORMS: dict[str, Callable[..., Moments]] = {
    "variance": _LAYER.moments,
    "second raw moment": partial(raw_moments.moments, _LAYER),
}
_COLOURS = (BLUE, AMBER)
STEPS = 2  # calls of `tick`


def make(folder: Path, seed: int, mc_samples: int, tick: Callable[[str], None]) -> dict:
    """Save the picture; return errors and times."""
    rng = stream(seed, "variance forms")
    errors: dict[str, list[float]] = {name: [] for name in FORMS}
    for ratio in RATIOS:
        x, own = _layer_at(ratio, rng)
        truth = _LAYER.moments(x, own).var
        for name, form in FORMS.items():
            var = form(*_single(x, own)).var
            errors[name].append(float(np.abs(var / truth - 1.0).max()))
    tick("variance forms: errors")
    x, own = _layer_at(1.0, rng)
    arguments = {"float32": _single(x, own), "float64": (x, own)}
    calls = {(n, t): partial(FORMS[n], *arguments[t]) for n in FORMS for t in arguments}
    seconds = latency(calls, statistic=min)  # other work on the machine matters least
    times = {name: {dtype: 1e3 * seconds[name, dtype] for dtype in arguments} for name in FORMS}
    tick("variance forms: times")
    _draw(errors, times, folder / "variance_forms.png")
    return {
        "ratio_of_mean_to_deviation": RATIOS.tolist(),
        "greatest_relative_error_float32": errors,
        "ms_for_256_inputs": times,
    }


def _layer_at(ratio: float, rng: np.random.Generator):
    """Inputs and weights of standard deviation 1 and root mean square mean `ratio`."""
    mean = ratio * rng.standard_normal((_BATCH, _SIZE))
    weight = Posterior(ratio * rng.standard_normal((_SIZE, _SIZE)), np.ones((_SIZE, _SIZE)))
    bias = Posterior(np.zeros(_SIZE), np.zeros(_SIZE))
    return Moments(mean, np.ones_like(mean)), {"weight": weight, "bias": bias}


def _single(x: Moments, own: dict[str, Posterior]):
    """Round inputs and weights to float32."""
    rounded = (Posterior(p.mean.astype("f4"), p.scale.astype("f4")) for p in own.values())
    return Moments(x.mean.astype("f4"), x.var.astype("f4")), dict(zip(own, rounded, strict=True))


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
