"""Error of KL and its gradients by a Gauss rule, against the number of its nodes.

Shown: for every law and prior, |n-node rule (`refbnn.training.kl.kl.by_quadrature`) − truth|, n = 1
… 64, for a weight narrow compared with the prior's features and for a wide one. The truth is
`refbnn.training.kl.kl.divergence`; the grey level is one standard error of its Monte Carlo check.

Source: arXiv 2501.05564, section 3.1.2, computes the KL term by one such rule of the device law.

What to look for. A rule is exact for polynomials of degree 2n − 1 in z, so its error falls as fast
as polynomials approach log p(µ + σz) on the law's support:

* Gaussian prior: a parabola, exact from n = 2 (KL itself) for any weight.
* Laplace: a kink at z = −µ/σ. Inside the support the gradient's rule jumps by a node's weight,
  which is O(1/n), and KL falls as O(n⁻²); a narrow weight has no mass at the kink.
* Student's t: poles at z = (−µ ± i√ν s)/σ. On a bounded support [a, b] the error falls as ρ⁻²ⁿ, ρ
  the half-axis sum of the Bernstein ellipse through the pole (dashed for the device law); with a
  normal law only as exp(−c√n), and more slowly still with a heavier tail.
* Scale mixture: log(1 + e^ℓ) branches where e^ℓ = −1, first at θ = ±0.25 ± 0.13i: near every
  weight that is not narrow compared with the narrow component.
* Device-shaped: logarithms at the ends of the prior's support. A weight that nearly fills it comes
  close to them; on the whole line KL is infinite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from figures.support.style import AMBER, BLUE, GREEN, GREY, ORANGE, PINK, figure, legend_below, save
from refbnn.layers.posterior import Posterior
from refbnn.noise import Bimodal, DensityLaw, DeviceLaw, Gaussian, HeavyTailed
from refbnn.noise.law import Law
from refbnn.noise.numerical import NumericalLaw
from refbnn.numerics.random.streams import stream
from refbnn.prior import (
    DevicePrior,
    GaussianPrior,
    LaplacePrior,
    Prior,
    ScaleMixturePrior,
    StudentTPrior,
)
from refbnn.training.kl.kl import by_quadrature, divergence

NODES = (*range(1, 17), *range(18, 65, 2))
WEIGHTS = {"narrow": (0.5, 0.02), "wide": (0.5, 1.0)}  # µ and σ
QUANTITIES = ("KL (nats)", "σ·∂KL/∂µ (nats)", "σ·∂KL/∂σ (nats)")
_KEYS = ("kl_nats", "sigma_dkl_dmu_nats", "sigma_dkl_dsigma_nats")
_COLOURS = (BLUE, AMBER, PINK, ORANGE, GREEN)
_BLOCK = 1 << 18
_LEAST = 1e-17  # an error of 0 is drawn here
_ROUNDING = 1e-12  # the estimate of a constant has a smaller standard error
STEPS = 5  # calls of `tick`: one a law


def laws() -> dict[str, NumericalLaw]:
    """Return one law of each kind."""
    return {
        "Gaussian": Gaussian(),
        "bimodal": Bimodal(0.9),
        "heavy-tailed": HeavyTailed(0.7, 0.2),
        "device": DeviceLaw(-0.5, 1.0, (0.5,)),
        "triangle": DensityLaw.of(lambda x: 1.0 - np.abs(x), -1.0, 1.0),
    }


def priors() -> dict[str, tuple[Prior, str]]:
    """Return one prior of each kind, and what limits a rule."""
    # Support [−2.1, 4.5]: the wide weights reach from −1.95 (triangle) to 3.6 (device law).
    device = DevicePrior(DeviceLaw(0.5, 1.0, (-0.3,)), mean=0.5, scale=1.5)
    mixture = ScaleMixturePrior(0.5, 1.0, 0.1)
    return {
        "Gaussian, s = 1": (GaussianPrior(1.0), "parabola: exact from n = 2"),
        "Laplace, b = 1": (LaplacePrior(1.0), "kink at z = −µ/σ"),
        "Student's t, ν = 3, s = 1": (StudentTPrior(3.0, 1.0), "poles at z = (−µ ± i√ν s)/σ"),
        "mixture, s = 1 and 0.1": (mixture, "branches at θ = ±0.25 ± 0.13i"),
        "device-shaped": (device, "log at the prior's ends"),
    }


def make(folder: Path, seed: int, mc_samples: int, tick: Callable[[str], None]) -> dict:
    """Save a picture for each kind of weight; return the numbers."""
    cases = []
    for law_name, law in laws().items():
        cases += list(_cases(law_name, law, seed, mc_samples))
        tick(f"KL: {law_name}")
    for width in WEIGHTS:
        chosen = [case for case in cases if case["weight"] == width]
        _draw(chosen, width, mc_samples, folder / f"kl_error_{width}.png")
    return {
        "nodes": list(NODES),
        "weights": {name: {"mean": mu, "scale": s} for name, (mu, s) in WEIGHTS.items()},
        "mc_samples": mc_samples,
        "cases": cases,
    }


def _cases(law_name: str, law: Law, seed: int, mc_samples: int) -> Iterator[dict]:
    """Truth, its Monte Carlo check and the rules' errors, for every prior and weight of one law."""
    pairs = [
        (prior_name, prior, width)
        for prior_name, (prior, _) in priors().items()
        if np.isfinite(law.support).all() or not isinstance(prior, DevicePrior)
        for width in WEIGHTS
    ]
    rules = [law.quadrature(n) for n in NODES]
    sampled = _monte_carlo(law, [(p, *WEIGHTS[w]) for _, p, w in pairs], seed, mc_samples)
    for (prior_name, prior, width), (mean, error) in zip(pairs, sampled, strict=True):
        mu, sigma = WEIGHTS[width]
        weight = Posterior(np.array([mu]), np.array([sigma]))
        exact = divergence({"w": weight}, law, prior)["w"]

        def numbers(found, sigma=sigma):
            return np.array([found.value, sigma * found.d_mean, sigma * found.d_scale])[:, 0]

        truth = numbers(exact)
        found = np.array([numbers(by_quadrature(weight, prior, law.entropy, r)) for r in rules])
        # From E log p, σE[s_p], σE[z s_p] to KL and its derivatives.
        estimate = np.array([-law.entropy - np.log(sigma), 0.0, -1.0]) - mean
        yield {
            "law": law_name,
            "prior": prior_name,
            "weight": width,
            "truth": dict(zip(_KEYS, truth.tolist(), strict=True)),
            "mc_minus_truth": dict(zip(_KEYS, (estimate - truth).tolist(), strict=True)),
            "mc_standard_error": dict(zip(_KEYS, error.tolist(), strict=True)),
            "error": dict(zip(_KEYS, np.abs(found - truth).T.tolist(), strict=True)),
        }


def _monte_carlo(law, triples, seed: int, n: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Means and standard errors of log p(θ), σ s_p(θ), σ z s_p(θ); same z for all triples."""
    rng = stream(seed, "kl error")
    shift = [float(prior.log_pdf(np.array(mu))) for prior, mu, _ in triples]
    first, second = np.zeros((len(triples), 3)), np.zeros((len(triples), 3))
    for start in range(0, n, _BLOCK):
        z = law.sample(rng, (min(_BLOCK, n - start),))
        for i, (prior, mu, sigma) in enumerate(triples):
            theta = mu + sigma * z
            slope = sigma * prior.score(theta)
            rows = np.stack([prior.log_pdf(theta) - shift[i], slope, z * slope])
            first[i] += rows.sum(axis=1)
            second[i] += np.square(rows).sum(axis=1)
    mean = first / n
    error = np.sqrt(np.maximum(second / n - mean**2, 0.0) / n)
    mean[:, 0] += shift
    return list(zip(mean, error, strict=True))


def _draw(cases: list[dict], width: str, mc_samples: int, path: Path) -> None:
    fig, axes = figure(len(priors()), len(QUANTITIES), (3.3, 2.5), sharex=True, sharey=True)
    mu, sigma = WEIGHTS[width]
    fig.suptitle(
        f"Error of an n-node Gauss rule of the law: {width} weight, µ = {mu:g}, σ = {sigma:g}. "
        f"Grey: greatest standard error of Monte Carlo with {mc_samples:,} samples"
    )
    for column, (prior, (_, reason)) in enumerate(priors().items()):
        axes[0, column].set_title(f"{prior}\n{reason}", fontsize=10)
        axes[-1, column].set_xlabel("nodes n")
        for row, key in enumerate(_KEYS):
            ax, chosen = axes[row, column], [c for c in cases if c["prior"] == prior]
            ax.set(yscale="log", ylim=(_LEAST / 2, 1e3))
            for colour, law in zip(_COLOURS, laws(), strict=False):
                for case in chosen:
                    if case["law"] == law:
                        error = np.maximum(case["error"][key], _LEAST)
                        ax.plot(NODES, error, ".-", ms=3, lw=1, color=colour, label=law)
            pairs = [(c["mc_minus_truth"][key], c["mc_standard_error"][key]) for c in chosen]
            scores = [abs(difference) / error for difference, error in pairs if error > _ROUNDING]
            note = "the same for every sample"
            if scores:
                ax.axhline(max(error for _, error in pairs), color=GREY, lw=2, alpha=0.7)
                note = f"|Monte Carlo − truth| ≤ {max(scores):.1f} standard errors"
            ax.text(0.98, 0.97, note, transform=ax.transAxes, ha="right", va="top", fontsize=7)
            if prior.startswith("Student"):
                ax.plot(NODES, _rate(laws()["device"], mu, sigma), "k--", lw=1, label="ρ⁻²ⁿ")
                complete = ax
    for row, quantity in enumerate(QUANTITIES):
        axes[row, 0].set_ylabel(f"error of {quantity}")
    legend_below(fig, complete)
    save(fig, path)


def _rate(law: Law, mu: float, sigma: float) -> np.ndarray:
    """ρ⁻²ⁿ for the pole (−µ + i√ν s)/σ, ν = 3, s = 1, and the support of the law."""
    low, high = law.support
    w = (2.0 * (-mu + 1j * np.sqrt(3.0)) / sigma - low - high) / (high - low)
    root = np.sqrt(w * w - 1.0)
    rho = max(abs(w + root), abs(w - root))
    return rho ** (-2.0 * np.array(NODES))
