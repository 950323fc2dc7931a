"""Linearised propagation where it is exact, compared with sampled weights and inputs.

Hypothesis: means and the covariance of the K outputs are those that
`Network.propagate(x, method="linearised")` returns, in the cases that `refbnn.network.linearised`
derives to be exact:

* one dense layer, a residual block of one, normalisation, convolution (stride, padding, groups),
  average pooling, batch normalisation and flattening before a dense layer: linear functions of the
  inputs, for known and for random ones. Weights and inputs are drawn from the law.
* one hidden layer with known inputs, every activation, and the maximum of two outputs of each
  channel of a convolution. The first layer is Gaussian, as its moments assume, the last has the
  law.

Estimator: `verification.check.CovarianceEstimate`, with an eighth of the samples of
`verification.check`, since one sample draws up to 40 values. Error model: as there. No sampled
value is computed by a layer. Whole networks, where the rule is of first order:
`verification.linearised_networks`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from refbnn import Network
from refbnn.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Flatten,
    Layer,
    MaxPool2d,
    Normalise,
    Residual,
)
from refbnn.layers.moments import JointMoments, Moments
from refbnn.layers.posterior import Posterior
from refbnn.noise import Gaussian, Law
from verification.activations import VALUES
from verification.check import Check, of_joint_moments
from verification.conv2d import convolved

_OUT = 2  # K
_UNITS = 3
_IMAGE, _CHANNELS = (2, 3, 2), 2  # C, H, W; O
_CONV = Conv2d(2, _CHANNELS, 2, stride=(1, 2), padding=(0, 1), groups=2)  # 2×2 outputs a channel
_STEPS = (1, 2), (0, 1), 2
_POOL = AvgPool2d((2, 1), 1)  # two rows, which read one row of pixels in common

Draw = Callable[[int], np.ndarray]
Cases = Callable[[int], Mapping[str, np.ndarray]]


def check(label: str, law: Law, n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Check rows, images and one hidden layer; each kind draws its weights once for all cases."""
    checks = []
    for claims, samples in (_of_rows(law, rng), _of_images(law, rng), _of_hidden(law, rng)):
        named = {f"linearised: {name} ({label})": claim for name, claim in claims.items()}
        checks += of_joint_moments(
            named, "the outputs", _renamed(samples, claims, named), max(2, n_samples // 8)
        )
    return checks


def _renamed(samples: Cases, old, new) -> Cases:
    def draw(size: int) -> dict[str, np.ndarray]:
        drawn = samples(size)
        return {name: drawn[case] for case, name in zip(old, new, strict=True)}

    return draw


def _of_rows(law, rng) -> tuple[dict[str, JointMoments], Cases]:
    """One dense layer, and a residual block of one before it."""
    first, last = _own(rng, _UNITS, _UNITS), _own(rng, _OUT, _UNITS)
    x = Moments(rng.standard_normal((1, _UNITS)), rng.uniform(0.1, 2.0, (1, _UNITS)))
    block: list[Layer] = [Residual((Dense(_UNITS, _UNITS),)), Dense(_UNITS, _OUT)]
    of_block = {f"0.0.{name}": own for name, own in first.items()} | _at(1, last)
    one: list[Layer] = [Dense(_UNITS, _OUT)]

    def samples(size):
        inputs = _drawn(x, law, rng, size)
        W, b, V, c = (_drawn(own, law, rng, size) for own in (*first.values(), *last.values()))
        return {
            "dense, known input": V @ x.mean[0] + c,
            "dense, random input": _product(V, inputs) + c,
            "residual, known input": _product(V, x.mean[0] + (W @ x.mean[0] + b)) + c,
            "residual, random input": _product(V, inputs + (_product(W, inputs) + b)) + c,
        }

    return {
        "dense, known input": _claim(one, _at(0, last), x.mean),
        "dense, random input": _claim(one, _at(0, last), x),
        "residual, known input": _claim(block, of_block, x.mean),
        "residual, random input": _claim(block, of_block, x),
    }, samples


def _of_images(law, rng) -> tuple[dict[str, JointMoments], Cases]:
    """A convolution before a dense layer, with layers around it that are linear too."""
    n = _CHANNELS * 4
    conv, last = _own(rng, _CHANNELS, 1, 2, 2), _own(rng, _OUT, n)
    of_pooled = {"weight": _columns(last["weight"], n // 2), "bias": last["bias"]}
    x = Moments(rng.standard_normal((1, *_IMAGE)), rng.uniform(0.1, 2.0, (1, *_IMAGE)))
    mean, var, gamma, beta = rng.uniform(0.5, 2.0, (4, _CHANNELS))
    normalise, eps = Normalise(mean, gamma), 0.1
    norm = BatchNorm2d(mean, var, gamma * [1.0, -1.0], beta, eps)
    slope = gamma * [1.0, -1.0] / np.sqrt(var + eps)
    by_channel = np.s_[:, np.newaxis, np.newaxis]

    def outputs(images, W, b, V, c):
        y = convolved(images, W, b, *_STEPS)
        scaled = (images - mean[by_channel]) / gamma[by_channel]
        z = slope[by_channel] * (convolved(scaled, W, b, *_STEPS) - mean[by_channel])
        z += beta[by_channel]
        averages = [0.5 * (image[:, :, 0] + image[:, :, 1]) for image in (y, z)]  # O, OW
        return [
            _product(V, y.reshape(len(y), -1)) + c,
            *(_product(V[..., : n // 2], a.reshape(len(y), -1)) + c for a in averages),
        ]

    cases: dict[str, tuple[list[Layer], dict[str, Posterior]]] = {
        "convolution": ([_CONV, Flatten(), Dense(n, _OUT)], _at(0, conv) | _at(2, last)),
        "average pooling": (
            [_CONV, _POOL, Flatten(), Dense(n // 2, _OUT)],
            _at(0, conv) | _at(3, of_pooled),
        ),
        "batch normalisation": (
            [normalise, _CONV, norm, _POOL, Flatten(), Dense(n // 2, _OUT)],
            _at(1, conv) | _at(5, of_pooled),
        ),
    }
    inputs: dict[str, np.ndarray | Moments] = {"known image": x.mean, "random image": x}

    def samples(size):
        weights = [_drawn(own, law, rng, size) for own in (*conv.values(), *last.values())]
        images = np.broadcast_to(x.mean, (size, *_IMAGE)), _drawn(x, law, rng, size)
        return {
            f"{name}, {case}": y
            for case, image in zip(inputs, images, strict=True)
            for name, y in zip(cases, outputs(image, *weights), strict=True)
        }

    return {
        f"{name}, {case}": _claim(layers, own, image)
        for case, image in inputs.items()
        for name, (layers, own) in cases.items()
    }, samples


def _of_hidden(law, rng) -> tuple[dict[str, JointMoments], Cases]:
    """One hidden layer with known inputs: every activation, and the maximum of two of a channel."""
    # Pre-activations on both sides of 0 and last weights of little noise: own variances count.
    first = _scaled(_own(rng, _UNITS, 2), 0.3, 1.0)
    last = _scaled(_own(rng, _OUT, _UNITS), 1.0, 0.2)
    x = 2.0 * rng.standard_normal((1, 3))  # a convolution reads the last pixel too
    kernel = {
        "weight": Posterior(
            *(
                part.reshape(_UNITS, 1, 1, 2)
                for part in (first["weight"].mean, first["weight"].scale)
            )
        ),
        "bias": first["bias"],
    }
    pooled: list[Layer] = [
        Conv2d(1, _UNITS, (1, 2)),
        MaxPool2d((1, 2)),
        Flatten(),
        Dense(_UNITS, _OUT),
    ]

    def samples(size):
        W, b = (_drawn(own, Gaussian(), rng, size) for own in first.values())
        V, c = (_drawn(own, law, rng, size) for own in last.values())
        left, right = W @ x[0, :2] + b, W @ x[0, 1:] + b
        hidden = {repr(layer): value(left) for layer, value in VALUES.items()}
        hidden["MaxPool2d"] = np.where(left > right, left, right)
        return {f"hidden {name}": _product(V, h) + c for name, h in hidden.items()}

    claims = {
        f"hidden {layer!r}": _claim(
            [Dense(2, _UNITS), layer, Dense(_UNITS, _OUT)], _at(0, first) | _at(2, last), x[:, :2]
        )
        for layer in VALUES
    }
    claims["hidden MaxPool2d"] = _claim(
        pooled, _at(0, kernel) | _at(3, last), x.reshape(1, 1, 1, 3)
    )
    return claims, samples


def _claim(layers: Sequence[Layer], own: Mapping[str, Posterior], x) -> JointMoments:
    net = Network(layers, input_shape=x.shape[1:])
    net.set_parameters(own)
    return net.propagate(x, method="linearised")


def _own(rng, *shape: int) -> dict[str, Posterior]:
    """Weights of any size, and deviations of up to as much."""
    return {
        name: Posterior(rng.standard_normal(size), rng.uniform(0.1, 1.0, size))
        for name, size in (("weight", shape), ("bias", shape[:1]))
    }


def _scaled(own: Mapping[str, Posterior], of_mean: float, of_scale: float) -> dict[str, Posterior]:
    return {name: Posterior(of_mean * p.mean, of_scale * p.scale) for name, p in own.items()}


def _at(index: int, own: Mapping[str, Posterior]) -> dict[str, Posterior]:
    return {f"{index}.{name}": posterior for name, posterior in own.items()}


def _columns(own: Posterior, n: int) -> Posterior:
    return Posterior(own.mean[:, :n], own.scale[:, :n])


def _drawn(what: Posterior | Moments, law: Law, rng, size: int) -> np.ndarray:
    """Weights (S, ...), or inputs (S, ...) of the one example."""
    if isinstance(what, Posterior):
        return what.mean + what.scale * law.sample(rng, (size, *what.shape))
    return what.mean + np.sqrt(what.var) * law.sample(rng, (size, *what.shape[1:]))


def _product(W: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.einsum("soi,si->so", W, x)
