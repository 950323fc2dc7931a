"""Gradients of a dense layer with sampled weights, by means and scales, in float32.

Formulas
--------
Weights W_s = µ + σ z_s and biases likewise, one draw a sample s, y_s = x_s W_sᵀ + b_s. With
g_s = ∂L/∂y_s, (B, out), and G_s = g_sᵀ x_s (`refbnn.layers.dense`), the pathwise gradients are

    ∂L/∂µ = Σ_s G_s,      ∂L/∂σ = Σ_s G_s ∘ z_s,      ∂L/∂x_s = g_s W_s,

of biases with Σ_batch g_s in place of G_s (`refbnn.training.elbo`, as a sum over samples: who
averages has divided g by their number). By ρ, σ = softplus(ρ): ∂L/∂ρ = ∂L/∂σ · dσ/dρ.

Sums over samples grow inside the kernel, tile by tile: no G_s and no W_s is ever stored whole.

Range
-----
With u = 2⁻²⁴ and γ_k = ku/(1 − ku), while nothing overflows and no product underflows:

    |error of ∂L/∂µ| ≤ γ_{B+S+2} Σ|g x|,      |error of ∂L/∂σ| ≤ γ_{B+S+4} Σ|g x z|,
    |error of ∂L/∂x| ≤ γ_{out+6} Σ|g| (|µ| + |σz|),

B + S roundings by the two sums, the others by converting inputs and by products.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import tvm
from tvm import te

from kernels.gradients.noise import Noise, over_samples
from kernels.program.program import Padded, Program, Step
from refbnn.errors import InputError


@dataclass(frozen=True)
class Sizes:
    """Sizes of a dense layer and of its inputs.

    Parameters
    ----------
    n_in, n_out : int
    batch, samples : int
        B and S.
    first : bool
        Whether this is the first layer: all samples share x, and ∂L/∂x is not computed.

    Raises
    ------
    InputError
        If a size is no whole number of at least 1.
    """

    n_in: int
    n_out: int
    batch: int
    samples: int = 1
    first: bool = False

    def __post_init__(self):
        require_sizes(self, self.n_in, self.n_out, self.batch, self.samples)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return (self.n_in,)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weights, (out, in)."""
        return self.n_out, self.n_in

    def layout(self, lanes: int, *shape: int) -> Padded:
        """Layout of an array of parameters or noise."""
        return Padded(shape, lanes)

    def index(self, i) -> tuple:
        """Place of weight i in the row of its output."""
        return (i,)

    def images(self, lanes: int) -> Padded:
        """Layout of x."""
        samples = () if self.first else (self.samples,)
        return Padded((*samples, self.batch, self.n_in), lanes)

    def gradients(self, lanes: int) -> Padded:
        """Layout of ∂L/∂y."""
        return Padded((self.samples, self.batch, self.n_out), lanes)


def require_sizes(sizes: object, *numbers: int) -> None:
    """Raise InputError, which names the sizes, unless all numbers are whole and at least 1."""
    if not all(isinstance(number, int | np.integer) and number >= 1 for number in numbers):
        raise InputError(f"gradient of {sizes}: expected whole numbers of at least 1")


def by_weights(program: Program, sizes: Sizes, x: te.Tensor, grad_y: te.Tensor, z: Noise):
    """∂L/∂µ and ∂L/∂σ of the weights, (out, in padded) each.

    Parameters
    ----------
    program : Program
    sizes : Sizes
    x : (S, B, in padded), or (B, in padded) if `first`
    grad_y : (S, B, out padded)
    z : Noise
    """
    n_in = x.shape[-1]
    b = te.reduce_axis((0, sizes.batch), name="b")

    def of_sample(s, o, i):
        return te.sum(grad_y[s, b, o] * (x[b, i] if sizes.first else x[s, b, i]), axis=b)

    G = te.compute((sizes.samples, sizes.n_out, n_in), of_sample, name="G")
    cpu = program.target
    n_packs, block = int(n_in) // cpu.lanes, min(sizes.n_out, cpu.lanes)
    rows, packs = tile(block, n_packs, cpu.registers)
    program.steps.append(
        Step(
            workload=f"gradient by weights {sizes}",
            by_hand={"rows": rows, "packs": packs},
            space={"rows": range(1, block + 1), "packs": range(1, n_packs + 1)},
            transform=partial(schedule_by_weights, lanes=cpu.lanes, z=z),
        )
    )
    return over_samples("by_weights", G, z, lambda i: i)


def by_bias(program: Program, sizes: Sizes, grad_y: te.Tensor, z: Noise):
    """∂L/∂µ and ∂L/∂σ of the bias, (out padded) each."""
    b = te.reduce_axis((0, sizes.batch), name="b")
    shape = sizes.samples, grad_y.shape[-1]
    g = te.compute(shape, lambda s, o: te.sum(grad_y[s, b, o], axis=b), name="g")
    transform = partial(schedule_by_bias, lanes=program.target.lanes, z=z)
    program.steps.append(Step(f"gradient by bias {sizes}", {}, {}, transform))
    return over_samples("by_bias", g, z, lambda: sizes.n_in)


def by_input(
    program: Program, sizes: Sizes, grad_y: te.Tensor, mean: te.Tensor, scale: te.Tensor, z: Noise
) -> te.Tensor:
    """∂L/∂x, (S, B, in padded); grad_y is (S, B, out padded), mean and scale (out, in padded)."""
    n_in = mean.shape[-1]
    W = te.compute(
        (sizes.samples, sizes.n_out, n_in),
        lambda s, o, i: mean[o, i] + scale[o, i] * z(s, o, i),
        name="W",
    )
    o = te.reduce_axis((0, sizes.n_out), name="o")
    cpu = program.target
    n_packs = int(n_in) // cpu.lanes
    rows, packs = tile(sizes.batch, n_packs, cpu.registers)
    program.steps.append(
        Step(
            workload=f"gradient by input {sizes}",
            by_hand={"rows": rows, "packs": packs},
            space={"rows": range(1, min(sizes.batch, 12) + 1), "packs": range(1, n_packs + 1)},
            transform=partial(schedule_by_input, lanes=cpu.lanes, z=z),
        )
    )
    return te.compute(
        (sizes.samples, sizes.batch, n_in),
        lambda s, b, i: te.sum(grad_y[s, b, o] * W[s, o, i], axis=o),
        name="by_input",
    )


def tile(n_rows: int, n_packs: int, registers: int) -> tuple[int, int]:
    """Rows and packs of a tile whose sums take three quarters of the registers, one each.

    Up to eight rows, so that a vector that is read serves eight sums; tiles are of balanced sizes.
    """

    def balanced(n, most):
        return -(-n // -(-n // most))

    rows = balanced(n_rows, 8 if registers == 32 else 4)
    return rows, balanced(n_packs, max(1, registers * 3 // 4 // rows))


def schedule_by_weights(
    sch: tvm.s_tir.Schedule, decisions: Mapping[str, int], lanes: int, z: Noise
) -> None:
    """Schedule ∂L/∂µ and ∂L/∂σ of the weights: one decision a paragraph."""
    # Outputs in blocks of one vector, the unit in which noise is made: that of one block and sample
    # at a time. Sums over samples grow in place.
    out = sch.get_sblock("by_weights")
    row, column, sample = sch.get_loops(out)
    block, row = sch.split(row, [None, min(lanes, int(sch.get(row).extent))])
    sch.reorder(block, sample, row, column)
    z.schedule(sch, sample)

    # In it tiles of outputs (rows) and packs of inputs; packs outside, so that the columns of x
    # that a tile reads stay in the cache while all rows pass.
    row_tile, row = sch.split(row, [None, decisions["rows"]])
    pack_tile, pack, lane = sch.split(column, [None, decisions["packs"], lanes])
    sch.reorder(pack_tile, row_tile, row, pack, lane)
    sch.vectorize(lane)

    # The sums over the batch of a tile in registers, the loop over the batch around it.
    product = sch.get_sblock("G")
    sch.compute_at(product, row_tile, preserve_unit_loops=True)
    *_, G_row, column, b = sch.get_loops(product)
    G_pack, G_lane = sch.split(column, [None, lanes])
    sch.reorder(b, G_row, G_pack, G_lane)
    for loop in (G_row, G_pack):
        sch.unroll(loop)
    sch.vectorize(G_lane)
    sch.decompose_reduction(product, b)
    sch.decompose_reduction(out, sample)

    # A last tile that is not full gets loops of its own, so that full ones test nothing.
    for loop in (block, row_tile, pack_tile):
        sch.annotate(loop, "pragma_loop_partition_hint", True)


def schedule_by_bias(sch: tvm.s_tir.Schedule, decisions, lanes: int, z: Noise) -> None:
    """Schedule the gradients of the bias: whole vectors, one sum over the batch at a time."""
    out = sch.get_sblock("by_bias")
    column, sample = sch.get_loops(out)
    vector, lane = sch.split(column, [None, lanes])
    sch.reorder(vector, sample, lane)
    sch.vectorize(lane)
    z.schedule(sch, sample)
    sch.decompose_reduction(out, sample)
    sums = sch.get_sblock("g")
    sch.compute_at(sums, sample, preserve_unit_loops=True)
    *_, lane, b = sch.get_loops(sums)
    sch.reorder(b, lane)
    sch.vectorize(lane)
    sch.decompose_reduction(sums, b)


def schedule_by_input(
    sch: tvm.s_tir.Schedule, decisions: Mapping[str, int], lanes: int, z: Noise
) -> None:
    """Schedule ∂L/∂x: one decision a paragraph."""
    # Tiles of rows and of packs of inputs, in registers, the loop over outputs around them.
    out = sch.get_sblock("by_input")
    sample, row, column, o = sch.get_loops(out)
    row_tile, row = sch.split(row, [None, decisions["rows"]])
    pack_tile, pack, lane = sch.split(column, [None, decisions["packs"], lanes])
    sch.reorder(sample, pack_tile, row_tile, o, row, pack, lane)
    for loop in (row, pack):
        sch.unroll(loop)
    sch.vectorize(lane)

    # The sampled weights of a tile's packs: formed once for all rows, and still in the cache.
    weights = sch.get_sblock("W")
    sch.compute_at(weights, pack_tile, preserve_unit_loops=True)
    *_, column = sch.get_loops(weights)
    _, weight_lane = sch.split(column, [None, lanes])
    sch.vectorize(weight_lane)
    z.schedule(sch, pack_tile)

    # A last tile that is not full gets loops of its own, so that full ones test nothing.
    for loop in (row_tile, pack_tile):
        sch.annotate(loop, "pragma_loop_partition_hint", True)
    sch.decompose_reduction(out, o)
