"""Errors of propagation by depth, width and activation; and by the shape of the law.

*Depth, width, activation.* Random networks have n units a layer, means N(0, 2/n), scales half the
spread of the means, one input of N(0, 1) and normal weights; there are as many networks as make 64
units. Given a layer's inputs, its pre-activations are independent normal, so 4000 samples of whole
layers are drawn exactly (as in `refbnn.training.local_reparameterisation`). Shown are medians, over
the units of a layer that vary at all (a narrow network may die), of

    |m − m_s|/s_s,      |√v/s_s − 1|,      W₁(samples, N(m, v))/s_s,

m_s and s_s sampled. The grey level is what exact propagation gives: that of 4000 normal samples.

*Law.* A pre-activation of n equal terms: KL from the Gaussian that propagation claims, three ways.
Exactly (`figures.support.sum_density`), with the prediction κ₃²/12n + κ₄²/48n² of the law's
cumulants (slope −1 for a skewed law, −2 for a symmetric one); from the exact law in 50 bins of
equal probability, which lose part of KL; and by sampling, KL̂ = Σ p̂ log(p̂/p) − 49/2S, its bias, from
counts in these bins. Points within 3 standard errors of 0 are not drawn. The last panel shows the
error of the mean behind a ReLU, in units of the spread, and its bounds
(`refbnn.uncertainty.diagnostics.bounds`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from scipy.special import ndtr, ndtri, xlogy

from figures.support.style import AMBER, BLUE, GREEN, GREY, ORANGE, PINK, figure, legend_below, save
from figures.support.sum_density import standardised_sum
from refbnn.layers import GELU, Dense, LeakyReLU, ReLU, Tanh
from refbnn.layers.layer import Layer
from refbnn.layers.moments import Moments
from refbnn.layers.posterior import Posterior
from refbnn.noise import Bimodal, DeviceLaw, Gaussian, HeavyTailed, Law, cumulants
from refbnn.numerics.random.streams import stream
from refbnn.uncertainty.diagnostics.bounds import third_absolute_moment, wasserstein_from_divergence

WIDTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
NETWORK_WIDTHS = (1, 4, 16, 64, 256, 1024)
DEPTHS = (1, 2, 3, 4, 5, 6, 7, 8)
ACTIVATIONS: dict[str, Layer] = {
    "ReLU": ReLU(), "leaky ReLU": LeakyReLU(0.1), "tanh": Tanh(), "GELU": GELU(),
}  # fmt: skip
LAWS: dict[str, Law] = {
    "Gaussian": Gaussian(),
    "bimodal": Bimodal(0.9),
    "device": DeviceLaw(1.0, 3.0),
    "heavy-tailed": HeavyTailed(0.7),
    "heavy-tailed, skewed": HeavyTailed(0.7, 0.2),
}
_COLOURS = (BLUE, ORANGE, GREEN, PINK, AMBER)
_SAMPLES = 4000  # of each network
_UNITS = 64  # least number of units in all networks of one width
_SPREAD = 0.5  # scale of a weight over the spread of the means
_BINS = 50
_DRAWS = 1 << 22  # numbers behind each sampled divergence
_KEYS = ("mean_error_over_spread", "spread_relative_error", "wasserstein_over_spread")
STEPS = len(ACTIVATIONS) + len(LAWS)  # calls of `tick`


def make(folder: Path, seed: int, mc_samples: int, tick: Callable[[str], None]) -> dict:
    """Save two pictures; return the numbers."""
    networks = []
    for name, activation in ACTIVATIONS.items():
        for width in NETWORK_WIDTHS:
            networks += _cases(name, activation, width, seed)
        tick(f"propagation error: {name}")
    sums = {}
    for name, law in LAWS.items():
        sums[name] = [_sum(law, n, seed) for n in WIDTHS]
        tick(f"propagation error: {name} law")
    floor = _floor(seed)
    _draw_networks(networks, floor, folder / "pfp_error.png")
    _draw_sums(sums, folder / "pfp_law.png")
    return {
        "networks": {"samples": _SAMPLES, "exact_propagation_shows": floor, "cases": networks},
        "sums": sums,
        "slopes_512_to_1024": {
            name: float(np.log2(rows[-1]["kl_nats"] / rows[-2]["kl_nats"]))
            for name, rows in sums.items()
            if rows[-1]["kl_nats"] > 0.0
        },
    }


def _cases(name: str, activation: Layer, width: int, seed: int) -> list[dict]:
    """Errors at every depth of random networks of one width."""
    rng = stream(seed, f"propagation error, {name}, {width}")
    networks = [_network(activation, width, rng) for _ in range(max(1, _UNITS // width))]
    return [
        {"activation": name, "width": width, "depth": depth}
        | _medians(np.concatenate([errors[k] for errors in networks], axis=1))
        for k, depth in enumerate(DEPTHS)
    ]


def _network(activation: Layer, width: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Errors of every unit (3, n) at every depth of one random network."""
    zero = np.zeros(width)
    known = Posterior(zero, zero)
    spread = np.sqrt(2.0 / width)
    x = rng.standard_normal((1, width))
    samples, moments = np.repeat(x, _SAMPLES, axis=0), Moments(x, np.zeros_like(x))
    errors = []
    for _ in DEPTHS:
        weight = Posterior(
            spread * rng.standard_normal((width, width)), np.full((width, width), _SPREAD * spread)
        )
        own = {"weight": weight, "bias": known}
        moments = Dense(width, width).moments(moments, own)
        # Equal scales: Σ_i σ²x_i² is the same for every unit.
        noise = _SPREAD * spread * np.sqrt(np.sum(samples**2, axis=1, keepdims=True))
        samples = samples @ weight.mean.T + noise * rng.standard_normal(samples.shape)
        errors.append(_errors(samples, moments))
        samples = activation.forward(samples, {})
        moments = activation.moments(moments, {})
    return errors


def _errors(samples: np.ndarray, claimed: Moments) -> np.ndarray:
    """Three errors (`_KEYS`) of every unit that varies; samples (S, n), claimed moments (1, n)."""
    sampled = samples.std(axis=0, ddof=1)
    alive = sampled > 0.0
    samples, sampled = samples[:, alive], sampled[alive]
    m, s = claimed.mean[0, alive], np.sqrt(claimed.var[0, alive])
    ranks = ndtri((np.arange(len(samples)) + 0.5) / len(samples))[:, np.newaxis]
    w1 = np.abs(np.sort(samples, axis=0) - (m + s * ranks)).mean(axis=0)
    return np.stack(
        [np.abs(m - samples.mean(axis=0)) / sampled, np.abs(s / sampled - 1.0), w1 / sampled]
    )


def _medians(errors: np.ndarray) -> dict[str, float]:
    return {key: float(np.median(e)) for key, e in zip(_KEYS, errors, strict=True)}


def _floor(seed: int) -> dict[str, float]:
    samples = stream(seed, "propagation error, exact").standard_normal((_SAMPLES, 1000))
    return _medians(_errors(samples, Moments(np.zeros((1, 1000)), np.ones((1, 1000)))))


def _sum(law: Law, n: int, seed: int) -> dict[str, float]:
    """KL of a sum of n equal terms from a Gaussian, three ways, and errors behind a ReLU."""
    _, _, skewness, kurtosis = cumulants(law, 4)
    row: dict[str, float] = {
        "width": n,
        "predicted_nats": skewness**2 / 12.0 / n + kurtosis**2 / 48.0 / n**2,
        "berry_esseen_w1_over_spread": third_absolute_moment(law) / np.sqrt(n),
    }
    row |= _exact(law, n)
    row["talagrand_w1_over_spread"] = float(wasserstein_from_divergence(1.0, row["kl_nats"]))
    return row | _sampled(law, n, seed)


def _exact(law: Law, n: int) -> dict[str, float]:
    ends = ndtri(np.arange(1, _BINS) / _BINS)
    if isinstance(law, Gaussian):
        keys = ("kl_nats", "binned_kl_nats", "relu_mean_error", "w1_over_spread")
        return dict.fromkeys(keys, 0.0)
    if n == 1:
        cdf, row = law.cdf, {"kl_nats": float(Gaussian().entropy - law.entropy)}
    else:
        found = standardised_sum(law, n)
        cdf = found.cdf
        row = {
            "kl_nats": found.divergence,
            "relu_mean_error": abs(found.relu_error(0.0)[0]),
            "w1_over_spread": found.wasserstein,
        }
    binned = np.diff(cdf(ends), prepend=0.0, append=1.0)
    return row | {"binned_kl_nats": float(np.sum(xlogy(binned, binned * _BINS)))}


def _sampled(law: Law, n: int, seed: int) -> dict[str, float]:
    size = _DRAWS // n
    rng = stream(seed, f"propagation error, sum {n}")
    x = law.sample(rng, (size, n)).sum(axis=1) / np.sqrt(n)
    counts = np.bincount((ndtr(x) * _BINS).astype(int).clip(0, _BINS - 1), minlength=_BINS)
    p = counts / size
    ratio = np.log(np.maximum(p * _BINS, 1e-300))
    mean = float(np.sum(xlogy(p, p * _BINS)))
    # For counts near equal 2S·KL̂ is χ² of 49 degrees of freedom; further away the delta method.
    error = np.sqrt((np.sum(p * ratio**2) - mean**2) / size + (_BINS - 1) / (2.0 * size**2))
    return {
        "samples": size,
        "sampled_kl_nats": mean - (_BINS - 1) / (2.0 * size),
        "sampled_kl_se_nats": float(error),
    }


def _draw_networks(cases: list[dict], floor: Mapping[str, float], path: Path) -> None:
    titles = ("error of the mean / spread", "relative error of the spread", "W₁ / spread")
    fig, axes = figure(len(ACTIVATIONS), len(_KEYS), (3.2, 2.6), sharex=True, sharey="row")
    for column, name in enumerate(ACTIVATIONS):
        axes[0, column].set_title(name)
        axes[-1, column].set_xlabel("dense layers")
        for row, (key, title) in enumerate(zip(_KEYS, titles, strict=True)):
            ax = axes[row, column]
            for k, width in enumerate(NETWORK_WIDTHS):
                chosen = [c for c in cases if (c["activation"], c["width"]) == (name, width)]
                shade = k / (len(NETWORK_WIDTHS) - 1)
                colour = (0.85 * (1 - shade), 0.35, 0.25 + 0.6 * shade)
                values = [max(c[key], 1e-4) for c in chosen]
                ax.plot(DEPTHS, values, ".-", color=colour, label=f"width {width}")
            ax.axhline(floor[key], color=GREY, lw=2, alpha=0.7)
            ax.set(yscale="log")
            if column == 0:
                ax.set_ylabel(title)
    legend_below(fig, axes[0, 0])
    save(fig, path)


def _draw_sums(sums: Mapping[str, list[dict]], path: Path) -> None:
    fig, ((left, right),) = figure(2, 1, (6.0, 4.2))
    for colour, (name, rows) in zip(_COLOURS, sums.items(), strict=True):
        if name == "Gaussian":  # 0 at every width
            continue
        for axes, key, style in (
            (left, "kl_nats", {"fmt": "o", "ms": 4, "label": name}),
            (left, "predicted_nats", {"fmt": "--", "lw": 1}),
            (left, "binned_kl_nats", {"fmt": ":", "lw": 0.8}),
            (right, "relu_mean_error", {"fmt": "o", "ms": 4}),
            (right, "w1_over_spread", {"fmt": "-", "lw": 1}),
            (right, "talagrand_w1_over_spread", {"fmt": "--", "lw": 1}),
            (right, "berry_esseen_w1_over_spread", {"fmt": ":", "lw": 1}),
        ):
            shown = rows if axes is left else [row for row in rows if "w1_over_spread" in row]
            n = [row["width"] for row in shown]
            axes.errorbar(n, [row[key] for row in shown], color=colour, **style)
        for row in rows:
            kl, error = row["sampled_kl_nats"], row["sampled_kl_se_nats"]
            if kl > 3.0 * error:
                left.errorbar(row["width"], kl, error, fmt="x", ms=6, color=colour, alpha=0.6)
    left.set(
        xscale="log", yscale="log", xlabel="width n", ylabel="KL from the Gaussian (nats)",
        title="• exact (dotted: in 50 bins), × sampled, dashed: κ₃²/12n + κ₄²/48n²",
    )  # fmt: skip
    right.set(
        xscale="log", yscale="log", ylim=(1e-6, 10), xlabel="width n",
        ylabel="|E relu(X) − E relu(Z)| / spread",
        title="• error; line W₁, dashed √(2 KL), dotted E|z|³/√n",
    )  # fmt: skip
    left.legend(fontsize=8)
    save(fig, path)
