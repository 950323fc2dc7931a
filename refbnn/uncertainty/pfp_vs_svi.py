"""Propagation against many sampled passes: how far PFP is from SVI, which it replaces.

Measures
--------
On the same inputs, in and out of distribution: accuracy, mean predictive entropy H, mean mutual
information MI and AUROC by either score (`refbnn.uncertainty.auroc`), by PFP and by SVI, and the
differences PFP − SVI; then the mean over inputs of |H_PFP − H_SVI| and |MI_PFP − MI_SVI|, and over
inputs and classes of |p_PFP − p_SVI|.

Errors
------
*Monte Carlo* error of the S passes of SVI. All inputs share the weights of a pass. The passes form
G = 16 independent blocks of S/G. With θ_h the measure by one half of the blocks,

    se² = mean_h (θ_h − mean θ_h)²

over the halves that all rows but the first of a Hadamard matrix of G rows choose by their signs,
and their complements (balanced half-samples, McCarthy 1969). The rows are orthogonal, so for a mean
this *is* Σ_g (θ_g − θ̄)²/(G(G − 1)). It also serves for accuracy and AUROC, which jump, since θ_h is
off by as much as S passes are (a jackknife that leaves out one block overstates the error of an
accuracy by half). It is known to 1/√(2(G − 1)) = 18 %. It is the error of a difference too, since
propagation has none: the table behind "linearised" and "full" is fixed.

It does not include bias. MI of S passes is too low by the factor 1 − 1/S. A mean of |PFP − SVI| is
never below the passes' own mean error, √(2/π)/√S times the spread of one pass (0.001 of a garment's
probability by a 784-100-100-10, S = 10,000), nor below the error of that table
(`refbnn.prediction.softmax.table`, 0.0007).

*Choice of inputs*, for differences of accuracy and AUROC on the same inputs: for accuracy the
standard error of the mean of paired differences, for AUROC that of DeLong, DeLong & Clarke-Pearson
(1988). With V_i the share of outside inputs that score above i inside, W_j the share of inside ones
below j outside (ties half), and dV, dW their differences between the methods,

    se² = Var(dV)/n + Var(dW)/m.

Limits
------
A propagation may replace sampling if, on the inputs given, |difference| is at most 0.2 points of
accuracy and 0.01 of either AUROC.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from itertools import compress
from operator import add

import numpy as np
from scipy.linalg import hadamard
from scipy.stats import rankdata

from refbnn.errors import InputError
from refbnn.network.network import Network
from refbnn.numerics.random.streams import stream
from refbnn.prediction.predict import class_sums, predict
from refbnn.prediction.result import Prediction
from refbnn.training.likelihood import check_classes
from refbnn.uncertainty.auroc import auroc
from refbnn.uncertainty.evaluation import SCORES

PROPAGATED = ("pfp", "linearised", "full")
BLOCKS = 16  # a power of two
ACCURACY_LIMIT = 0.002
AUROC_LIMIT = 0.01


@dataclass(frozen=True)
class Measure:
    """One measure by both methods.

    Parameters
    ----------
    propagated, sampled : float or None
        None where only the difference has a meaning.
    difference : float
        PFP − SVI, or the mean absolute difference of inputs.
    monte_carlo_se : float
        Standard error of the difference from SVI's passes.
    inputs_se : float or None
        Standard error from the choice of inputs, where known.
    limit : float or None
        Greatest acceptable |difference|.
    """

    propagated: float | None
    sampled: float | None
    difference: float
    monte_carlo_se: float
    inputs_se: float | None = None
    limit: float | None = None

    @property
    def held(self) -> bool:
        """Whether the difference is within its limit; true without one."""
        return self.limit is None or abs(self.difference) <= self.limit


@np.errstate(over="ignore", invalid="ignore")  # what overflows is an InputError
def compare(
    net: Network,
    inside: np.ndarray,
    y: np.ndarray,
    outside: np.ndarray | None = None,
    *,
    method: str = "pfp",
    n_samples: int = 10_000,
    seed: int = 0,
    on_samples: Callable[[int], object] | None = None,
) -> dict[str, Measure]:
    """Compare a propagation of a classifier with its sampled passes; keys name the units.

    Parameters
    ----------
    net : Network
    inside : (B, ...)
    y : (B,) of int
        Labels of `inside`.
    outside : (N, ...), optional
        Out-of-distribution inputs, for AUROC.
    method : {"pfp", "linearised", "full"}
    n_samples : int
        Number of passes, at least 2·BLOCKS.
    seed : int
        Seed of the passes, which are those of `predict`.
    on_samples : callable, optional
        Called with the number of passes done since the last call.

    Raises
    ------
    InputError
        If `predict` would raise it, the labels do not fit, or there are too few samples.
    """
    _check(net, inside, y, outside, method, n_samples)
    x = inside if outside is None else np.concatenate([inside, outside])
    propagated = _split(predict(net, x, method=method, seed=seed), len(y))
    rng = stream(seed, "predict")
    parts = [
        class_sums(net, x, len(block), rng, on_samples)
        for block in np.array_split(np.arange(n_samples), BLOCKS)
    ]
    sampled = _split(reduce(add, parts).classes, len(y))
    halves = [
        _measures(propagated, _split(reduce(add, compress(parts, signs > 0)).classes, len(y)), y)
        for signs in np.concatenate([hadamard(BLOCKS)[1:], -hadamard(BLOCKS)[1:]])
    ]
    measures, errors = {}, _input_errors(propagated, sampled, y)
    for key, (by_pfp, by_svi, difference) in _measures(propagated, sampled, y).items():
        spread = float(np.std([half[key][2] for half in halves]))
        measures[key] = Measure(by_pfp, by_svi, difference, spread, errors.get(key), _limit(key))
    return measures


def _check(net, inside, y, outside, method: str, n_samples: int) -> None:
    if method not in PROPAGATED:
        raise InputError(
            f"compare: method {method!r}; expected {' or '.join(map(repr, PROPAGATED))}"
        )
    if n_samples < 2 * BLOCKS:
        raise InputError(f"compare: n_samples is {n_samples}; expected at least {2 * BLOCKS}")
    check_classes(y, net.check_input(np.shape(inside)[1:]))
    if len(inside) != len(y) or not len(y):
        raise InputError(
            f"compare: {len(inside)} inputs, {len(y)} labels; expected as many, at least one"
        )
    if outside is not None and (not len(outside) or outside.shape[1:] != inside.shape[1:]):
        raise InputError(
            f"compare: outside of shape {outside.shape}; expected (N, *{inside.shape[1:]}), N ≥ 1"
        )


def _limit(key: str) -> float | None:
    if key == "accuracy":
        return ACCURACY_LIMIT
    return AUROC_LIMIT if key.startswith("auroc_") else None


def _split(p: Prediction, n: int) -> list[Prediction]:
    """Split a prediction into n inputs inside and, if there are more, those outside."""
    return [p[:n], p[n:]] if len(p.aleatoric) > n else [p]


def _measures(
    propagated: list[Prediction], sampled: list[Prediction], y: np.ndarray
) -> dict[str, tuple[float | None, float | None, float]]:
    """Measures by propagation, by sampling, and their difference."""
    found: dict[str, tuple[float | None, float | None, float]] = {}
    right = [int(np.sum(by[0].labels == y)) for by in (propagated, sampled)]
    found["accuracy"] = right[0] / len(y), right[1] / len(y), (right[0] - right[1]) / len(y)
    if len(sampled) > 1:
        for name, score in SCORES.items():
            ours, theirs = (auroc(*map(score, by))[0] for by in (propagated, sampled))
            found[f"auroc_{name.replace(' ', '_')}"] = ours, theirs, ours - theirs
    for place, p, s in zip(("inside", "outside"), propagated, sampled, strict=False):
        for name, score in SCORES.items():
            key = f"{name.replace(' ', '_')}_{place}_nats"
            ours, theirs = float(score(p).mean()), float(score(s).mean())
            found[key] = ours, theirs, ours - theirs
            found[f"absolute_difference_{key}"] = None, None, _distance(score(p), score(s))
        apart = _distance(p.probabilities, s.probabilities)
        found[f"absolute_difference_probability_{place}"] = None, None, apart
    return found


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).mean())


def _input_errors(
    propagated: list[Prediction], sampled: list[Prediction], y: np.ndarray
) -> dict[str, float]:
    """Standard errors of differences from the choice of inputs; none for a single input."""
    if min(len(p.aleatoric) for p in sampled) < 2:
        return {}
    right = [(by[0].labels == y).astype(float) for by in (propagated, sampled)]
    errors = {"accuracy": float(np.sqrt((right[0] - right[1]).var(ddof=1) / len(y)))}
    if len(sampled) > 1:
        for name, score in SCORES.items():
            (v, w), (v2, w2) = (placements(*map(score, by)) for by in (propagated, sampled))
            variance = (v - v2).var(ddof=1) / len(v) + (w - w2).var(ddof=1) / len(w)
            errors[f"auroc_{name.replace(' ', '_')}"] = float(np.sqrt(variance))
    return errors


def placements(inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """V_i (n,) and W_j (m,): shares of scores outside above i, and of scores inside below j.

    The rank among all less the rank among one's own kind counts the other kind below.
    """
    n, m = len(inside), len(outside)
    ranks = rankdata(np.concatenate([inside, outside]))
    below = ranks[:n] - rankdata(inside)
    return 1.0 - below / m, (ranks[n:] - rankdata(outside)) / n
