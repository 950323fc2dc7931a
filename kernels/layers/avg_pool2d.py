"""Average pooling: mean and variance of the mean of every window of an image, in float32.

Formulas
--------
The formulas of `refbnn.layers.images.avg_pool2d`, for windows of K × L pixels with means m and
variances v, both zero outside the image:

    m' = 1/(KL) Σ m        v' = 1/(KL)² Σ v

Behind a convolution the covariances of different entries join the second sum
(`kernels.layers.window_covariance`), which is at least 0.

Range
-----
With u = 2⁻²⁴ and γ_k = ku/(1 − ku) (Higham 2002, lemma 3.1), while nothing overflows or underflows:
|error of m'| ≤ γ_{KL+2} Σ|m|/(KL), |error of v'| ≤ γ_{KL+2} v'. KL − 1 roundings come from the
sum, one each from the factor, the product and the input.
"""

from __future__ import annotations

import numpy as np
from tvm import tirx

from kernels.layers import images, window_covariance
from kernels.layers.activations import elementwise
from kernels.program.program import Activation, Program
from refbnn.layers import AvgPool2d


def add(program: Program, name: str, layer: AvgPool2d, x: Activation) -> Activation:
    """Apply the layer to images; arguments as in `kernels.layers.layer.add_layer`."""
    layout, entries, words = images.windows(program, name, layer, x)
    kernel, *_ = layer.sizes
    n, known = kernel[0] * kernel[1], x.var is None
    between = None
    if x.shared is not None and not known:
        between = window_covariance.between_sum(program, f"{name}_window", layer, x, layout)

    def moments(*index):
        mean, *var = (
            sum((entry(a, b, *index) for a, b in np.ndindex(kernel)), tirx.const(0.0, "float32"))
            for entry in entries
        )
        mean = mean * tirx.const(1.0 / n, "float32")
        if between is not None:
            var = [tirx.max(tirx.const(0.0, "float32"), var[0] + between(*index))]  # NaN stays NaN
        return (mean, var[0] * tirx.const(1.0 / n**2, "float32")) if var else mean

    workload = f"avg_pool2d {words} {'known' if known else 'random'}"
    return elementwise.computed(program, name, workload, layout, moments, known)
