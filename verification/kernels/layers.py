"""Kernels of the layers in float32, compared with the float64 reference, for each schedule.

Allowed errors: the worst-case rounding bound of a sum (`verification.rounding`) for dense layers,
convolutions, average pooling, batch normalisation and normalisation; the accuracy that the kernel
promises for ReLU and max pooling.
"""

from __future__ import annotations

import numpy as np

from kernels.devices import Board
from kernels.layers.activations import relu
from kernels.layers.layer import build_layer
from refbnn import Moments, Posterior
from refbnn.layers import AvgPool2d, BatchNorm2d, Conv2d, Dense, MaxPool2d, Normalise, ReLU
from refbnn.layers import dense as dense_reference
from refbnn.layers.images import conv2d as conv2d_reference
from verification.check import Check
from verification.kernels.compare import SCHEDULES, compare, grid, single
from verification.rounding import U, conv2d_bound, dense_bound, gamma

ACCURACY = 1e-5  # relative error that every kernel keeps


def check(target: str, device: str | Board, rng: np.random.Generator) -> list[Check]:
    """Check each layer's kernel."""
    return [
        check
        for schedule in SCHEDULES
        for check in (
            *_check_dense(target, device, schedule, rng),
            _check_relu(target, device, schedule),
            *_check_conv2d(target, device, schedule, rng),
            *_check_pooling(target, device, schedule, rng),
            _check_batch_norm(target, device, schedule, rng),
            _check_normalise(target, device, schedule, rng),
        )
    ]


def _check_dense(target, device, schedule, rng) -> list[Check]:
    batch, n_in, n_out = 7, 101, 37  # multiples of no vector length
    weight = Posterior(rng.standard_normal((n_out, n_in)), rng.uniform(0.0, 1.0, (n_out, n_in)))
    bias = Posterior(rng.standard_normal(n_out), rng.uniform(0.0, 1.0, n_out))
    m, v = rng.standard_normal((batch, n_in)), rng.uniform(0.0, 1.0, (batch, n_in))
    cases = {"random input": Moments(m, v), "known input": Moments(m, np.zeros_like(v))}
    checks = []
    for case, x in cases.items():
        known = case == "known input"
        layer, own = Dense(n_in, n_out), {"weight": weight, "bias": bias}
        kernel = build_layer(layer, own, (n_in,), batch, target, schedule, known, device=device)
        result = kernel(m) if known else kernel(m, v)
        checks.append(
            compare(
                f"kernel: dense, {case} ({schedule})",
                f"({batch}, {n_in}) -> ({batch}, {n_out}), share of the rounding bound of a sum",
                result,
                dense_reference.moments(x, weight, bias),
                dense_bound(x, weight, bias),
            )
        )
    return checks


def _check_relu(target, device, schedule) -> Check:
    x = grid(np.linspace(-10.0, 10.0, 2001), np.array([1e-3, 1.0, 1e3]))
    rows, columns = x.shape
    kernel = build_layer(ReLU(), {}, (columns,), rows, target, schedule, device=device)
    reference = ReLU().propagated(x)
    return compare(
        f"kernel: relu ({schedule})",
        f"mean/scale from −10 to 10 at three scales, share of {relu.RELATIVE_ERROR:g} relative",
        kernel(x.mean, x.var),
        reference,
        (relu.RELATIVE_ERROR * reference.mean, relu.RELATIVE_ERROR * reference.var),
    )


def _check_conv2d(target, device, schedule, rng) -> list[Check]:
    checks = []
    # Pixels fill vectors better where there are 5 channels and 13 columns; channels, with 37 and 5.
    for way, outputs, image in (("pixels", 5, (6, 14)), ("channels", 37, (7, 6))):
        shape = outputs, 3, 3, 2
        weight = Posterior(rng.standard_normal(shape), rng.uniform(0.0, 1.0, shape))
        bias = Posterior(rng.standard_normal(outputs), rng.uniform(0.0, 1.0, outputs))
        m = rng.standard_normal((3, 3, *image))
        layer = Conv2d(3, outputs, (3, 2), padding=(1, 0))
        own, sizes = {"weight": weight, "bias": bias}, layer.steps
        for known in (False, True):
            x = Moments(m, np.zeros_like(m) if known else rng.uniform(0.0, 1.0, m.shape))
            kernel = build_layer(
                layer, own, m.shape[1:], len(m), target, schedule, known, device=device
            )
            checks.append(
                compare(
                    f"kernel: conv2d, vectors of {way}, {'known' if known else 'random'} input "
                    f"({schedule})",
                    f"{m.shape} by 3×2 -> {outputs} channels, share of the rounding bound of a sum",
                    kernel(m) if known else kernel(m, x.var),
                    conv2d_reference.moments(x, weight, bias, *sizes),
                    conv2d_bound(x, weight, bias, *sizes),
                )
            )
    return checks


def _check_pooling(target, device, schedule, rng) -> list[Check]:
    image = 3, 6, 9
    scale = 10.0 ** rng.uniform(-1.0, 1.0, (2, *image))
    mean = rng.uniform(-10.0, 10.0, scale.shape) * scale
    x = Moments(single(mean), single(scale**2))
    average = AvgPool2d(3, 2, 1)
    expected = average.moments(x, {})
    size = average.moments(Moments(np.abs(x.mean), x.var), {}).mean
    checks = [
        compare(
            f"kernel: avg_pool2d ({schedule})",
            "windows 3×3, stride 2, padding 1, share of the rounding bound of a sum",
            build_layer(average, {}, image, 2, target, schedule, device=device)(x.mean, x.var),
            expected,
            (gamma(11) * size, gamma(11) * expected.var),
        )
    ]
    for method in ("tree", "exact"):
        layer = MaxPool2d(2, 2, 1, method)
        expected = layer.moments(x, {})
        kernel = build_layer(layer, {}, image, 2, target, schedule, device=device)
        checks.append(
            compare(
                f"kernel: max_pool2d, {method} ({schedule})",
                f"windows 2×2, padding 1, mean/scale to 10, share of {ACCURACY:g} relative, of the "
                "mean to it and a deviation",
                kernel(x.mean, x.var),
                expected,
                accuracy(expected),
            )
        )
    return checks


def _check_batch_norm(target, device, schedule, rng) -> Check:
    layer = BatchNorm2d(*rng.uniform(0.5, 2.0, (4, 3)))
    x = Moments(*rng.uniform(0.0, 1.0, (2, 2, 3, 5, 19)))
    expected = layer.moments(x, {})
    a, m, shift = (v[:, np.newaxis, np.newaxis] for v in (layer.slope, layer.mean, layer.beta))
    return compare(
        f"kernel: batch_norm ({schedule})",
        "share of the rounding bound",
        build_layer(layer, {}, (3, 5, 19), 2, target, schedule, device=device)(x.mean, x.var),
        expected,
        (
            4 * U * a * (np.abs(x.mean) + m) + 2 * U * (np.abs(expected.mean) + shift),
            4 * U * expected.var,
        ),
    )


def _check_normalise(target, device, schedule, rng) -> Check:
    layer = Normalise(*rng.uniform(0.5, 2.0, (2, 3)))
    x = Moments(*rng.uniform(0.0, 1.0, (2, 2, 3, 5, 19)))
    expected = layer.moments(x, {})
    m, s = (np.asarray(v)[:, np.newaxis, np.newaxis] for v in (layer.mean, layer.sd))
    return compare(
        f"kernel: normalise ({schedule})",
        "share of the rounding bound",
        build_layer(layer, {}, (3, 5, 19), 2, target, schedule, device=device)(x.mean, x.var),
        expected,
        (
            3 * U * np.abs(expected.mean) + 2 * U * (np.abs(x.mean) + m) / s,
            3 * U * expected.var,
        ),
    )


def accuracy(reference: Moments) -> tuple[np.ndarray, np.ndarray]:
    """Allowed errors of mean and variance where no rounding bound is derived."""
    size = np.abs(reference.mean) + np.sqrt(reference.var)
    return ACCURACY * size, ACCURACY * reference.var
