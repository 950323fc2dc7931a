"""Kernels in float32 against the float64 reference, each schedule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kernels import compile_network, dense, relu
from refbnn import Moments, Network, Posterior
from refbnn.layers import Dense, ReLU
from refbnn.layers import dense as dense_reference
from refbnn.layers import relu as relu_reference
from verification.check import Check
from verification.rounding import dense_bound, network_bound

SCHEDULES = ("default", "hand")


def check(target: str, rng: np.random.Generator) -> list[Check]:
    """Dense with random and with known inputs, ReLU, and a whole network."""
    return [
        check
        for schedule in SCHEDULES
        for check in (
            *_check_dense(target, schedule, rng),
            _check_relu(target, schedule),
            _check_network(target, schedule, rng),
        )
    ]


def _check_dense(target, schedule, rng) -> list[Check]:
    batch, n_in, n_out = 7, 101, 37  # multiples of no vector length
    weight = Posterior(rng.standard_normal((n_out, n_in)), rng.uniform(0.0, 1.0, (n_out, n_in)))
    bias = Posterior(rng.standard_normal(n_out), rng.uniform(0.0, 1.0, n_out))
    m, v = rng.standard_normal((batch, n_in)), rng.uniform(0.0, 1.0, (batch, n_in))
    cases = {"random input": Moments(m, v), "known input": Moments(m, np.zeros_like(v))}
    checks = []
    for case, x in cases.items():
        known = case == "known input"
        kernel = dense.build(weight, bias, batch, target, schedule, known_input=known)
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


def _check_relu(target, schedule) -> Check:
    a = np.linspace(-10.0, 10.0, 2001)
    scale = np.array([[1e-3], [1.0], [1e3]])
    # What the kernel is given: the reference must see the same float32 numbers.
    x = Moments(
        (a * scale).astype(np.float32).astype(float),
        (scale**2 + 0.0 * a).astype(np.float32).astype(float),
    )
    kernel = relu.build(len(scale), a.size, target, schedule)
    reference = relu_reference.moments(x)
    return compare(
        f"kernel: relu ({schedule})",
        f"mean/scale from −10 to 10 at three scales, share of {relu.RELATIVE_ERROR:g} relative",
        kernel(x.mean, x.var),
        reference,
        (relu.RELATIVE_ERROR * reference.mean, relu.RELATIVE_ERROR * reference.var),
    )


def _check_network(target, schedule, rng) -> Check:
    net = Network([Dense(784, 100), ReLU(), Dense(100, 100), ReLU(), Dense(100, 10)], seed=1)
    x = rng.uniform(0.0, 1.0, (3, 784))
    reference = net.propagate(x)
    kernel = compile_network(net, len(x), target, schedule).kernel
    return compare(
        f"kernel: network 784-100-100-10 ({schedule})",
        "share of the probabilistic rounding bound, propagated through the layers",
        kernel(x),
        reference,
        network_bound(net, x),
    )


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
