"""Prediction by propagation (PFP) and by sampling (SVI): same call, same result type.

Sampled outputs are added up a block at a time (`refbnn.prediction.accumulation`): memory is that of
one block, whatever their number. The samples do not depend on the block; sums round differently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from operator import add

import numpy as np

from refbnn.errors import InputError
from refbnn.network.network import Network
from refbnn.numerics.random.streams import stream
from refbnn.prediction import covariance
from refbnn.prediction.accumulation import ClassSums, TargetSums
from refbnn.prediction.result import Prediction, TargetPrediction, from_output_moments
from refbnn.prediction.softmax import by_quadrature, by_sampling

METHODS = ("pfp", "full", "svi")
JOINT_SAMPLES = 1000  # draws of correlated logits: cheap beside their covariance
SVI_SAMPLES = 30  # forward passes, as in arXiv 2511.23440
_NUMBERS = 1 << 20  # sampled outputs at a time

OnSamples = Callable[[int], object]


def predict(
    net: Network,
    x: np.ndarray,
    *,
    method: str = "pfp",
    n_samples: int | None = None,
    seed: int = 0,
    on_samples: OnSamples | None = None,
) -> Prediction:
    """Predict the classes of inputs, with their uncertainty.

    Parameters
    ----------
    net : Network
    x : (B, ...)
    method : str
        "pfp": one propagation, then the integrals over independent Gaussian logits. "full": one
        propagation with all covariances of a dense network (`refbnn.prediction.covariance`, some
        hundred times the cost), then draws of its correlated logits. "svi": `n_samples` passes with
        sampled weights. The network's variance factor is used by "pfp" alone.
    n_samples : int, optional
        For "svi" 30 by default, for "full" 1000. For "pfp" the integrals are by quadrature, exact
        and without random numbers; with n_samples they are by that many draws of the logits.
    seed : int
    on_samples : callable, optional
        Called with the number of further passes done, by "svi".

    Raises
    ------
    InputError
        If the method is unknown, n_samples < 2, x does not fit the network, or the outputs are no
        logits (C,) of C ≥ 2 classes.
    """
    _check(method, n_samples)
    n_outputs = _flat_outputs(net, x)
    if n_outputs < 2:
        raise InputError(
            f"predict: network of {n_outputs} output; expected at least 2, the logits of classes "
            "(targets of a regression: predict_targets, or --targets D)"
        )
    rng = stream(seed, "predict")
    if method == "pfp":
        logits = net.propagate(x)
        return by_quadrature(logits) if n_samples is None else by_sampling(logits, n_samples, rng)
    if method == "full":
        return covariance.from_joint(covariance.propagate(net, x), n_samples or JOINT_SAMPLES, rng)
    return class_sums(net, x, n_samples or SVI_SAMPLES, rng, on_samples).prediction


def class_sums(
    net: Network,
    x: np.ndarray,
    n_samples: int,
    rng: np.random.Generator,
    on_samples: OnSamples | None = None,
) -> ClassSums:
    """Add up n_samples sampled passes of a classifier."""
    blocks = _sample_blocks(net, x, n_samples, rng, on_samples)
    return reduce(add, map(ClassSums.of, blocks))


def predict_targets(
    net: Network,
    x: np.ndarray,
    n_targets: int,
    *,
    method: str = "pfp",
    n_samples: int | None = None,
    seed: int = 0,
    on_samples: OnSamples | None = None,
) -> TargetPrediction:
    """Predict the targets of a regression, with their uncertainty.

    Parameters
    ----------
    net : Network
        With D outputs, or 2D: means, then log variances.
    n_targets : int
        D.
    x, method, n_samples, seed, on_samples
        As `predict`; "pfp" needs no samples.

    Raises
    ------
    InputError
        As `predict`, or if the outputs are neither (D,) nor (2D,).
    """
    _check(method, n_samples)
    n_outputs = _flat_outputs(net, x)
    if n_outputs not in (n_targets, 2 * n_targets):
        raise InputError(
            f"network of {n_outputs} outputs for {n_targets} targets; expected {n_targets} or, "
            f"with log variances, {2 * n_targets}"
        )
    if method == "pfp":
        return from_output_moments(net.propagate(x), n_targets)
    if method == "full":
        return from_output_moments(covariance.propagate(net, x).marginal, n_targets)
    rng = stream(seed, "predict")
    blocks = _sample_blocks(net, x, n_samples or SVI_SAMPLES, rng, on_samples)
    return reduce(add, (TargetSums.of(block, n_targets) for block in blocks)).prediction


def _sample_blocks(
    net: Network,
    x: np.ndarray,
    n_samples: int,
    rng: np.random.Generator,
    on_samples: OnSamples | None,
) -> Iterator[np.ndarray]:
    """Yield samples of the outputs (S, B, ...) in blocks of about _NUMBERS numbers."""
    size = max(1, _NUMBERS // max(1, len(x) * _flat_outputs(net, x)))
    for start in range(0, n_samples, size):
        n = min(size, n_samples - start)
        yield net.sample(x, n, rng)
        if on_samples is not None:
            on_samples(n)


def _flat_outputs(net: Network, x: np.ndarray) -> int:
    """Number of outputs for one input; InputError unless they are one row."""
    shape = net.check_input(np.shape(x)[1:])
    if len(shape) != 1:
        raise InputError(
            f"predict: network with outputs of shape {shape} an input; expected one row of them, "
            "as after Flatten"
        )
    return shape[0]


def _check(method: str, n_samples: int | None) -> None:
    if method not in METHODS:
        raise InputError(f"predict: method {method!r}; expected {' or '.join(map(repr, METHODS))}")
    if n_samples is not None and n_samples < 2:
        raise InputError(f"predict: n_samples is {n_samples}; expected at least 2")
