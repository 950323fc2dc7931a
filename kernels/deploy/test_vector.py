"""Make test vectors: an input, and what the float64 reference finds for it.

The tolerance of moments is that of kernels, 1e-5 relative to the terms of a sum, once a layer:
errors of layers add up at worst, as long as no layer amplifies errors more than numbers. The terms
are taken as large as the largest output: |mean| + standard deviation, or variance.

Predictions have the tolerance of their rule, 1e-5 of probabilities and 1e-4 nats of entropies, and
what errors of moments within their tolerances can make: |∂p/∂m| ≤ ½, |∂p/∂v| ≤ ½, and an entropy
changes by at most log C as much as all probabilities together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels.deploy.statistics import Statistics
from refbnn.layers import Normalise
from refbnn.layers.moments import JointMoments, Moments
from refbnn.network.network import Network
from refbnn.prediction import raw_moments
from refbnn.prediction.result import class_joint, class_logits, from_output_moments
from refbnn.prediction.softmax import by_quadrature, by_table

TOLERANCE = 1e-5  # of one layer
OF_PROBABILITIES, OF_ENTROPIES, OF_NOISE = 1e-5, 1e-4, 1e-6  # of rules; the last is relative
_BLANK = 0.75  # share of zeros in a blank example
_GOLDEN = 2654435769  # 2³² (√5 − 1)/2, odd
_FEW = 16  # results of the self test


@dataclass(frozen=True, eq=False)
class Result:
    """Array that a library hands out: expected values in float64, NaN for none, and tolerance."""

    expected: np.ndarray
    tolerance: float

    def error(self, got: np.ndarray) -> float:
        """Greatest error; infinite where only one of both is NaN."""
        missing = np.isnan(self.expected)
        if (np.isnan(got) != missing).any():
            return np.inf
        return float(np.abs(got - self.expected)[~missing].max(initial=0.0))


@dataclass(frozen=True, eq=False)
class Vector:
    """Test vector.

    Parameters
    ----------
    x : ndarray of float32, (batch, *input shape)
    results : dict
        "mean"; "variance" or "covariance"; and "probabilities" (batch, classes) and "entropies"
        (3, batch): entropy, mutual information, aleatoric part; or "aleatoric" (batch, targets).
    """

    x: np.ndarray
    results: dict[str, Result]

    def holds_for(self, got: dict[str, np.ndarray]) -> bool:
        """Whether all are within the tolerance."""
        return all(r.error(got[name]) <= r.tolerance for name, r in self.results.items())


@dataclass(frozen=True, eq=False)
class SelfTest:
    """Example that a library makes itself: x_i = unit·(top 24 bits of i·golden ratio).

    Parameters
    ----------
    unit : float
        A power of two.
    results : dict
        The first results of the first example.
    """

    unit: float
    results: dict[str, Result]


def vector(
    net: Network,
    shape: tuple[int, ...],
    form: str,
    method: str = "pfp",
    predicted: Statistics | None = None,
) -> Vector:
    """Propagate uniform numbers through the reference: on the range that it was trained on.

    Where that is unknown, on [0, 1), as pixels are. Of a network that normalises its inputs, three
    quarters of every second example's are 0 if the range allows it: kernels sum such examples in
    another way (`kernels.layers.folding`).

    Parameters
    ----------
    net : Network
    shape : tuple of int
        (batch, *input shape)
    form, method : str
        As in `kernels.compile_network`.
    predicted : Statistics, optional
        What the library predicts.
    """
    rng = np.random.default_rng(0)
    x = rng.random(shape, dtype=np.float32)
    low, high = net.input_range or (0.0, 1.0)
    if net.input_range:
        x = np.clip(low + (high - low) * x.astype(float), low, high).astype(np.float32)
    if isinstance(next(iter(net.layers), None), Normalise) and low <= 0.0 <= high:
        x[::2] = np.where(rng.random(x[::2].shape) < _BLANK, np.float32(0.0), x[::2])
    return Vector(x, _results(net, x, form, method, predicted))


def self_test(
    net: Network, shape: tuple[int, ...], form: str, method: str, predicted: Statistics | None
) -> SelfTest:
    """Choose the example of the self test, on the range trained on; parameters as in `vector`."""
    most = max(map(abs, net.input_range)) if net.input_range else 1.0
    unit = 2.0 ** (np.floor(np.log2(most if most > 0.0 else 1.0)) - 24)
    bits = np.arange(np.prod(shape[1:]), dtype=np.uint32) * np.uint32(_GOLDEN)
    x = (bits >> np.uint32(8)).astype(np.float64) * unit
    found = _results(net, x.reshape(1, *shape[1:]), form, method, predicted)
    first = {name: result.expected.ravel()[:_FEW] for name, result in found.items()}
    return SelfTest(unit, {name: Result(first[name], found[name].tolerance) for name in found})


def _results(
    net: Network, x: np.ndarray, form: str, method: str, predicted: Statistics | None
) -> dict[str, Result]:
    """Results of the reference."""
    moments = _moments(net, x, form, method)
    if isinstance(moments, JointMoments):
        name, second, var = "covariance", moments.cov, moments.marginal.var
    else:
        name, second, var = "variance", moments.var, moments.var
    relative = TOLERANCE * len(net.layers)
    of_mean = relative * float((np.abs(moments.mean) + np.sqrt(var)).max())
    of_var = relative * float(var.max())
    found = {"mean": Result(moments.mean, of_mean), name: Result(second, of_var)}
    if predicted is None:
        return found
    if predicted.kind == "targets":
        outputs = Moments(moments.mean, var)
        aleatoric = from_output_moments(outputs, predicted.n).aleatoric
        if net.noise_sd is not None:
            aleatoric = np.broadcast_to(np.square(net.noise_sd), aleatoric.shape)
        largest = float(aleatoric.max())
        tolerance = largest * (OF_NOISE + of_mean + of_var)
        return {**found, "aleatoric": Result(aleatoric, tolerance)}
    return {**found, **of_classes(moments, predicted, of_mean + of_var)}


def of_classes(
    moments: Moments | JointMoments, predicted: Statistics, error: float = 0.0
) -> dict[str, Result]:
    """Apply the reference's rule to moments of outputs that are right to within `error`."""
    if isinstance(moments, JointMoments):
        joint = class_joint(moments)
        exact, cov = by_table(joint), joint.cov
        # Of two classes, the rule takes the difference of the logits.
        var = cov[:, :1, 0] - 2.0 * cov[:, :1, 1] + cov[:, 1:2, 1]
    else:
        logits = class_logits(moments)
        exact, var = by_quadrature(logits), logits.var
    p = np.array(exact.probabilities)
    entropies = np.array([exact.entropy, exact.mutual_information, exact.aleatoric])
    unsuited = np.sqrt(var).max(axis=-1) > predicted.widest
    p[unsuited], entropies[:, unsuited] = np.nan, np.nan
    of_p = OF_PROBABILITIES + 0.5 * error
    of_entropy = OF_ENTROPIES + np.log(predicted.n) * error
    return {"probabilities": Result(p, of_p), "entropies": Result(entropies, of_entropy)}


def _moments(net: Network, x: np.ndarray, form: str, method: str) -> Moments | JointMoments:
    if method == "linearised":
        return net.propagate(x, method="linearised")
    if form == "mean":
        means = {name: p.mean for name, p in net.parameters().items()}
        mean, _ = net.forward(x.astype(float), means)
        return Moments(mean, np.zeros_like(mean))
    return raw_moments.propagate(net, x) if form == "raw" else net.propagate(x)
