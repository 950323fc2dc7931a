"""Where one Gaussian a logit says too little: mutual information of models that disagree.

*Constructed case.* Sampled models each favour one of C = 10 classes, chosen evenly, by a logit L:
logits L·e_k. Exactly,

    MI = log C − H(softmax(L e_k)),      mean L/C,   Cov = L²(δ_cd/C − 1/C²).

PFP sees the mean and the variances L²(C − 1)/C². arXiv 2511.23440, section 3.1, reports MI
underestimated by 44 % in a constructed case of high epistemic uncertainty; here L runs, and the
figure says where 44 % is met. The covariance adds a factor C/(C − 1) to Var(ℓ_c − ℓ_d): little.
What is missing is the shape: one logit of ten is high, each one's law is skewed. The variance
factor that would make up for it is given where it is below 100.

*As a network.* One input, ten hidden units whose weights follow a law with two peaks, a known last
layer L·I: logits that are on or off. Given the first layer (`figures.conditional`),
propagation is right again.

*Trained network.* 784-100-100-10 trained on the packaged digits; its scales are then multiplied, up
to four times, so that sampled networks contradict each other; inputs are clothes. MI in the mean
over inputs, by propagation (diagonal; full covariance; diagonal with the variance factor
that meets sampled MI on digits; given 30 draws of the first layer) over MI by 2000 samples of the
network.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from scipy.special import entr, softmax

from figures import conditional
from figures.style import AMBER, BLUE, GREEN, GREY, ORANGE, figure, save
from refbnn import Network, Posterior, data, predict, train
from refbnn.layers import Dense, ReLU
from refbnn.noise import Bimodal
from refbnn.numerics.random.streams import stream
from refbnn.prediction import covariance
from refbnn.prediction.covariance import JointMoments
from refbnn.prediction.softmax import by_quadrature
from refbnn.uncertainty.auroc import auroc
from refbnn.uncertainty.variance_factor import choose

CLASSES = 10
LOGITS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 15.0, 20.0, 30.0)
SCALES = (1.0, 2.0, 3.0, 4.0)  # times the trained ones
_DRAWS, _SAMPLES, _INPUTS = 20_000, 2000, 100
_PAPER = 0.44
_GREATEST_FACTOR = 100.0
_COLOURS = {"diagonal": BLUE, "full": GREEN, "factor": AMBER, "conditional": ORANGE}
_WORDS = {
    "diagonal": "diagonal",
    "full": "full covariance",
    "factor": "diagonal, variance factor",
    "conditional": "given the first layer, 30 draws",
}


def steps() -> int:
    """How often `make` ticks."""
    return 3


def make(folder: Path, seed: int, mc_samples: int, tick: Callable[[str], None]) -> dict:
    """Save the picture; return the numbers."""
    logits = constructed(seed)
    tick("high epistemic: constructed logits")
    switches = as_network(seed)
    tick("high epistemic: constructed network")
    trained = trained_network(seed)
    tick("high epistemic: trained network")
    _draw(logits, trained, folder / "high_epistemic.png")
    return {"constructed": logits, "switches": switches, "trained": trained}


def disagreeing(L: float) -> tuple[float, JointMoments]:
    """Exact MI of logits L·e_k, k even among the classes, and their joint moments."""
    mi = np.log(CLASSES) - entr(softmax(L * np.eye(CLASSES)[0])).sum()
    cov = L**2 * (np.eye(CLASSES) / CLASSES - 1.0 / CLASSES**2)
    return float(mi), JointMoments(np.full((1, CLASSES), L / CLASSES), cov[np.newaxis])


def constructed(seed: int) -> dict:
    """MI of the constructed logits, exactly and by propagated moments; the factor it would take."""

    def of(joint: JointMoments, kind: str, factor: float = 1.0) -> float:
        scaled = JointMoments(joint.mean, factor * joint.cov)
        if kind == "full":
            rng = stream(seed, "high epistemic")
            return float(covariance.from_joint(scaled, _DRAWS, rng).mutual_information[0])
        return float(by_quadrature(scaled.marginal).mutual_information[0])

    rows = []
    for L in LOGITS:
        exact, joint = disagreeing(L)

        def gap(factor: float, joint=joint, exact=exact) -> float:
            return of(joint, "diagonal", factor) - exact

        reached = gap(_GREATEST_FACTOR) > 0.0
        factor = brentq(gap, 1e-3, _GREATEST_FACTOR, xtol=1e-3) if reached else None
        rows.append(
            {
                "logit": L,
                "mi_nats": exact,
                "diagonal_mi_nats": of(joint, "diagonal"),
                "full_mi_nats": of(joint, "full"),
                "variance_factor_that_meets_it": factor,
            }
        )

    def miss(L: float) -> float:
        exact, joint = disagreeing(L)
        return 1.0 - of(joint, "diagonal") / exact - _PAPER

    # Rises up to a maximum, then falls: both are random models in the limit.
    around = [(a, b) for a, b in pairwise(LOGITS) if miss(a) * miss(b) < 0.0]
    meets = [brentq(miss, a, b, xtol=1e-3) for a, b in around]
    return {"classes": CLASSES, "draws": _DRAWS, "rows": rows, "logits_of_44_percent": meets}


def as_network(seed: int, L: float = 10.0) -> dict:
    """MI of a network whose hidden units are on or off."""
    net = Network([Dense(1, CLASSES), ReLU(), Dense(CLASSES, CLASSES)], law=Bimodal(0.99))
    half = np.full((CLASSES, 1), 0.5)
    known = np.zeros(CLASSES)
    net.set_parameters(
        {
            "0.weight": Posterior(half, half),
            "0.bias": Posterior(known, known),
            "2.weight": Posterior(L * np.eye(CLASSES), np.zeros((CLASSES, CLASSES))),
            "2.bias": Posterior(known, known),
        }
    )
    x = np.ones((1, 1))
    by = {
        "sampled": predict(net, x, method="svi", n_samples=20_000, seed=seed),
        "diagonal": predict(net, x),
        "full": predict(net, x, method="full", n_samples=20_000, seed=seed),
        "conditional": conditional.predict(net, x, n_draws=5000, seed=seed),
    }
    return {"logit": L} | {f"{k}_mi_nats": float(p.mutual_information[0]) for k, p in by.items()}


def trained_network(seed: int, epochs: int = 15) -> dict:
    """MI of a trained network with its scales multiplied, on digits and clothes."""
    digits, clothes = data.load("mnist-subset", "train"), data.load("fashion-subset", "test")
    net = Network([Dense(784, 100), ReLU(), Dense(100, 100), ReLU(), Dense(100, 10)], seed=seed)
    train(net, net.shaped(digits.x), digits.y, epochs=epochs, seed=seed)
    fitted = net.parameters()
    test = data.load("mnist-subset", "test")
    inside = net.shaped(test.x)[:_INPUTS]
    outside = net.shaped(clothes.x)[:_INPUTS]
    rows, separation = [], []
    for times in SCALES:
        net.set_parameters({n: Posterior(p.mean, times * p.scale) for n, p in fitted.items()})
        factor = choose(net, inside, test.y[:_INPUTS], seed=seed).factor
        scaled = net.with_variance_factor(factor)
        scores: dict[str, list[np.ndarray]] = {}
        for name, x in (("digits", inside), ("clothes", outside)):
            samples = net.sample(x, _SAMPLES, stream(seed, "trained"))
            spread = samples.std(axis=0)
            diagonal, joint = net.propagate(x), covariance.propagate(net, x)
            p = softmax(samples, axis=-1)
            mi = entr(p.mean(axis=0)).sum(axis=-1) - entr(p).sum(axis=-1).mean(axis=0)
            found = {
                "diagonal": predict(net, x),
                "full": predict(net, x, method="full", seed=seed),
                "factor": predict(scaled, x),
                "conditional": conditional.predict(net, x, seed=seed),
            }
            by_kind = {kind: q.mutual_information for kind, q in found.items()}
            for kind, score in {"sampled": mi, **by_kind}.items():
                scores.setdefault(kind, []).append(score)
            rows.append(
                {
                    "scales_times": times,
                    "inputs": name,
                    "sampled_mi_nats": float(mi.mean()),
                    "variance_factor": factor,
                    "spread_ratio_diagonal": float(np.median(np.sqrt(diagonal.var) / spread)),
                    "spread_ratio_full": float(np.median(np.sqrt(joint.marginal.var) / spread)),
                    **{f"{kind}_mi_nats": float(score.mean()) for kind, score in by_kind.items()},
                    **{
                        f"{kind}_mi_mean_abs_difference_nats": float(np.abs(score - mi).mean())
                        for kind, score in by_kind.items()
                    },
                }
            )
        separation.append(
            {"scales_times": times} | {f"{k}_auroc": auroc(*s)[0] for k, s in scores.items()}
        )
    return {
        "samples": _SAMPLES,
        "inputs": _INPUTS,
        "epochs": epochs,
        "rows": rows,
        "digits_from_clothes_by_mi": separation,
    }


def _draw(logits: dict, trained: dict, path: Path) -> None:
    fig, axes = figure(3)
    rows = logits["rows"]
    L = [row["logit"] for row in rows]
    ax = axes[0, 0]
    ax.plot(L, [row["mi_nats"] for row in rows], "k-", label="exact")
    for kind in ("diagonal", "full"):
        mi = [row[f"{kind}_mi_nats"] for row in rows]
        ax.plot(L, mi, ".-", color=_COLOURS[kind], label=_WORDS[kind])
    for met in logits["logits_of_44_percent"]:
        ax.axvline(met, color=GREY, ls=":", lw=1)
    ax.set(
        xlabel="logit L of the favoured class",
        ylabel="mutual information (nats)",
        title="Models that disagree (dotted: 44 % too low)",
    )
    ax.legend(fontsize=8)
    for ax, name in zip(axes[0, 1:], ("digits", "clothes"), strict=True):
        chosen = [row for row in trained["rows"] if row["inputs"] == name]
        times = [row["scales_times"] for row in chosen]
        for kind, colour in _COLOURS.items():
            ratio = [row[f"{kind}_mi_nats"] / row["sampled_mi_nats"] for row in chosen]
            ax.plot(times, ratio, ".-", color=colour, label=_WORDS[kind])
        ax.axhline(1.0, color="k", lw=1)
        ax.set(
            xlabel="scales, times the trained ones",
            ylabel="mean MI over sampled MI",
            title=f"Trained network, {name}",
            ylim=(0.0, None),
        )
    axes[0, 2].legend(fontsize=8)
    save(fig, path)
