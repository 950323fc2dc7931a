"""Average pooling: mean and variance of the mean of every window of an image, in float32.

Formulas
--------
Those of `refbnn.layers.images.avg_pool2d`, for windows of K × L pixels with means m and variances
v, of which those outside the image are known to be zero:

    m' = 1/(KL) Σ m        v' = 1/(KL)² Σ v

Range
-----
With u = 2⁻²⁴ and γ_k = ku/(1 − ku) (Higham 2002, lemma 3.1), while nothing overflows or underflows:
|error of m'| ≤ γ_{KL+2} Σ|m|/(KL), |error of v'| ≤ γ_{KL+2} v'. KL − 1 roundings are of the sum,
one of the factor, one of the product, one of the input.
"""

from __future__ import annotations

import numpy as np
from tvm import tirx

from kernels.devices import Board, targets
from kernels.layers import images
from kernels.layers.activations import elementwise
from kernels.layers.images import Planes
from kernels.program.kernel import Kernel
from kernels.program.kernel import build as build_program
from kernels.program.program import Activation, Program
from refbnn.layers.images.windows import Pair, output_size


def add(
    program: Program,
    name: str,
    x: Activation,
    kernel: Pair,
    stride: Pair,
    padding: Pair = (0, 0),
) -> Activation:
    """Apply the layer.

    Parameters
    ----------
    program : Program
    name : str
        Starts the names of the blocks.
    x : Activation of images
    kernel, stride, padding : (int, int)
    """
    source = images.images(x)
    layout = source.of_size(*output_size(source.shape[1:], kernel, stride, padding))
    x = images.around(program, f"{name}_around", x, layout, kernel, stride, padding)
    entries = images.windows(name, x, layout, kernel, stride)
    n = kernel[0] * kernel[1]

    def moments(*index):
        mean, *var = (
            sum((entry(a, b, *index) for a, b in np.ndindex(kernel)), tirx.const(0.0, "float32"))
            for entry in entries
        )
        mean = mean * tirx.const(1.0 / n, "float32")
        return (mean, var[0] * tirx.const(1.0 / n**2, "float32")) if var else mean

    known = x.var is None
    workload = (
        f"avg_pool2d {'x'.join(map(str, source.shape))} {images.in_words(kernel, stride, padding)} "
        f"batch {program.batch} {'known' if known else 'random'}"
    )
    return elementwise.computed(program, name, workload, layout, moments, known)


def build(
    image: tuple[int, int, int],
    kernel: Pair,
    batch: int,
    target: str = "host",
    schedule: str = "hand",
    stride: Pair | None = None,
    padding: Pair = (0, 0),
    known_input: bool = False,
    device: str | Board = "local",
) -> Kernel:
    """Compile the layer alone.

    Parameters
    ----------
    image : (channels, height, width)
    kernel : (int, int)
    batch : int
    target, schedule, device
        As in `kernels.compile_network`.
    stride : (int, int), optional
        The kernel's size by default.
    padding : (int, int)
    known_input : bool

    Returns
    -------
    Kernel
        Called with mean and variance, or with x alone for known inputs, each (batch, C, H, W);
        gives mean and variance, or y alone, (batch, C, OH, OW).
    """
    cpu = targets.target(target)
    program = Program(cpu, batch)
    layout = Planes(*image, cpu.lanes)
    x = program.given(layout, known_input)
    program.give(add(program, "avg_pool2d", x, kernel, stride or kernel, padding))
    return build_program(program, schedule, device=device)
