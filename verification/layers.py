"""Moments of the remaining layers, compared with samples of their formulas written out here.

Hypothesis: mean and variance of each output of average pooling, batch normalisation, normalisation,
flattening, residual blocks and the raw-moment form of dense layers are those that the layers
return, for inputs and weights of any law. A residual block gets known inputs or holds one dense
layer: only there is its variance exact. Estimator, sample size and error model: see
`verification.check`.
"""

from __future__ import annotations

import numpy as np

from refbnn.layers import AvgPool2d, BatchNorm2d, Dense, Flatten, Normalise, Residual
from refbnn.layers.moments import Moments
from refbnn.layers.posterior import Posterior
from refbnn.noise import Law
from refbnn.prediction import raw_moments
from verification.check import Check, Draw, of_moments

_IMAGE = (2, 3, 4)  # C, H, W
_WIDTHS = (3, 4)  # units of the residual block's input and output; units between its layers


def check(label: str, law: Law, n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Check mean and variance of every output; inputs and weights are drawn from the law."""
    cases = {**_of_images(law, rng), **_of_rows(law, rng)}
    return [
        of_moments(
            f"{name} ({label})",
            "mean and variance of each output against samples, computed one by one",
            Moments(claim.mean[0], claim.var[0]),
            outputs,
            n_samples,
        )
        for name, (claim, outputs) in cases.items()
    ]


def _of_images(law, rng) -> dict[str, tuple[Moments, Draw]]:
    """Claims and samplers of layers that take one random image."""
    x = Moments(rng.standard_normal((1, *_IMAGE)), rng.uniform(0.1, 2.0, (1, *_IMAGE)))
    centre, var, gamma, beta = rng.uniform(0.2, 2.0, (4, _IMAGE[0]))
    centre, gamma = -centre, gamma * [1.0, -1.0]
    eps = 0.1

    def images(size):
        return x.mean + np.sqrt(x.var) * law.sample(rng, (size, *_IMAGE))

    def pooled(size):
        around = np.pad(images(size), [(0, 0), (0, 0), (0, 0), (1, 1)])
        windows = [
            [around[:, :, top : top + 2, left : left + 3].sum((2, 3)) / 6 for left in (0, 2)]
            for top in (0, 1)
        ]  # OH, OW, S, C
        return np.array(windows).transpose(2, 3, 0, 1)

    def normalised(size):
        image = images(size)
        channels = [
            gamma[c] * (image[:, c] - centre[c]) / np.sqrt(var[c] + eps) + beta[c]
            for c in range(_IMAGE[0])
        ]
        return np.stack(channels, axis=1)

    def of_mean_and_sd(size):
        image = images(size)
        return np.stack([(image[:, c] - centre[c]) / var[c] for c in range(_IMAGE[0])], axis=1)

    def flat(size):
        image = images(size)
        return np.stack([image[:, c, i, j] for c, i, j in np.ndindex(*_IMAGE)], axis=1)

    normalise = BatchNorm2d(centre, var, gamma, beta, eps)
    return {
        "average pooling moments": (AvgPool2d((2, 3), (1, 2), (0, 1)).moments(x, {}), pooled),
        "batch normalisation moments": (normalise.moments(x, {}), normalised),
        "normalisation moments": (Normalise(centre, var).moments(x, {}), of_mean_and_sd),
        "flatten moments": (Flatten().moments(x, {}), flat),
    }


def _of_rows(law, rng) -> dict[str, tuple[Moments, Draw]]:
    """Claims and samplers of residual blocks and of a dense layer in the raw form."""
    n, between = _WIDTHS
    block = Residual((Dense(n, between), Dense(between, n)))
    own = {
        name: Posterior(rng.standard_normal(shape), rng.uniform(0.1, 1.0, shape))
        for name, shape in block.parameter_shapes().items()
    }
    known = rng.standard_normal((1, n))
    x = Moments(known, rng.uniform(0.1, 2.0, (1, n)))

    def dense(index, inputs):
        posteriors = [own[f"{index}.{name}"] for name in ("weight", "bias")]
        w, b = (p.mean + p.scale * law.sample(rng, (len(inputs), *p.shape)) for p in posteriors)
        return np.einsum("soi,si->so", w, inputs) + b

    def residual(size):
        return known + dense(1, dense(0, np.tile(known, (size, 1))))

    def square(size):
        inputs = x.mean + np.sqrt(x.var) * law.sample(rng, (size, n))
        w = one["0.weight"].mean + one["0.weight"].scale * law.sample(rng, (size, n, n))
        return inputs + np.einsum("soi,si->so", w, inputs)

    def of_random(size):
        return dense(0, x.mean + np.sqrt(x.var) * law.sample(rng, (size, n)))

    first = {"weight": own["0.weight"], "bias": own["0.bias"]}
    one = {
        "0.weight": Posterior(rng.standard_normal((n, n)), rng.uniform(0.1, 1.0, (n, n))),
        "0.bias": Posterior(np.zeros(n), np.zeros(n)),
    }
    return {
        "residual moments, random input": (Residual((Dense(n, n),)).moments(x, one), square),
        "residual moments, known input": (block.moments(known, own), residual),
        "dense moments, raw form": (raw_moments.moments(Dense(n, between), x, first), of_random),
    }
