"""Kernels in float32 against the float64 reference, each schedule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kernels import compile_network
from kernels.devices import Board
from kernels.layers import avg_pool2d, batch_norm, conv2d, dense, max_pool2d
from kernels.layers.activations import relu
from refbnn import Moments, Network, Posterior
from refbnn.layers import AvgPool2d, BatchNorm2d, Dense, MaxPool2d, ReLU
from refbnn.layers import dense as dense_reference
from refbnn.layers.images import conv2d as conv2d_reference
from refbnn.network.architectures import DIGITS, lenet5
from verification.check import Check
from verification.rounding import U, conv2d_bound, dense_bound, gamma, network_bound

SCHEDULES = ("default", "hand")
ACCURACY = 1e-5  # that every kernel is made for


def check(target: str, device: str | Board, rng: np.random.Generator) -> list[Check]:
    """Each operator, and whole networks."""
    checks = operators(target, device, rng)
    for schedule in SCHEDULES:
        checks.append(_check_network(target, device, schedule, rng))
        checks.append(_check_lenet5(target, device, schedule, rng))
    return checks


def operators(target: str, device: str | Board, rng: np.random.Generator) -> list[Check]:
    """Each operator."""
    return [
        check
        for schedule in SCHEDULES
        for check in (
            *_check_dense(target, device, schedule, rng),
            _check_relu(target, device, schedule),
            *_check_conv2d(target, device, schedule, rng),
            *_check_pooling(target, device, schedule, rng),
            _check_batch_norm(target, device, schedule, rng),
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
        kernel = dense.build(weight, bias, batch, target, schedule, known, device=device)
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
    a = np.linspace(-10.0, 10.0, 2001)
    scale = np.array([[1e-3], [1.0], [1e3]])
    # What the kernel is given: the reference must see the same float32 numbers.
    x = Moments(
        (a * scale).astype(np.float32).astype(float),
        (scale**2 + 0.0 * a).astype(np.float32).astype(float),
    )
    kernel = relu.build(len(scale), a.size, target, schedule, device)
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
    # Of 5 channels and 13 columns the latter fill vectors better; of 37 and 5, the former.
    for way, outputs, image in (("pixels", 5, (6, 14)), ("channels", 37, (7, 6))):
        shape = outputs, 3, 3, 2
        weight = Posterior(rng.standard_normal(shape), rng.uniform(0.0, 1.0, shape))
        bias = Posterior(rng.standard_normal(outputs), rng.uniform(0.0, 1.0, outputs))
        m = rng.standard_normal((3, 3, *image))
        sizes = (1, 1), (1, 0), 1
        for known in (False, True):
            x = Moments(m, np.zeros_like(m) if known else rng.uniform(0.0, 1.0, m.shape))
            kernel = conv2d.build(
                weight, bias, image, len(m), target, schedule, known, "variance", *sizes, device
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
    # What the kernel is given: the reference must see the same float32 numbers.
    mean = (rng.uniform(-10.0, 10.0, scale.shape) * scale).astype(np.float32).astype(float)
    x = Moments(mean, (scale**2).astype(np.float32).astype(float))
    average = AvgPool2d(3, 2, 1)
    expected = average.moments(x, {})
    size = average.moments(Moments(np.abs(x.mean), x.var), {}).mean
    checks = [
        compare(
            f"kernel: avg_pool2d ({schedule})",
            "windows 3×3, stride 2, padding 1, share of the rounding bound of a sum",
            avg_pool2d.build(image, (3, 3), 2, target, schedule, (2, 2), (1, 1), device=device)(
                x.mean, x.var
            ),
            expected,
            (gamma(11) * size, gamma(11) * expected.var),
        )
    ]
    for method in ("tree", "exact"):
        expected = MaxPool2d(2, 2, 1, method).moments(x, {})
        kernel = max_pool2d.build(
            image, (2, 2), 2, target, schedule, (2, 2), (1, 1), method, device=device
        )
        checks.append(
            compare(
                f"kernel: max_pool2d, {method} ({schedule})",
                f"windows 2×2, padding 1, mean/scale to 10, share of {ACCURACY:g} relative, of the "
                "mean to it and a deviation",
                kernel(x.mean, x.var),
                expected,
                _accuracy(expected),
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
        batch_norm.build(layer, (3, 5, 19), 2, target, schedule, device=device)(x.mean, x.var),
        expected,
        (
            4 * U * a * (np.abs(x.mean) + m) + 2 * U * (np.abs(expected.mean) + shift),
            4 * U * expected.var,
        ),
    )


def _check_network(target, device, schedule, rng) -> Check:
    net = Network([Dense(784, 100), ReLU(), Dense(100, 100), ReLU(), Dense(100, 10)], seed=1)
    x = rng.uniform(0.0, 1.0, (3, 784))
    reference = net.propagate(x)
    kernel = compile_network(net, len(x), target, schedule, device=device).kernel
    return compare(
        f"kernel: network 784-100-100-10 ({schedule})",
        "share of the probabilistic rounding bound, propagated through the layers",
        kernel(x),
        reference,
        network_bound(net, x),
    )


def _check_lenet5(target, device, schedule, rng) -> Check:
    net = Network(lenet5(10), input_shape=DIGITS, seed=1)
    x = rng.uniform(0.0, 1.0, (2, *DIGITS))
    reference = net.propagate(x)
    return compare(
        f"kernel: network LeNet-5 ({schedule})",
        f"share of {ACCURACY:g} relative, of the mean to it and a deviation",
        compile_network(net, len(x), target, schedule, device=device).kernel(x),
        reference,
        _accuracy(reference),
    )


def _accuracy(reference: Moments) -> tuple[np.ndarray, np.ndarray]:
    """What a kernel may be off by, where no rounding bound is derived."""
    size = np.abs(reference.mean) + np.sqrt(reference.var)
    return ACCURACY * size, ACCURACY * reference.var


def compare(
    name: str,
    method: str,
    result: Sequence[np.ndarray],
    reference: Moments,
    allowed: Sequence[np.ndarray],
) -> Check:
    """Check the arrays that a kernel returns, whatever they hold.

    Parameters
    ----------
    name, method : str
        Of the check.
    result, allowed : (mean, variance)
        What the kernel gives, and the errors it may have; each of the reference's shape.
    reference : Moments
    """
    shares = [
        np.abs(np.asarray(got, dtype=float) - expected) / bound
        for got, expected, bound in zip(
            result, (reference.mean, reference.var), allowed, strict=True
        )
    ]
    return Check(
        name=name,
        method=method,
        statistic=float(np.max(shares)),  # NaN if any is
        limit=1.0,
        unit="of allowed error",
        n_compared=2 * reference.mean.size,
        n_samples=0,
    )
