"""Multiply-adds of one input by each way to a network's uncertainty, by formula.

Formulas
--------
A dense layer has N = n_in n_out products of weights and inputs, a convolution N = W C/g K L for W
results. Multiply-adds of

    the means                   N
    one pass of sampled weights N + number of weights, µ + σ z
    diagonal moments            2 N for known inputs (m µ, m² σ²), 3 N for random ones

Max pooling of n entries behind a convolution takes, in each window, n means, n variances and
n (n − 1)/2 variances of differences, and n more sums for random inputs, beside the products that
two entries have in common (`kernels.layers.shared_weights`). With K outputs and Q = K + K (K+1)/2
multiply-adds for a term of J diag(w) Jᵀ, the pass back of *linearised* propagation adds

    dense           Q n_out  (0 for the last layer),       J µ: K N for random inputs
    convolution     Q (W + number of weights), G: K W (C/g K L + 1);  behind pooling the averages
                    n W C/g K L;  for random inputs σ² ∗ v and its share in r, and J by the inputs:
                    n W (C/g K L + 1) each, the latter K times

with W the windows. *Full* covariances of dense layers take n_in n_out (n_in + n_out) for random
inputs (`refbnn.prediction.covariance`). Functions of single units are not counted, nor the n²/2
integrals of a rectified covariance, which take most of its time.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from kernels.layers.shared_weights import Windows
from kernels.network import parts
from refbnn import Network
from refbnn.layers import Conv2d, Dense, MaxPool2d
from refbnn.layers.images.pool_first import pool_first


@dataclass
class Counts:
    """Multiply-adds of one input; `full` is None where a layer is a convolution."""

    mean: int = 0
    one_pass: int = 0
    diagonal: int = 0
    linearised: int = 0
    full: int | None = 0


def count(net: Network, n_outputs: int) -> Counts:
    """Count a network of dense layers, convolutions, pooling and ReLU; the last layer is dense."""
    total, known, shape = Counts(), True, net.input_shape
    layers = pool_first(net.layers)
    assert shape is not None
    assert isinstance(layers[-1], Dense)
    own = net.by_layer(net.parameters())
    for part in parts(layers, own, "variance", linearised=True):
        first, after = layers[part.start], shape
        for index in part:
            after = layers[index].output_shape(after)
        if isinstance(first, Dense):
            _dense(total, first, known, first is layers[-1], n_outputs)
        elif isinstance(first, Conv2d):
            pool = layers[part.stop - 1]
            windows = Windows(first, pool if isinstance(pool, MaxPool2d) else MaxPool2d(1))
            _convolution(total, windows, prod(after), known, n_outputs)
        total.one_pass += sum(prod(sizes) for sizes in first.parameter_shapes().values())
        known, shape = known and not own[part.start], after
    total.one_pass += total.mean
    total.linearised += total.diagonal
    return total


def _quadratic(k: int) -> int:
    return k + k * (k + 1) // 2


def _dense(total: Counts, layer: Dense, known: bool, last: bool, k: int) -> None:
    n_in, n_out = layer.in_features, layer.out_features
    total.mean += n_in * n_out
    total.diagonal += (2 if known else 3) * n_in * n_out
    if not last:
        total.linearised += _quadratic(k) * n_out + (0 if known else k * n_in * n_out)
    if total.full is not None:
        total.full += 2 * n_in * n_out + (0 if known else n_in * n_out * (n_in + n_out))


def _convolution(total: Counts, windows: Windows, n_windows: int, known: bool, k: int) -> None:
    conv, n = windows.conv, len(windows.entries)
    channels, (rows, columns) = conv.in_channels // conv.groups, conv.sizes[0]
    patch = channels * rows * columns
    total.full = None
    total.mean += n * n_windows * patch
    sums = (2 * n + len(windows.pairs)) * patch
    if not known:
        common = [(rows - d[0]) * (columns - abs(d[1])) for *_, d in windows.common]
        sums += n * patch + channels * sum(common)
    total.diagonal += n_windows * sums
    n_weights = conv.out_channels * (patch + 1)
    back = _quadratic(k) * (n_windows + n_weights) + k * n_windows * (patch + 1)
    if n > 1:
        back += n * n_windows * patch
    if not known:
        back += (1 + k) * n * n_windows * (patch + 1)
    total.linearised += back
