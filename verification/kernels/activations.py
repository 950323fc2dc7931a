"""Kernels of activations and of a maximum in float32, compared with the float64 reference.

Allowed errors: 1e-5 of the variance, and 1e-5 of |f(m)| + √Var for the mean.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from tvm import tirx

from kernels.devices import Board, targets
from kernels.layers.layer import build_layer
from kernels.maximum import of_window as maximum
from kernels.program import vectors
from kernels.program.kernel import build
from kernels.program.program import Activation, Program, Rows, Step
from refbnn.layers.moments import Moments
from refbnn.numerics import gaussian_maximum as maximum_reference
from verification.activations import LAYERS
from verification.check import Check
from verification.kernels.compare import SCHEDULES, compare, grid, single

_SHARE = 1e-5


def check(target: str, device: str | Board, rng: np.random.Generator) -> list[Check]:
    """Check every activation, mean/scale from −10 to 10, and the maximum of windows of four."""
    return [
        check
        for schedule in SCHEDULES
        for check in (
            *_check_activations(target, device, schedule),
            _check_maximum(target, device, schedule, rng),
        )
    ]


def _check_activations(target, device, schedule) -> list[Check]:
    x = grid(np.linspace(-10.0, 10.0, 401), np.array([1e-3, 0.1, 1.0, 10.0, 1e3]))
    rows, columns = x.shape
    checks = []
    for layer in LAYERS:
        name = type(layer).__module__.rpartition(".")[2]
        reference = layer.moments(x, {})
        size = np.abs(layer.forward(x.mean, {})) + np.sqrt(reference.var)
        checks.append(
            compare(
                f"kernel: {name} ({schedule})",
                f"mean/scale from −10 to 10 at five scales, share of {_SHARE:g} relative",
                build_layer(layer, {}, (columns,), rows, target, schedule, device=device)(
                    x.mean, x.var
                ),
                reference,
                (_SHARE * size, _SHARE * reference.var),
            )
        )
    return checks


def _check_maximum(target, device, schedule, rng) -> Check:
    cpu = targets.target(target)
    n, k = 501, 4
    layout = Rows(k * n, cpu.lanes)
    program = Program(cpu, 1)
    means, variances = program.random(layout).tensors
    shape = Rows(n, cpu.lanes).tensor_shape(1)

    def element(j, i, window):
        # The windows fill whole vectors; those beyond the last one repeat it.
        at = j * n + tirx.min(window, n - 1)
        return means[i, at], variances[i, at]

    result = maximum.exact(program, "maximum", shape, k, element)
    program.give(Activation(Rows(n, cpu.lanes), *result))
    blocks = maximum.blocks("maximum")
    transform = partial(vectors.schedule, blocks=blocks, lanes=cpu.lanes)
    program.steps.append(Step(f"maximum {k}x{n}", {}, {}, transform))
    scale = 10.0 ** rng.uniform(-2.0, 1.0, (k, n))
    var = single(np.square(scale))
    mean = single(rng.uniform(-3.0, 3.0, (k, n)) * scale)
    reference = Moments(*maximum_reference.exact(mean.T.copy(), var.T.copy()))
    got = build(program, schedule, device=device)(mean.reshape(1, -1), var.reshape(1, -1))
    deviation = np.sqrt(reference.var)
    return compare(
        f"kernel: maximum of four ({schedule})",
        f"scales over three decades, share of {_SHARE:g} relative",
        [array[0] for array in got],
        reference,
        (_SHARE * (deviation + np.abs(reference.mean)), _SHARE * reference.var),
    )
