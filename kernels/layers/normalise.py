"""Normalisation of inputs, in float32.

Formulas
--------
The formulas of `refbnn.layers.normalise`, with mean m and standard deviation s:

    m' = (x − m)·(1/s)        v' = v·(1/s²)

1/s and 1/s² are rounded once, from float64. x − m is formed first: it is exact where x is close to
m (Sterbenz 1974), and x/s − m/s would cancel there.

Range
-----
With u = 2⁻²⁴: |error of m'| ≤ 3u |m'| + 2u (|x| + |m|)/s to first order, |error of v'| ≤ 3u v',
while nothing overflows or underflows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tvm import te, tirx

from kernels.layers.activations import elementwise
from kernels.layers.images import Packs, Planes
from kernels.program.program import Activation, Program
from refbnn.layers import Normalise


def add(
    program: Program,
    name: str,
    layer: Normalise,
    x: Activation,
    centred: te.Tensor | None = None,
) -> Activation:
    """Apply the layer; other arguments as in `kernels.layers.layer.add_layer`.

    Parameters
    ----------
    centred : tensor (batch,), optional
        1 for examples that the layer applies to, 0 for those that give x/s, as
        `kernels.layers.folding` wants them: known inputs in `Rows`.
    """
    mean = numbers(program, f"{name}_mean", layer.mean, x)
    factor = numbers(program, f"{name}_factor", 1.0 / np.asarray(layer.sd), x)
    known, var = x.var is None, x.var
    if not known:
        square = numbers(program, f"{name}_square", 1.0 / np.square(layer.sd), x)

    def moments(i, *index):
        m = mean(*index) if centred is None else centred[i] * mean(*index)
        m = (x.mean(i, *index) - m) * factor(*index)
        return m if var is None else (m, square(*index) * var(i, *index))

    workload = (
        f"normalise {'x'.join(map(str, x.layout.tensor_shape(program.batch)))} "
        f"{'one' if np.ndim(layer.mean) == 0 else 'many'} {'known' if known else 'random'}"
        f"{'' if centred is None else ' or raw'}"
    )
    return elementwise.computed(program, name, workload, x.layout, moments, known)


def numbers(program: Program, name: str, values, x: Activation) -> Callable:
    """The number for an index of x without its batch: of its channel or feature, or one for all."""
    values = np.asarray(values)
    if values.ndim == 0:
        return lambda *index: tirx.const(float(np.float32(values)), "float32")
    if isinstance(x.layout, Planes | Packs):
        layout = x.layout
        by_channel = program.weight(name, layout.by_channel(values))
        return lambda *index: by_channel(*layout.channel_index(*index))
    _, columns = x.layout.tensor_shape(1)
    by_feature = program.weight(name, np.pad(values, (0, columns - len(values))))
    return lambda column: by_feature(column)
