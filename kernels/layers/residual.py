"""Residual block, y = x + f(x): moments, in float32.

Formula
-------
With J_i = E[∂f_i/∂x_i], as derived in `refbnn.layers.residual`,

    m' = m_x + m_f        v' = (1 + J)² v_x + max(v_f − J² v_x, 0),

J of `kernels.layers.mean_jacobian` where f is made of Dense, ReLU and LeakyReLU; else J = 0.

Range
-----
With δm, δv the errors of f's moments and δJ that of J (u = 2⁻²⁴), to first order

    |error of m'| ≤ δm + u |m'|,
    |error of v'| ≤ δv + 2 (1 + 2|J|) v_x |δJ| + 6u ((1 + |J|)² v_x + v_f).

Where v_f − J² v_x is near 0 it cancels, but beside (1 + J)² v_x; v' itself is small only if J is
near −1 and v_f near v_x.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tvm import tirx

from kernels.arithmetic.polynomials import f32
from kernels.layers import images, mean_jacobian
from kernels.layers.activations import elementwise
from kernels.layers.images import Packs, Planes
from kernels.program.program import Activation, Program
from refbnn.layers import Layer
from refbnn.layers.mean_jacobian import COVERED
from refbnn.layers.posterior import Posterior


def add(
    program: Program,
    name: str,
    x: Activation,
    layers: Sequence[Layer],
    posteriors: Mapping[str, Posterior],
    add_layer: Callable[..., Activation],
) -> Activation:
    """Apply the block.

    Parameters
    ----------
    program : Program
    name : str
        Starts the names of the blocks.
    x : Activation
    layers : sequence of Layer
        f.
    posteriors : of the weights of f, by "index.name"
    add_layer : callable (program, name, layer, posteriors, x) -> Activation
        Applies a layer.
    """
    own = [
        {part: posteriors[f"{index}.{part}"] for part in layer.parameter_shapes()}
        for index, layer in enumerate(layers)
    ]
    inputs = [x]
    for index, (layer, weights) in enumerate(zip(layers, own, strict=True)):
        inputs.append(add_layer(program, f"{name}_{index}", layer, weights, inputs[-1]))
    f = inputs.pop()
    J = None
    if x.var is not None and all(isinstance(layer, COVERED) for layer in layers):
        J = mean_jacobian.add(program, f"{name}_jacobian", layers, inputs, own)
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
        return mean, square * v_x + tirx.max(v_f - j * j * v_x, f32(0.0))

    workload = f"residual {' '.join(str(int(n)) for n in x.mean.shape)}"
    return elementwise.computed(program, name, workload, f.layout, formula, f.var is None)
