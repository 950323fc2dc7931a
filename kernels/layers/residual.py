"""Residual block, y = x + f(x): moments, in float32.

Formula
-------
With J_i = E[∂f_i/∂x_i], as derived in `refbnn.layers.residual`,

    m' = m_x + m_f        v' = (1 + J)² v_x + max(v_f − J² v_x, 0),

where f is made of Dense, ReLU and LeakyReLU (`kernels.layers.mean_jacobian`); for others J = 0.

Range
-----
With δm, δv the errors of f's moments and δJ the error of J (u = 2⁻²⁴), to first order

    |error of m'| ≤ δm + u |m'|,
    |error of v'| ≤ δv + 2 (1 + 2|J|) v_x |δJ| + 6u ((1 + |J|)² v_x + v_f).

v_f − J² v_x cancels where it is near 0, but then (1 + J)² v_x is larger. v' itself is small only if
J is near −1 and v_f near v_x.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tvm import tirx

from kernels.arithmetic.polynomials import f32
from kernels.layers import images, mean_jacobian
from kernels.layers.activations import elementwise
from kernels.layers.images import Packs, Planes
from kernels.program.program import Activation, Program
from refbnn.layers import Residual
from refbnn.layers.images.pool_first import pool_first
from refbnn.layers.mean_jacobian import COVERED
from refbnn.layers.posterior import Posterior


def add(
    program: Program,
    name: str,
    layer: Residual,
    posteriors: Mapping[str, Posterior],
    x: Activation,
    add_layer: Callable[..., Activation],
) -> Activation:
    """Apply the block.

    Parameters
    ----------
    program : Program
    name : str
        Starts the names of the blocks.
    layer : Residual
    posteriors : of the weights of f, by "index.name"
    x : Activation
    add_layer : callable (program, name, layer, posteriors, x) -> Activation
        Applies a layer of f.
    """
    own = [
        {part: posteriors[f"{index}.{part}"] for part in inner.parameter_shapes()}
        for index, inner in enumerate(layer.layers)
    ]
    inputs, in_order = [x], pool_first(layer.layers)
    for index, (inner, weights) in enumerate(zip(in_order, own, strict=True)):
        inputs.append(add_layer(program, f"{name}_{index}", inner, weights, inputs[-1]))
    f = inputs.pop()
    J = None
    if x.var is not None and all(isinstance(inner, COVERED) for inner in in_order):
        J = mean_jacobian.add(program, f"{name}_jacobian", in_order, inputs, own)
    if isinstance(f.layout, Planes | Packs) and f.layout != x.layout:
        x = images.copied(program, f"{name}_skip", x, f.layout)

    def formula(*i):
        mean = x.mean(*i) + f.mean(*i)
        if f.var is None:
            return mean
        v_f = f.var(*i)
        if x.var is None:
            return mean, v_f
        v_x = x.var(*i)
        if J is None:
            return mean, v_x + v_f
        j = J(*i)
        square = (f32(1.0) + j) * (f32(1.0) + j)
        return mean, square * v_x + tirx.max(f32(0.0), v_f - j * j * v_x)  # NaN stays NaN

    workload = f"residual {' '.join(str(int(n)) for n in x.mean.shape)}"
    return elementwise.computed(program, name, workload, f.layout, formula, f.var is None)
