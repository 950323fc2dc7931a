"""Max pooling: moments of the greatest entry of every window of an image, in float32.

Formulas
--------
Those of `refbnn.layers.max_pool2d`: window (i, j) of kernel (K, L), stride (s, t) and padding (p, q)
holds pixels (s·i + a − p, t·j + b − q), a < K, b < L, and its entries count as independent
Gaussians. Moments of the greatest of them by method:

    "exact"   by quadrature (`kernels.maximum`)
    "tree"    Clark's approximation by pairs: entries 0 and 1, 2 and 3, …, then the greater ones;
              an odd last one is left for the next round
    "chain"   Clark's approximation, one entry after another

each pair a pass of its own over all windows: as one expression, the moments of the first pair would
be written out wherever they occur in the second. Of known inputs, the maximum.

An entry outside the image is not there: it gets the mean −m₀, m₀ the greatest float32, and the
variance 0, against which every other entry wins with certainty.

Range
-----
As of the two functions of `kernels.maximum`: the reference rounds in float64, and nothing else
differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import tvm
from tvm import te, tirx

from kernels import images, maximum, targets
from kernels.images import Images, Planes
from kernels.kernel import Kernel
from kernels.kernel import build as build_program
from kernels.program import Activation, Program, Step
from kernels.targets import Target
from refbnn.layers.windows import Pair, output_size

ABSENT = float(np.finfo(np.float32).min)

Entry = tuple[te.Tensor, te.Tensor | None]


def add(
    program: Program,
    name: str,
    x: Activation,
    kernel: Pair,
    stride: Pair,
    padding: Pair = (0, 0),
    method: str = "exact",
) -> Activation:
    """Apply the layer.

    Parameters
    ----------
    program : Program
    name : str
        Starts the names of the blocks.
    x : Activation of images
    kernel, stride, padding : (int, int)
    method : {"exact", "tree", "chain"}
    """
    source = images.images(x)
    size = output_size(source.shape[1:], kernel, stride, padding)
    layout = source.of_size(*size)
    x = images.around(program, f"{name}_around", x, kernel, stride, padding, layout, ABSENT)
