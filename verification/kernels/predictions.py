"""Predictions of compiled networks in float32, compared with the float64 rules of the reference.

Hypothesis: probabilities, mean entropy, entropy and mutual information of
`compile_network(net, B).predict(x)` are those of the reference's rule for the moments that the
compiled network returns for x: `by_quadrature` for independent logits, `by_table` for correlated
ones. The moments are those of `Network.propagate`. For `compile_sampled` the rule is that of the
samples of the same seed, whose weights `verification.kernels.sampling` checks.

Inputs: one row a scale, so that standard deviations of logits lie between 0.01 and 5, and one row
beyond 16, which goes to the rule of the reference where the kernel's has a limit
(`kernels.prediction.quadrature`).

Allowed errors are those that the rules promise. Independent logits and two classes: 5e-7 of a
probability; 3e-6 of an entropy, or 1e-5 for standard deviations above 2
(`kernels.prediction.quadrature`, with rounding of moments). Correlated logits: 1e-5
(`kernels.prediction.table`). Samples: 5e-7 and 3e-6, for logits up to 20, whose rounding exp makes
relative. Both also keep 5e-4 of a small mutual information (`kernels.prediction.points`). Moments:
as in `verification.kernels.layers` and `verification.kernels.linearised`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kernels import compile_network, compile_sampled
from kernels.devices import Board
from refbnn import Network
from refbnn.layers import Dense, ReLU
from refbnn.layers.moments import JointMoments, Moments
from refbnn.layers.posterior import Posterior
from refbnn.prediction.result import Prediction, class_joint, class_logits, from_logit_samples
from refbnn.prediction.softmax import by_quadrature, by_table
from verification.check import Check
from verification.kernels.compare import SCHEDULES, compare, single
from verification.kernels.layers import accuracy
from verification.kernels.linearised import joint_accuracy

_SCALES = np.array(
    [0.01, 0.1, 0.5, 1.0, 2.5, 20.0]
)  # of the inputs; the last where quadrature is the rule
_FEATURES, _SEED, _SAMPLES = 6, 9, 17
_PROBABILITY, _ENTROPY, _WIDE = 5e-7, 3e-6, 1e-5
_SHARE = 5e-4  # of the mutual information, where points give it


def network(n_outputs: int, rng: np.random.Generator) -> Network:
    """Two dense layers without bias means: the logits grow as the inputs do."""
    net = Network([Dense(_FEATURES, 11), ReLU(), Dense(11, n_outputs)])
    own = {}
    for name, initial in net.parameters().items():
        size = 0.01 if name.endswith("bias") else np.sqrt(2.0 / initial.shape[1])
        mean = 0.0 if name.endswith("bias") else size * rng.standard_normal(initial.shape)
        scale = size * rng.uniform(0.3, 1.0, initial.shape)
        own[name] = Posterior(single(mean + np.zeros(initial.shape)), single(scale))
    net.set_parameters(own)
    return net


def check(target: str, device: str | Board, rng: np.random.Generator) -> list[Check]:
    """Check predictions by every method: one logit, two and ten."""
    checks = []
    for schedule in SCHEDULES:
        where = target, device, schedule, rng
        checks += [_check_pfp(n_outputs, *where) for n_outputs in (1, 10)]
        checks += [_check_linearised(n_outputs, *where) for n_outputs in (2, 10)]
        checks.append(_check_sampled(10, *where))
    return checks


def _check_pfp(n_outputs: int, target, device, schedule, rng) -> Check:
    net, x = network(n_outputs, rng), _inputs(_SCALES, rng)
    fast = compile_network(net, len(x), target, schedule, device=device)
    y, moments = fast(x), net.propagate(x)
    logits = class_logits(Moments(y.mean.astype(float), y.var.astype(float)))
    return _compare(
        f"PFP, {_outputs(n_outputs)} ({schedule})",
        fast.predict(x),
        by_quadrature(logits),
        _PROBABILITY,
        [np.where(np.sqrt(logits.var.max(axis=1)) > 2.0, _WIDE, _ENTROPY)] * 3,
        [y.mean, y.var],
        [moments.mean, moments.var],
        accuracy(moments),
    )


def _check_linearised(n_outputs: int, target, device, schedule, rng) -> Check:
    scales = _SCALES if n_outputs == 2 else _SCALES[:-1]
    net, x = network(n_outputs, rng), _inputs(scales, rng)
    fast = compile_network(net, len(x), target, schedule, device=device, method="linearised")
    y, moments = fast(x), net.propagate(x, method="linearised")
    expected = by_table(class_joint(JointMoments(y.mean.astype(float), y.cov.astype(float))))
    return _compare(
        f"linearised propagation, {_outputs(n_outputs)} ({schedule})",
        fast.predict(x),
        expected,
        _WIDE,
        _of_points(expected, _WIDE) if n_outputs > 2 else [np.full(len(x), _WIDE)] * 3,
        [y.mean, y.cov],
        [moments.mean, moments.cov],
        joint_accuracy(moments),
    )


def _check_sampled(n_outputs: int, target, device, schedule, rng) -> Check:
    net, x = network(n_outputs, rng), _inputs(_SCALES[:-1], rng)
    fast = compile_sampled(net, len(x), _SAMPLES, target, schedule, device)
    y, found = fast(x, _SEED).astype(float), fast.predict(x, _SEED)
    moments = Moments(y.mean(axis=0), y.var(axis=0, ddof=1))
    expected = from_logit_samples(y, moments)
    return _compare(
        f"{_SAMPLES} samples, {_outputs(n_outputs)} ({schedule})",
        found,
        expected,
        _PROBABILITY,
        _of_points(expected, _ENTROPY),
        [found.logits.mean, found.logits.var],
        [moments.mean, moments.var],
        accuracy(moments),
    )


def _inputs(scales: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return single(scales[:, np.newaxis] * rng.standard_normal((len(scales), _FEATURES)))


def _outputs(n: int) -> str:
    return f"{n} output{'s' * (n > 1)}"


def _of_points(expected: Prediction, of_entropy: float) -> list[np.ndarray]:
    """Allowed errors of three entropies by points of the logits; a small MI keeps its digits."""
    absolute = np.full(len(expected.entropy), of_entropy)
    return [absolute, absolute, np.minimum(absolute, _SHARE * expected.mutual_information)]


def _compare(
    case: str,
    found: Prediction,
    expected: Prediction,
    of_probability: float,
    of_entropies: Sequence[np.ndarray],
    moments: Sequence[np.ndarray],
    expected_moments: Sequence[np.ndarray],
    allowed_moments: Sequence[np.ndarray],
) -> Check:
    """Compare statistics, and the moments behind them."""
    return compare(
        f"kernel: prediction by {case}",
        "probabilities, entropies, mutual information and moments of the logits, share of the "
        "error that the rule promises",
        [*_statistics(found), *moments],
        [*_statistics(expected), *expected_moments],
        [
            np.full(expected.probabilities.shape, of_probability),
            *of_entropies,
            *allowed_moments,
        ],
    )


def _statistics(prediction: Prediction) -> list[np.ndarray]:
    p = prediction
    return [p.probabilities, p.aleatoric, p.entropy, p.mutual_information]
