"""Where one Gaussian a logit is not enough: mutual information of models that disagree.

*Constructed case.* Sampled models each favour one of C = 10 classes, chosen evenly, by a logit L:
logits L·e_k. Exactly,

    MI = log C − H(softmax(L e_k)),      mean L/C,   Cov = L²(δ_cd/C − 1/C²).

PFP gets the mean and the variances L²(C − 1)/C². arXiv 2511.23440, section 3.1, reports MI
underestimated by 44 % in a constructed case of high epistemic uncertainty; here L varies, and the
figure marks where 44 % is met. The covariance adds only a factor C/(C − 1) to Var(ℓ_c − ℓ_d). The
error comes from the shape: one logit of ten is high, so the law of each is skewed. The variance
factor that would correct MI is given where it is below 100.

*As a network.* One input, ten hidden units whose weights follow a law with two peaks, and a known
last layer L·I give logits that are on or off. Given the first layer
(`figures.support.conditional`), propagation is right again.

*Trained network.* 784-100-100-10 is trained on the packaged digits; then its scales are multiplied
by up to four, so that sampled networks contradict each other. Shown is the mean MI by propagation
(diagonal; full covariance; diagonal with the variance factor that equals sampled MI on digits;
given 30 draws of the first layer) over MI by 2000 samples of the network, for digits and clothes.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from scipy.special import entr, softmax

from figures.support import conditional
from figures.support.style import AMBER, BLUE, GREEN, GREY, ORANGE, figure, save
from refbnn import Network, Posterior, data, predict, train
from refbnn.layers import Dense, ReLU
from refbnn.layers.moments import JointMoments
from refbnn.network.architectures import mlp
from refbnn.noise import Bimodal
from refbnn.numerics.random.streams import stream
from refbnn.prediction import covariance
from refbnn.prediction.softmax import by_quadrature, by_table
from refbnn.uncertainty.auroc import auroc
from refbnn.uncertainty.variance_factor import choose

CLASSES = 10
LOGITS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 15.0, 20.0, 30.0)
SCALES = (1.0, 2.0, 3.0, 4.0)  # factors on the trained scales
_DRAWS, _SAMPLES, _INPUTS = 20_000, 2000, 100
_PAPER = 0.44
_GREATEST_FACTOR = 100.0
_KINDS = {
    "diagonal": (BLUE, "diagonal"),
    "full": (GREEN, "full covariance"),
    "factor": (AMBER, "diagonal, variance factor"),
    "conditional": (ORANGE, "given the first layer, 30 draws"),
}
STEPS = 3  # calls of `tick`


def make(folder: Path, seed: int, mc_samples: int, tick: Callable[[str], None]) -> dict:
    """Save the picture; return the numbers."""
    logits = constructed()
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


def constructed() -> dict:
    """MI of the constructed logits, exact and by propagated moments, and the factor needed."""

    def mi(joint: JointMoments, kind: str, factor: float = 1.0) -> float:
        scaled = JointMoments(joint.mean, factor * joint.cov)
        if kind == "full":
            return float(by_table(scaled, _DRAWS).mutual_information[0])
        return float(by_quadrature(scaled.marginal).mutual_information[0])

    rows = []
    for L in LOGITS:
        exact, joint = disagreeing(L)

        def gap(factor: float, joint=joint, exact=exact) -> float:
            return mi(joint, "diagonal", factor) - exact

        reached = gap(_GREATEST_FACTOR) > 0.0
        factor = brentq(gap, 1e-3, _GREATEST_FACTOR, xtol=1e-3) if reached else None
        by_moments = {f"{kind}_mi_nats": mi(joint, kind) for kind in ("diagonal", "full")}
        rows.append(
            {"logit": L, "mi_nats": exact, **by_moments, "variance_factor_that_meets_it": factor}
        )

    def miss(L: float) -> float:
        exact, joint = disagreeing(L)
        return 1.0 - mi(joint, "diagonal") / exact - _PAPER

    # The underestimate rises to a maximum and falls again, so 44 % may be met twice.
    around = [(a, b) for a, b in pairwise(LOGITS) if miss(a) * miss(b) < 0.0]
    meets = [brentq(miss, a, b, xtol=1e-3) for a, b in around]
    return {"classes": CLASSES, "draws": _DRAWS, "rows": rows, "logits_of_44_percent": meets}


def as_network(seed: int, L: float = 10.0) -> dict:
    """Compute MI of a network whose hidden units are on or off."""
    net = Network([Dense(1, CLASSES), ReLU(), Dense(CLASSES, CLASSES)], law=Bimodal(0.99))
    half = np.full((CLASSES, 1), 0.5)
    bias = Posterior(np.zeros(CLASSES), np.zeros(CLASSES))
    last = Posterior(L * np.eye(CLASSES), np.zeros((CLASSES, CLASSES)))
    first = Posterior(half, half)
    net.set_parameters({"0.weight": first, "0.bias": bias, "2.weight": last, "2.bias": bias})
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
    net = Network(mlp(CLASSES), seed=seed)
    train(net, net.shaped(digits.x), digits.y, epochs=epochs, seed=seed)
    fitted = net.parameters()
    test = data.load("mnist-subset", "test")
    inputs = {"digits": net.shaped(test.x)[:_INPUTS], "clothes": net.shaped(clothes.x)[:_INPUTS]}
    rows, separation = [], []
    for times in SCALES:
        net.set_parameters({n: Posterior(p.mean, times * p.scale) for n, p in fitted.items()})
        factor = choose(net, inputs["digits"], test.y[:_INPUTS], seed=seed).factor
        scores = {}
        for name, x in inputs.items():
            scores[name], ratios = _mutual_information(net, x, factor, seed)
            rows.append(
                {"scales_times": times, "inputs": name, "variance_factor": factor}
                | ratios
                | _compared(scores[name])
            )
        separation.append(
            {"scales_times": times}
            | {f"{k}_auroc": auroc(s, scores["clothes"][k])[0] for k, s in scores["digits"].items()}
        )
    return {
        "samples": _SAMPLES,
        "inputs": _INPUTS,
        "epochs": epochs,
        "rows": rows,
        "digits_from_clothes_by_mi": separation,
    }


def _mutual_information(
    net: Network, x: np.ndarray, factor: float, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """MI of each input by sampling and by each propagation; median ratios of logit spreads."""
    samples = net.sample(x, _SAMPLES, stream(seed, "trained"))
    p = softmax(samples, axis=-1)
    sampled = entr(p.mean(axis=0)).sum(axis=-1) - entr(p).sum(axis=-1).mean(axis=0)
    predictions = {
        "diagonal": predict(net, x),
        "full": predict(net, x, method="full", seed=seed),
        "factor": predict(net.with_variance_factor(factor), x),
        "conditional": conditional.predict(net, x, seed=seed),
    }
    scores = {kind: q.mutual_information for kind, q in predictions.items()}
    spread = samples.std(axis=0)
    propagated = {"diagonal": net.propagate(x), "full": covariance.propagate(net, x).marginal}
    ratios = {
        f"spread_ratio_{kind}": float(np.median(np.sqrt(moments.var) / spread))
        for kind, moments in propagated.items()
    }
    return {"sampled": sampled} | scores, ratios


def _compared(scores: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean MI of each kind, and its mean absolute difference from sampled MI."""
    numbers = {f"{kind}_mi_nats": float(score.mean()) for kind, score in scores.items()}
    return numbers | {
        f"{kind}_mi_mean_abs_difference_nats": float(np.abs(score - scores["sampled"]).mean())
        for kind, score in scores.items()
        if kind != "sampled"
    }


def _draw(logits: dict, trained: dict, path: Path) -> None:
    fig, ((left, *others),) = figure(3)
    rows = logits["rows"]
    L = [row["logit"] for row in rows]
    left.plot(L, [row["mi_nats"] for row in rows], "k-", label="exact")
    for kind in ("diagonal", "full"):
        colour, label = _KINDS[kind]
        left.plot(L, [row[f"{kind}_mi_nats"] for row in rows], ".-", color=colour, label=label)
    for met in logits["logits_of_44_percent"]:
        left.axvline(met, color=GREY, ls=":", lw=1)
    left.set(
        xlabel="logit L of the favoured class",
        ylabel="mutual information (nats)",
        title="Models that disagree (dotted: 44 % too low)",
    )
    left.legend(fontsize=8)
    for ax, name in zip(others, ("digits", "clothes"), strict=True):
        chosen = [row for row in trained["rows"] if row["inputs"] == name]
        times = [row["scales_times"] for row in chosen]
        for kind, (colour, label) in _KINDS.items():
            ratio = [row[f"{kind}_mi_nats"] / row["sampled_mi_nats"] for row in chosen]
            ax.plot(times, ratio, ".-", color=colour, label=label)
        ax.axhline(1.0, color="k", lw=1)
        ax.set(
            xlabel="scales, times the trained ones",
            ylabel="mean MI over sampled MI",
            title=f"Trained network, {name}",
            ylim=(0.0, None),
        )
    others[1].legend(fontsize=8)
    save(fig, path)
