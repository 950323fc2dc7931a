"""Prediction by propagation (PFP) and by sampling (SVI): same call, same result type.

Sampled outputs are accumulated in blocks (`refbnn.prediction.accumulation`), so memory does not
grow with their number. The samples do not depend on the block size; the rounding of sums does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from operator import add

import numpy as np

from refbnn.errors import InputError, suggestion
from refbnn.network.network import Network
from refbnn.numerics.random.streams import stream
from refbnn.prediction import covariance
from refbnn.prediction.accumulation import OutputSums
from refbnn.prediction.result import Prediction, TargetPrediction, from_output_moments
from refbnn.prediction.softmax import by_quadrature, by_sampling

METHODS = ("pfp", "full", "svi")
JOINT_SAMPLES = 1000  # draws of correlated logits: cheap beside their covariance
SVI_SAMPLES = 30  # forward passes, as in arXiv 2511.23440
_NUMBERS = 1 << 20  # sampled outputs in a block
_GREATEST_OUTPUT = 1e70  # sums of fourth powers are finite

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
        "pfp": one propagation, then integrals over independent Gaussian logits. "full": one
        propagation with all covariances of a dense network, at some hundred times the cost, then
        draws of its correlated logits. "svi": passes with sampled weights. Only "pfp" uses the
        network's variance factor.
    n_samples : int, optional
        Passes of "svi" (30 by default), draws of "full" (1000), or draws of "pfp" in place of its
        exact quadrature (none).
    seed : int
        Seed of passes and draws.
    on_samples : callable, optional
        Called by "svi" with the number of passes done since the last call.

    Raises
    ------
    InputError
        If the method is unknown, n_samples < 2, x does not fit the network, or the outputs are no
        logits (C,) of C ≥ 2 classes.

    Examples
    --------
    >>> from refbnn import Network, predict
    >>> from refbnn.layers import Dense
    >>> net = Network([Dense(4, 3)], seed=0)
    >>> x = [[1.0, -1.0, 2.0, 0.5], [0.0, 0.0, 0.0, 0.0]]
    >>> predict(net, x).probabilities.shape, predict(net, x, method="svi").entropy.shape
    ((2, 3), (2,))
    """
    _check(method, n_samples)
    n_outputs = _flat_outputs(net, x)
    if n_outputs < 2:
        raise InputError(
            f"predict: the network has {n_outputs} output; expected at least 2, the logits of "
            "classes (for a regression, call predict_targets, or pass --targets D)"
        )
    rng = stream(seed, "predict")
    if method == "pfp":
        logits = net.propagate(x)
        return by_quadrature(logits) if n_samples is None else by_sampling(logits, n_samples, rng)
    if method == "full":
        return covariance.from_joint(covariance.propagate(net, x), n_samples or JOINT_SAMPLES, rng)
    return class_sums(net, x, n_samples or SVI_SAMPLES, rng, on_samples).classes


def class_sums(
    net: Network,
    x: np.ndarray,
    n_samples: int,
    rng: np.random.Generator,
    on_samples: OnSamples | None = None,
) -> OutputSums:
    """Accumulate n_samples sampled passes of a classifier."""
    blocks = _sample_blocks(net, x, n_samples, rng, on_samples)
    return reduce(add, map(OutputSums.of_classes, blocks))


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
        Has D outputs, or 2D: means, then log variances.
    n_targets : int
        D.
    x, method, n_samples, seed, on_samples
        As in `predict`; "pfp" and "full" take no samples.

    Raises
    ------
    InputError
        If `predict` would raise it, or the outputs are neither (D,) nor (2D,).
    """
    _check(method, n_samples)
    n_outputs = _flat_outputs(net, x)
    if n_outputs not in (n_targets, 2 * n_targets):
        raise InputError(
            f"predict: the network has {n_outputs} outputs for {n_targets} targets; expected "
            f"{n_targets} or, with log variances, {2 * n_targets}"
        )
    if method == "pfp":
        return from_output_moments(net.propagate(x), n_targets)
    if method == "full":
        return from_output_moments(covariance.propagate(net, x).marginal, n_targets)
    rng = stream(seed, "predict")
    blocks = _sample_blocks(net, x, n_samples or SVI_SAMPLES, rng, on_samples)
    return reduce(add, (OutputSums.of_targets(block, n_targets) for block in blocks)).targets


def _sample_blocks(
    net: Network,
    x: np.ndarray,
    n_samples: int,
    rng: np.random.Generator,
    on_samples: OnSamples | None,
) -> Iterator[np.ndarray]:
    """Yield samples of the outputs (S, B, C) in blocks of about _NUMBERS numbers."""
    size = max(1, _NUMBERS // max(1, len(x) * _flat_outputs(net, x)))
    for start in range(0, n_samples, size):
        n = min(size, n_samples - start)
        outputs = net.sample(x, n, rng)
        if not np.abs(outputs).max(initial=0.0) <= _GREATEST_OUTPUT:
            raise InputError(
                f"predict: sampled outputs of more than {_GREATEST_OUTPUT:g}, or NaN; expected "
                "weights and inputs of usual size"
            )
        yield outputs
        if on_samples is not None:
            on_samples(n)


def _flat_outputs(net: Network, x: np.ndarray) -> int:
    """Count the outputs for one input; raise InputError unless they are one row."""
    shape = net.check_input(np.shape(x)[1:])
    if len(shape) != 1:
        raise InputError(
            f"predict: the outputs of one input have shape {shape}; expected one row, as after "
            "Flatten"
        )
    return shape[0]


def _check(method: str, n_samples: int | None) -> None:
    if method not in METHODS:
        raise InputError(
            f"predict: method {method!r}; expected {' or '.join(map(repr, METHODS))}"
            f"{suggestion(str(method), METHODS)}"
        )
    if n_samples is not None and n_samples < 2:
        raise InputError(f"predict: n_samples is {n_samples}; expected at least 2")
