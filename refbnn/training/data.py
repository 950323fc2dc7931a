"""Data for training: checked, in the type of the arithmetic, and identified by a fingerprint."""

from __future__ import annotations

import hashlib

import numpy as np

from refbnn.errors import InputError
from refbnn.layers import Normalise
from refbnn.network.likelihoods import OF_TARGETS
from refbnn.network.network import Network
from refbnn.numerics.arrays import all_finite, real_array
from refbnn.numerics.random.streams import stream
from refbnn.training.likelihood import likelihood_named
from refbnn.training.options import Options

_LARGE = 1e3  # |y| beyond it: weights of order 1 would need thousands of steps to reach it
_MOST_OFFSET = 1e4  # mean of targets over their deviation: float32 then keeps it to 1e-3


def held_out(x: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Choose the examples (N, ...) to hold out for validation: (N,) of bool.

    Equal inputs never lie on both sides: some sets hold one picture several times, with different
    labels. `share` is the share of distinct inputs.

    Raises
    ------
    InputError
        If the share is not above 0 and below 1, or leaves nothing on one side.
    """
    if not 0.0 < share < 1.0:
        raise InputError(f"validation share is {share:g}; expected above 0 and below 1")
    digests = [hashlib.sha256(row.tobytes()).digest() for row in x]
    inputs, input_of = np.unique(digests, return_inverse=True)
    order = stream(seed, "validation split").permutation(len(inputs))
    held = np.isin(input_of, order[: round(share * len(inputs))])
    if not held.any() or held.all():
        raise InputError(
            f"validation share is {share:g} of {len(inputs)} inputs; expected some on either side"
        )
    return held


def fingerprint(*arrays: np.ndarray) -> str:
    """SHA-256 of all data, so that a run is not resumed on other data."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def training_data(net: Network, x, y, options: Options, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Check examples and targets, and convert x to the options' type.

    Raises
    ------
    InputError
        If the arrays do not fit the network, the likelihood or each other, or hold NaN; `what`
        names them.
    """
    x, y = real_array(x, f"train: {what}: x"), real_array(y, f"train: {what}: y")
    if x.ndim < 2 or y.shape[:1] != x.shape[:1] or not len(x):
        raise InputError(
            f"train: {what} are {x.dtype} of shape {x.shape} and {y.dtype} of shape {y.shape}; "
            "expected numbers (N, ...) and (N, ...), N > 0"
        )
    with np.errstate(over="ignore"):
        x = x.astype(options.dtype, copy=False)
    if not all_finite(x):
        raise InputError(
            f"train: {what}: x holds NaN, infinity or a number too large for {options.dtype}; "
            "expected finite numbers"
        )
    outputs = net.check_input(x.shape[1:])
    noise_sd = (1.0,) * outputs[0] if _shares_noise(options, y, outputs) else None
    likelihood_named(options.likelihood, noise_sd).check(y, outputs)
    return x, y


def _shares_noise(options: Options, y: np.ndarray, outputs: tuple[int, ...]) -> bool:
    """Whether all inputs have the same noise: an output a target, and no log variances."""
    return options.likelihood == "gaussian" and y.ndim == 2 and outputs == y.shape[1:]


def prepare(net: Network, x: np.ndarray, y: np.ndarray, options: Options) -> None:
    """Give a network what training on checked data (x, y) decides, its weights apart.

    That is the name of its likelihood, the range of its inputs, the noise of its targets at the
    start, the layer that brings outputs to the targets' unit, a variance factor of 1, since one was
    chosen for other weights, and no name of a data set.

    Raises
    ------
    InputError
        If targets are all equal, far from 1 in size and not scaled, or have no such noise. The
        network may have changed then.
    """
    outputs = net.check_input(x.shape[1:])
    shared = _shares_noise(options, y, outputs)
    net.likelihood, net.noise_sd, net.variance_factor = options.likelihood, None, 1.0
    net.input_range, net.trained_on = (float(x.min()), float(x.max())), None
    if options.likelihood not in OF_TARGETS:
        return
    if options.noise_sd is not None and not shared:
        raise InputError(
            f"train: noise_sd with {outputs[0]} outputs for {y.shape[1]} targets; expected an "
            "output a target, since log variances are a noise that is learned"
        )
    mean, sd = y.mean(axis=0, dtype=float), y.std(axis=0, dtype=float)
    if (options.scale_targets or (shared and options.noise_sd is None)) and not sd.min() > 0.0:
        raise InputError("train: all values of a target are equal; expected different ones")
    if options.scale_targets:
        kept = net.layers[:-1] if isinstance(net.layers[-1], Normalise) else net.layers
        net.layers = [*kept, _to_unit_of_targets(mean, sd, learned=not shared)]
    else:
        _require_moderate(net, y, options)
    if shared:
        known = options.noise_sd
        net.noise_sd = tuple(sd.tolist()) if known is None else (known,) * y.shape[1]


def in_unit_of_outputs(net: Network, y: np.ndarray) -> np.ndarray:
    """Targets (N, D) as the layers before a last `Normalise` should give them."""
    last = net.layers[-1]
    if not isinstance(last, Normalise):
        return y
    n_targets = y.shape[1]
    return y * np.atleast_1d(last.sd)[:n_targets] + np.atleast_1d(last.mean)[:n_targets]


def _require_moderate(net: Network, y: np.ndarray, options: Options) -> None:
    """Raise InputError if targets are far from the size that the network gives at its start."""
    scaled = in_unit_of_outputs(net, y)
    sd = scaled.std(axis=0, dtype=float)
    if np.abs(scaled).max() <= _LARGE and not 0.0 < sd.min() < 1.0 / _LARGE:
        return
    against = " in the scale of the last layer" if isinstance(net.layers[-1], Normalise) else ""
    wanted = "such targets"
    if options.likelihood == "gaussian":
        wanted = f"scale_targets=True, or {wanted}"
    raise InputError(
        f"train: targets from {y.min():.4g} to {y.max():.4g} of deviation "
        f"{y.std(axis=0, dtype=float).min():.4g} are far from 1 in size{against}; expected {wanted}"
    )


def _to_unit_of_targets(mean: np.ndarray, sd: np.ndarray, *, learned: bool) -> Normalise:
    """Layer that turns means m of standardised targets into sd·m + mean.

    A `learned` log variance t becomes t + 2 log sd.
    """
    if (np.abs(mean) > _MOST_OFFSET * sd).any():
        raise InputError(
            f"train: targets about {np.abs(mean).max():.4g} differ by {sd.min():.4g} alone, too "
            "little for float32; subtract their mean"
        )
    shift, scale = -mean / sd, 1.0 / sd
    if learned:
        shift = np.concatenate([shift, -2.0 * np.log(sd)])
        scale = np.concatenate([scale, np.ones_like(sd)])
    return Normalise(shift, scale)
