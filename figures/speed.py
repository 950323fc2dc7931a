"""Benchmark: samples a second of every law, and seconds of KL for a million weights.

Shown, on one core, a million values a call: `sample` of each law with new numbers from a generator;
`icdf` at given uniform numbers in float64, and in the float32 form that kernels use; NumPy's
`Generator.standard_normal`, and `random`, which every sampler by inversion calls too; `rvs` of
SciPy's `stats.sampling.NumericalInversePolynomial` for the same law, without its set-up, at the
finest u-resolution at which that succeeds; KL of a million weights with both gradients for every
prior, under a device law and a heavy-tailed one. Calls take turns; the shortest time of each
counts, so that other work on the machine matters little.

What to look for: the ratios to SciPy and to the normal generator. Seconds depend on the machine and
the hour; no test depends on them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from scipy.stats.sampling import NumericalInversePolynomial
from tabulate import tabulate
from tqdm import tqdm

from figures import inverse_cdf, kl_error
from figures.support.inverse_ways import scipy_sampler
from figures.support.style import AMBER, BLUE, GREEN, GREY, ORANGE, figure, legend_below, save
from kernels.bench.latency import latency
from refbnn.layers.posterior import Posterior
from refbnn.noise import DensityLaw, DeviceLaw
from refbnn.noise.numerical import NumericalLaw
from refbnn.numerics.random.streams import stream
from refbnn.prior import DevicePrior
from refbnn.training.kl.kl import divergence

Call = Callable[[], object]

VALUES = 1_000_000
_RESOLUTION = 1e-14  # SciPy's finest
_NORMAL, _UNIFORM = "standard_normal", "random"
_KINDS = {"sample": BLUE, "icdf": GREEN, "icdf, float32": AMBER, "SciPy rvs": ORANGE}
STEPS = 2  # calls of `tick`


def laws() -> dict[str, tuple[NumericalLaw, float]]:
    """Laws of `figures.kl_error` and of `figures.inverse_cdf`, with SciPy's u-resolutions."""
    chosen = {name: (law, _RESOLUTION) for name, law in kl_error.laws().items() if name != "device"}
    for name, (law, moved, _) in inverse_cdf.LAWS.items():
        chosen[f"device: {name.removesuffix(' edges').removesuffix(' edge')}"] = (law, moved)
    return chosen


def make(folder: Path, seed: int, mc_samples: int, tick: Callable[[str], None]) -> dict:
    """Save the picture, print the tables and return the numbers."""
    samplers = _samplers(seed, VALUES)
    tick("speed: sampling")
    divergences = _divergences(seed, VALUES)
    tick("speed: KL")
    _draw(samplers, divergences, folder / "speed.png")
    numbers = {
        "n_values": VALUES,
        "samples_per_second": samplers,
        "kl_with_gradients_seconds": divergences,
        "least_ratio_to_scipy": min(row["sample"] / row["SciPy rvs"] for row in samplers.values()),
        "least_ratio_to_standard_normal": min(r["sample"] / r[_NORMAL] for r in samplers.values()),
    }
    tqdm.write(as_text(numbers))
    return numbers


def _samplers(seed: int, n: int) -> dict[str, dict[str, float]]:
    """Values a second, by law and by kind of call."""
    rng = stream(seed, "speed")
    u = rng.random(n)
    calls: dict[tuple[str, str], Call] = {
        ("", _NORMAL): lambda: rng.standard_normal(n),
        ("", _UNIFORM): lambda: rng.random(n),
    }
    for name, (law, resolution) in laws().items():
        for kind, call in _calls(law, resolution, u, rng).items():
            calls[name, kind] = call
    seconds = latency(calls, statistic=min)
    generator = {kind: n / seconds.pop(("", kind)) for kind in (_NORMAL, _UNIFORM)}
    table: dict[str, dict[str, float]] = {}
    for (name, kind), time in seconds.items():
        table.setdefault(name, dict(generator))[kind] = n / time
    return table


def _calls(law: NumericalLaw, resolution: float, u, rng) -> dict[str, Call]:
    if isinstance(law, DeviceLaw):
        scipy = scipy_sampler(law, 0.0, resolution)
    else:
        scipy = _by_scipy(law, resolution)
    single, u_single = law.inverse.single, u.astype(np.float32)
    return {
        "sample": lambda: law.sample(rng, u.shape),
        "icdf": lambda: law.icdf(u),
        "icdf, float32": lambda: single(u_single),
        "SciPy rvs": lambda: scipy.rvs(u.size, random_state=rng),
    }


def _by_scipy(law: NumericalLaw, resolution: float) -> NumericalInversePolynomial:
    low, high = law.support

    class Plain:
        def logpdf(self, x):
            return float(law.log_pdf(np.array(x)))

        def support(self):
            return low, high

    class Triangle:  # the formula, because the panels' rounding keeps SciPy's set-up from ending
        def pdf(self, x):
            return max(high - abs(x), 0.0)

        def support(self):
            return low, high

    density = Triangle() if isinstance(law, DensityLaw) else Plain()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy evaluates the density at infinity
        return NumericalInversePolynomial(density, center=0.0, u_resolution=resolution)


def _divergences(seed: int, n: int) -> dict[str, dict[str, float]]:
    """Seconds by law and prior, for means of spread 0.2 and scales from 0.01 to 0.2."""
    rng = stream(seed, "speed of KL")
    weights = {"weights": Posterior(0.2 * rng.standard_normal(n), np.geomspace(0.01, 0.2, n))}
    shapes = kl_error.laws()
    calls = {
        (law, prior_name): partial(divergence, weights, shapes[law], prior)
        for law in ("device", "heavy-tailed")
        for prior_name, (prior, _) in kl_error.priors().items()
        if law == "device" or not isinstance(prior, DevicePrior)
    }
    table: dict[str, dict[str, float]] = {}
    for (law, prior), time in latency(calls, statistic=min).items():
        table.setdefault(law, {})[prior] = time
    return table


def as_text(numbers: dict) -> str:
    """Format both tables for a terminal."""
    samplers = numbers["samples_per_second"]
    speeds = [[name, *(row[kind] / 1e6 for kind in _KINDS)] for name, row in samplers.items()]
    row = next(iter(samplers.values()))
    speeds += [[kind, row[kind] / 1e6] for kind in (_NORMAL, _UNIFORM)]
    seconds = [
        [f"{law} law, {prior} prior", time]
        for law, times in numbers["kl_with_gradients_seconds"].items()
        for prior, time in times.items()
    ]
    return "\n\n".join(
        [
            tabulate(speeds, ["million values a second", *_KINDS], floatfmt=".1f"),
            tabulate(seconds, ["KL and gradients", "seconds"], floatfmt=".3f"),
        ]
    )


def _draw(samplers, divergences, path: Path) -> None:
    fig, ((speeds, times),) = figure(2, 1, (6.4, 4.4))
    height = 0.8 / len(_KINDS)
    names = list(samplers)
    for i, (kind, colour) in enumerate(_KINDS.items()):
        places = np.arange(len(names)) + (i - 1.5) * height
        values = [samplers[name][kind] / 1e6 for name in names]
        speeds.barh(places, values, height, color=colour, label=kind)
    normal = samplers[names[0]][_NORMAL] / 1e6
    speeds.axvline(normal, color=GREY, ls="--", label=_NORMAL)
    speeds.set_yticks(range(len(names)), [name.replace(": ", ":\n") for name in names])
    speeds.invert_yaxis()
    speeds.set(xlabel="million values a second", title="Sampling on one core")
    legend_below(fig, speeds)
    labels = [f"{prior}\n{law} law" for law, row in divergences.items() for prior in row]
    seconds = [time for row in divergences.values() for time in row.values()]
    times.barh(range(len(labels)), seconds, 0.7, color=BLUE)
    for i, time in enumerate(seconds):
        times.text(time, i, f" {time:.2g}", va="center", fontsize=8)
    times.set_yticks(range(len(labels)), labels, fontsize=8)
    times.invert_yaxis()
    times.set(xlabel="seconds", title=f"KL and both gradients of {VALUES:,} weights", xscale="log")
    times.set_xlim(0.5 * min(seconds), 3.0 * max(seconds))
    save(fig, path)
