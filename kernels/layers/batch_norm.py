"""Batch normalisation of images with fixed statistics, in float32.

Formulas
--------
The formulas of `refbnn.layers.images.batch_norm`, with slope a, centre m and shift β of a channel:

    m' = a (x − m) + β        v' = a² v

a² is rounded once, from float64. x − m is formed first: it is exact where x is close to m (Sterbenz
1974), and a x + (β − a m) would cancel there.

Range
-----
With u = 2⁻²⁴: |error of m'| ≤ 4u |a|(|x| + |m|) + 2u (|m'| + |β|) to first order, |error of v'| ≤
4u v', while nothing overflows or underflows.
"""

from __future__ import annotations

from kernels.layers import images
from kernels.layers.activations import elementwise
from kernels.program.program import Activation, Program
from refbnn.layers import BatchNorm2d


def add(program: Program, name: str, layer: BatchNorm2d, x: Activation) -> Activation:
    """Apply the layer to images; arguments as in `kernels.layers.layer.add_layer`."""
    layout = images.images(x)
    slope, centre, shift, square = (
        program.weight(f"{name}_{what}", layout.by_channel(values))
        for what, values in (
            ("slope", layer.slope),
            ("centre", layer.mean),
            ("shift", layer.beta),
            ("square", layer.slope**2),
        )
    )

    def moments(i, *index):
        at = layout.channel_index(*index)
        mean = slope(*at) * (x.mean(i, *index) - centre(*at)) + shift(*at)
        return mean if x.var is None else (mean, square(*at) * x.var(i, *index))

    known = x.var is None
    workload = (
        f"batch_norm {'x'.join(map(str, layout.shape))} batch {program.batch} "
        f"{'known' if known else 'random'}"
    )
    return elementwise.computed(program, name, workload, layout, moments, known)
