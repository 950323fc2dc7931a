"""Dense layer, y = x Wᵀ + b, backward: the noise of its weights, and J µ, in float32.

Formulas
--------
As in `refbnn.layers.dense`: own variances Σ σ²(m² + v) + σ_b², which the forward pass has summed,
and J ← J µ, the product of `kernels.layers.dense` in the form "mean", with µᵀ as weights and B·K
rows: those of one example read the same weights.

Weights are laid out a second time for it. The first layer, the largest of most networks, goes back
to known inputs and needs none: 784-100-100-10 takes 45 kB more, of 0.8 MB.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from tvm import te

from kernels.layers import dense, tiles
from kernels.layers.linearised.backward import Backward, Jacobian
from kernels.program.program import Activation, Program, Rows, Step
from refbnn.layers.posterior import Posterior


def back(
    backward: Backward,
    J: Jacobian,
    name: str,
    posteriors: Mapping[str, Posterior],
    x: Activation,
    y: Activation,
) -> Jacobian | None:
    """Go back through the layer; x and y are its inputs and outputs of the forward pass."""
    J = backward.through(name, J, own=y.var if x.var is None else y.own)
    backward.settle(name, J)
    if x.var is None:
        return None
    program, mu = backward.program, posteriors["weight"].mean
    n_in = mu.shape[1]
    layout = Rows(n_in, program.target.lanes)
    if J.rows is None and J.gain is None:  # I µ
        columns = layout.tensor_shape(1)[1]
        rows = program.weight(f"{name}_rows", np.pad(mu, ((0, 0), (0, columns - n_in))))
        return Jacobian(layout, rows)
    return Jacobian(layout, _product(program, name, mu, backward.scaled(name, J)))


def _product(program: Program, name: str, mu: np.ndarray, rows: te.Tensor) -> te.Tensor:
    """Rows times µ: (rows, out padded) and (out, in) -> (rows, in padded)."""
    (n_out, n_in), target, n_rows = mu.shape, program.target, int(rows.shape[0])
    layout = Rows(n_in, target.lanes)
    packed = dense.pack(mu.T, target.lanes)
    row, packs = tiles.of_rows(n_rows, len(packed), 1, target)
    unroll = target.lanes if target.is_arm else 1
    w = program.weight(f"{name}_weight", dense.by_tiles([packed], packs, unroll))
    x = Activation(Rows(n_out, target.lanes), rows, None)
    y = dense.compute(name, x, [w], [], [], layout, "mean", unroll)
    program.steps.append(
        Step(
            workload=f"dense {n_out}x{n_in} rows {n_rows} back",
            by_hand={"rows": row, "packs": packs},
            space={},
            transform=partial(dense.schedule, name=name, form="mean", target=target, unroll=unroll),
        )
    )
    return y.mean
