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
from refbnn.layers.moments import JointMoments
from refbnn.network.likelihoods import OF_TARGETS
from refbnn.network.network import Network
from refbnn.numerics.arguments import whole_number
from refbnn.numerics.arrays import real_array
from refbnn.numerics.random.streams import stream
from refbnn.prediction import covariance
from refbnn.prediction.accumulation import OutputSums
from refbnn.prediction.result import (
    Prediction,
    TargetPrediction,
    class_joint,
    class_logits,
    from_output_moments,
)
from refbnn.prediction.softmax import by_quadrature, by_sampling, by_table
from refbnn.prediction.softmax.table import N_POINTS

METHODS = ("pfp", "linearised", "full", "svi")
SVI_SAMPLES = 30  # forward passes, as in arXiv 2511.23440
_NUMBERS = 1 << 20  # sampled outputs in a block
_GREATEST_OUTPUT = 1e70  # sums of fourth powers are finite

OnSamples = Callable[[int], object]


@np.errstate(over="ignore", invalid="ignore")  # what overflows is an InputError
def predict(
    net: Network,
    x: np.ndarray,
    *,
    method: str = "pfp",
    n_samples: int | None = None,
    seed: int = 0,
    on_samples: OnSamples | None = None,
    local: bool = False,
) -> Prediction:
    """Predict the classes of inputs, with their uncertainty.

    Parameters
    ----------
    net : Network
    x : (B, ...)
    method : str
        "pfp": propagation, then integrals over independent Gaussian logits. "linearised": with
        the covariance of the logits (`refbnn.network.linearised`), then a fixed table of their
        points. "full": with all covariances of a dense network, at some hundred times the cost,
        then the same table. "svi": passes with sampled weights. Only "pfp" uses the network's
        variance factor.
    n_samples : int, optional
        Passes of "svi" (30 by default), points of the table (1024; none for two classes, which are
        exact), or draws of "pfp" in place of its exact quadrature (none).
    seed : int
        Of the passes of "svi" and the draws of "pfp".
    on_samples : callable, optional
        Called by "svi" with the number of passes done since the last call.
    local : bool
        Whether "svi" samples outputs of layers in place of weights
        (`refbnn.network.local_sampling`): for dense networks and the Gaussian law.

    Returns
    -------
    Prediction
        Of classes 0 … C − 1 by C logits, or of 0 and 1 by one logit, that of class 1.

    Raises
    ------
    InputError
        If the method is unknown, n_samples < 2, x does not fit the network, is too large for it, or
        is masked or complex; the outputs are no row, or were trained as targets; or `local` does
        not fit the method or the network.

    Examples
    --------
    >>> from refbnn import Network, predict
    >>> from refbnn.layers import Dense
    >>> net = Network([Dense(4, 3)], seed=0)
    >>> x = [[1.0, -1.0, 2.0, 0.5], [0.0, 0.0, 0.0, 0.0]]
    >>> predict(net, x).probabilities.shape, predict(net, x, method="svi").entropy.shape
    ((2, 3), (2,))
    """
    x = _checked(net, x, method, n_samples, seed)
    require_classifier(net.likelihood)
    if local and method != "svi":
        raise InputError(f'predict: local with the method {method!r}; expected "svi"')
    rng = stream(seed, "predict")
    if method == "svi":
        sums = class_sums(net, x, n_samples or SVI_SAMPLES, rng, on_samples, local)
        return _without_nan(sums.classes)
    if method != "pfp":
        joint = class_joint(joint_moments(net, x, method))
        return _without_nan(by_table(joint, n_samples or N_POINTS))
    logits = class_logits(net.propagate(x))
    return by_quadrature(logits) if n_samples is None else by_sampling(logits, n_samples, rng)


def class_sums(
    net: Network,
    x: np.ndarray,
    n_samples: int,
    rng: np.random.Generator,
    on_samples: OnSamples | None = None,
    local: bool = False,
) -> OutputSums:
    """Accumulate n_samples sampled passes of a classifier; `local` as in `predict`."""
    blocks = _sample_blocks(net, x, n_samples, rng, on_samples, local)
    return reduce(add, map(OutputSums.of_classes, blocks))


@np.errstate(over="ignore", invalid="ignore")
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
        As in `predict`, but only "svi" takes n_samples.

    Raises
    ------
    InputError
        If `predict` would raise it, another method than "svi" is given n_samples, the outputs are
        neither (D,) nor (2D,), or were trained as logits or for another D; or a variance is too
        large for a float.
    """
    x = _checked(net, x, method, n_samples, seed)
    if n_samples is not None and method != "svi":
        raise InputError(
            f"predict: {n_samples} samples for targets by the method {method!r}, which draws none; "
            "expected no number of samples, or the method 'svi'"
        )
    _check_targets(net, _flat_outputs(net, x), n_targets)
    if method == "pfp":
        found = from_output_moments(net.propagate(x), n_targets)
    elif method != "svi":
        found = from_output_moments(joint_moments(net, x, method).marginal, n_targets)
    else:
        rng = stream(seed, "predict")
        blocks = _sample_blocks(net, x, n_samples or SVI_SAMPLES, rng, on_samples)
        found = reduce(add, (OutputSums.of_targets(block, n_targets) for block in blocks)).targets
    if net.noise_sd is not None:
        noise = np.broadcast_to(np.square(net.noise_sd), found.mean.shape)
        found = TargetPrediction(found.mean, found.epistemic, noise.copy())
    for name, part in vars(found).items():
        for row, target in np.argwhere(~np.isfinite(part))[:1]:
            what = "mean" if name == "mean" else f"{name} variance"
            raise InputError(
                f"predict: the {what} of target {target} of input {row} is too large for a float; "
                "expected smaller inputs or log variances (a noise_sd for all inputs needs none)"
            )
    return found


def joint_moments(net: Network, x: np.ndarray, method: str) -> JointMoments:
    """Joint moments of the outputs by a method that keeps their covariances."""
    if method == "linearised":
        return net.propagate(x, method="linearised")
    return covariance.propagate(net, x)


def is_regression(likelihood: str | None) -> bool:
    """Whether the likelihood of this name is one of targets."""
    return likelihood in OF_TARGETS


def require_classifier(likelihood: str | None) -> None:
    """Raise InputError if a network was trained on targets, by the name of its likelihood."""
    if is_regression(likelihood):
        raise InputError(
            f"predict: the network was trained on targets, with the likelihood {likelihood!r}; "
            "expected a classifier (call predict_targets)"
        )


def known_targets(net: Network) -> int | None:
    """Number of targets of a network that was trained as a regression, where it is known.

    None for others, and where neither a noise nor the shape of its outputs is known.
    """
    if net.likelihood not in OF_TARGETS:
        return None
    if net.noise_sd is not None:
        return len(net.noise_sd)
    if net.output_shape is None:
        return None
    return net.output_shape[0] // (2 if net.likelihood == "gaussian" else 1)


def _check_targets(net: Network, n_outputs: int, n_targets: int) -> None:
    """Raise InputError unless the outputs are those of so many targets."""
    if net.likelihood is not None and net.likelihood not in OF_TARGETS:
        raise InputError(
            f"predict: the network was trained on classes, with the likelihood {net.likelihood!r}; "
            "expected a regression (call predict)"
        )
    known = known_targets(net)
    if known is not None and n_targets != known:
        raise InputError(
            f"predict: {n_targets} targets; expected {known}, as the network was trained on"
        )
    if n_outputs not in (n_targets, 2 * n_targets):
        raise InputError(
            f"predict: the network has {n_outputs} outputs for {n_targets} targets; expected "
            f"{n_targets} or, with log variances, {2 * n_targets}"
        )


def _sample_blocks(
    net: Network,
    x: np.ndarray,
    n_samples: int,
    rng: np.random.Generator,
    on_samples: OnSamples | None,
    local: bool = False,
) -> Iterator[np.ndarray]:
    """Yield samples of the outputs (S, B, C) in blocks of about _NUMBERS numbers."""
    size = max(1, _NUMBERS // max(1, len(x) * _flat_outputs(net, x)))
    for start in range(0, n_samples, size):
        n = min(size, n_samples - start)
        outputs = net.sample(x, n, rng, local=local)
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


def _checked(net: Network, x, method: str, n_samples: int | None, seed: int) -> np.ndarray:
    """Inputs as an array; InputError unless the call is right."""
    if method not in METHODS:
        raise InputError(
            f"predict: method {method!r}; expected {' or '.join(map(repr, METHODS))}"
            f"{suggestion(str(method), METHODS)}"
        )
    if n_samples is not None:
        whole_number(n_samples, 2, "predict: n_samples")
    whole_number(seed, 0, "predict: seed")
    array = real_array(x, "predict: x")
    _flat_outputs(net, array)
    return array


def _without_nan(prediction: Prediction) -> Prediction:
    """The prediction; InputError if a probability is NaN."""
    if np.isnan(prediction.probabilities).any():
        raise InputError("predict: logits are too large for a float; expected smaller inputs")
    return prediction
