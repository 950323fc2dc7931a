"""Covariance of a convolution's outputs within pooling windows, compared with sampled weights.

Hypothesis: outputs of one channel at two places of a window have the covariance that
`refbnn.layers.images.shared_weights` returns, and the average of a window the variance that
`AvgPool2d.moments` returns: for known and random images, stride, padding and groups, with batch
normalisation behind or not, and any law. Weights, biases and random pixels are all drawn from it.
Windows lie side by side, or overlap and reach into the padding, where every covariance is 0.
Estimator: `verification.check.CovarianceEstimate`, with an eighth of the samples, since one sample
draws 38 values. Error model: see `verification.check`.
"""

from __future__ import annotations

import numpy as np

from refbnn.layers import AvgPool2d, BatchNorm2d, Conv2d
from refbnn.layers.moments import Moments
from refbnn.layers.posterior import Posterior
from refbnn.noise import Law
from verification.check import Check, CovarianceEstimate, blocks
from verification.conv2d import convolved

_IMAGE, _WEIGHT = (2, 3, 4), (2, 1, 2, 3)  # C, H, W; O, C/g, K, L
_STEPS = (1, 2), (1, 1), 2  # stride, padding, groups: outputs of 4 × 2
_CONV = Conv2d(2, 2, (2, 3), *_STEPS)
# Kernel, stride, padding: side by side; overlapping.
_WINDOWS = (((2, 2), (2, 2), (0, 0)), ((3, 2), (1, 1), (1, 1)))


def check(label: str, law: Law, n_samples: int, rng: np.random.Generator) -> list[Check]:
    """Check all windows of two channels, for random and for known images."""
    own = {
        name: Posterior(rng.standard_normal(shape), rng.uniform(0.1, 1.0, shape))
        for name, shape in (("weight", _WEIGHT), ("bias", _WEIGHT[:1]))
    }
    x = Moments(rng.standard_normal((1, *_IMAGE)), rng.uniform(0.1, 2.0, (1, *_IMAGE)))
    mean, var, gamma = rng.uniform(0.5, 2.0, (3, 2))
    gamma *= [1.0, -1.0]
    norm = BatchNorm2d(mean, var, gamma, np.zeros(2), eps=0.0)
    outputs = {
        "known image": _CONV.moments(x.mean, own),
        "random image": _CONV.moments(x, own),
        "batch normalisation": norm.moments(_CONV.moments(x, own), {}),
    }
    estimates = {case: CovarianceEstimate(_entries(y.mean)[0]) for case, y in outputs.items()}
    for size in blocks(max(2, n_samples // 8)):
        w, b = (p.mean + p.scale * law.sample(rng, (size, *p.shape)) for p in own.values())
        images = x.mean + np.sqrt(x.var) * law.sample(rng, (size, *_IMAGE))
        known = convolved(np.broadcast_to(x.mean, (size, *_IMAGE)), w, b, *_STEPS)
        y = convolved(images, w, b, *_STEPS)
        scaled = [gamma[c] * (y[:, c] - mean[c]) / np.sqrt(var[c]) for c in range(2)]
        for case, drawn in zip(outputs, (known, y, np.stack(scaled, axis=1)), strict=True):
            estimates[case].add(_entries(drawn))
    method = (
        "covariances of the entries of every window, and variances of averages, against samples"
    )
    return [
        estimates[case].check(f"shared weights: {case} ({label})", method, *_claims(y))
        for case, y in outputs.items()
    ]


def _claims(y: Moments) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Pairs of the entries of `_entries` in one window, averages with themselves; covariances."""
    assert y.shared is not None
    pairs, values = [], []
    start = 0
    for kernel, (s, t), padding in _WINDOWS:
        shape = _padded(y.mean, padding).shape[1:]
        at = start + np.arange(np.prod(shape)).reshape(shape)
        claimed = y.shared.of_windows(y.var, kernel, (s, t), padding)[0]
        for channel, i, j in np.ndindex(*claimed.shape[:3]):
            inside = at[channel, s * i : s * i + kernel[0], t * j : t * j + kernel[1]].ravel()
            upper = np.triu_indices(inside.size)
            pairs.append(inside[np.array(upper)])
            values.append(claimed[channel, i, j][upper])
        averages = AvgPool2d(kernel, (s, t), padding).moments(y, {}).var.ravel()
        start += at.size
        pairs.append(np.tile(start + np.arange(averages.size), (2, 1)))
        values.append(averages)
        start += averages.size
    first, second = np.hstack(pairs)
    return (first, second), np.concatenate(values)


def _entries(y: np.ndarray) -> np.ndarray:
    """Padded outputs and the averages of windows, for both kinds: (S, O, H, W) -> (S, n)."""
    rows = []
    for kernel, stride, padding in _WINDOWS:
        around = _padded(y, padding)
        rows += [around, _averaged(around, kernel, stride)]
    return np.concatenate([row.reshape(len(y), -1) for row in rows], axis=1)


def _padded(y: np.ndarray, padding: tuple[int, int]) -> np.ndarray:
    (p, q) = padding
    return np.pad(y, [(0, 0), (0, 0), (p, p), (q, q)])


def _averaged(y, kernel, stride):
    """Average of every window: (S, O, H, W) -> (S, n), n channels and windows in their order."""
    at = np.arange(y[0].size).reshape(y.shape[1:])
    (K, L), (s, t) = kernel, stride
    rows = range(0, y.shape[2] - K + 1, s)
    columns = range(0, y.shape[3] - L + 1, t)
    share = [
        np.isin(at, image[i : i + K, j : j + L]).ravel() / (K * L)
        for image in at
        for i in rows
        for j in columns
    ]
    return y.reshape(len(y), -1) @ np.array(share).T
