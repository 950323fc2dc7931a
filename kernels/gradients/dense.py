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

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import tvm
from tvm import te

from kernels.arithmetic import softplus
from kernels.devices import Board, targets
from kernels.devices.targets import Target
from kernels.gradients import parameters as gradient_parameters
from kernels.gradients.noise import Given, Noise, drawn
from kernels.layers.products import joint_sum
from kernels.program.kernel import Kernel
from kernels.program.kernel import build as build_program
from kernels.program.program import Padded, Program, Rows, Step
from kernels.sampling import weights as sampled_weights
from refbnn.errors import InputError
from refbnn.noise import Law


@dataclass(frozen=True)
class Sizes:
    """Sizes of a dense layer and of what it is applied to.

    Parameters
    ----------
    n_in, n_out : int
    batch, samples : int
        B and S.
    first : bool
        Whether it is the first layer: all samples see the same x, and nobody asks for ∂L/∂x.

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


def require_sizes(name: object, *sizes: int) -> None:
    """Raise InputError unless all are whole numbers of at least 1; the line opens with the name."""
    if not all(isinstance(size, int | np.integer) and size >= 1 for size in sizes):
        raise InputError(f"gradient, {name}: expected whole numbers of at least 1")


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
    s = te.reduce_axis((0, sizes.samples), name="s")

    def of_sample(s, o, i):
        return te.sum(grad_y[s, b, o] * (x[b, i] if sizes.first else x[s, b, i]), axis=b)

    G = te.compute((sizes.samples, sizes.n_out, n_in), of_sample, name="G")

    def over_samples(o, i):
        return joint_sum([G[s, o, i], G[s, o, i] * z(s, o, i)], axis=s)

    result = te.compute((sizes.n_out, n_in), over_samples, name="by_weights")
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
    return result


def by_bias(program: Program, sizes: Sizes, grad_y: te.Tensor, z: Noise):
    """∂L/∂µ and ∂L/∂σ of the bias, (out padded) each."""
    n_out = grad_y.shape[-1]
    b = te.reduce_axis((0, sizes.batch), name="b")
    s = te.reduce_axis((0, sizes.samples), name="s")
    g = te.compute((sizes.samples, n_out), lambda s, o: te.sum(grad_y[s, b, o], axis=b), name="g")
    result = te.compute(
        (n_out,),
        lambda o: joint_sum([g[s, o], g[s, o] * z(s, o, sizes.n_in)], axis=s),
        name="by_bias",
    )
    transform = partial(schedule_by_bias, lanes=program.target.lanes, z=z)
    program.steps.append(Step(f"gradient by bias {sizes}", {}, {}, transform))
    return result


def by_input(
    program: Program,
    sizes: Sizes,
    grad_y: te.Tensor,
    mean: te.Tensor,
    scale: te.Tensor,
    z: Noise,
) -> te.Tensor:
    """∂L/∂x, (S, B, in padded).

    Parameters
    ----------
    grad_y : (S, B, out padded)
    mean, scale : (out, in padded)
    z : Noise
    """
    n_in = mean.shape[-1]
    W = te.compute(
        (sizes.samples, sizes.n_out, n_in),
        lambda s, o, i: mean[o, i] + scale[o, i] * z(s, o, i),
        name="W",
    )
    o = te.reduce_axis((0, sizes.n_out), name="o")
    result = te.compute(
        (sizes.samples, sizes.batch, n_in),
        lambda s, b, i: te.sum(grad_y[s, b, o] * W[s, o, i], axis=o),
        name="by_input",
    )
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
    return result


def tile(n_rows: int, n_packs: int, registers: int) -> tuple[int, int]:
    """Rows and packs of one tile of sums, a register each: three quarters of the registers.

    Up to eight rows, so that a vector that is read serves eight sums, and a balanced rest.
    """

    def balanced(n, most):
        return -(-n // -(-n // most))

    rows = balanced(n_rows, 8 if registers == 32 else 4)
    return rows, balanced(n_packs, max(1, registers * 3 // 4 // rows))


def schedule_by_weights(
    sch: tvm.s_tir.Schedule, decisions: Mapping[str, int], lanes: int, z: Noise
) -> None:
    """Say how ∂L/∂µ and ∂L/∂σ are computed: one decision a paragraph."""
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
    """Say how gradients of the bias are computed: whole vectors, one sum over the batch at a time.

    A hundredth of the work of the weights' gradient.
    """
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
    """Say how ∂L/∂x is computed: one decision a paragraph."""
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


def alone(
    sizes: Sizes,
    target: Target,
    parameter: str = "scale",
    law: Law | None = None,
    layer: int = 0,
) -> Program:
    """The program of the layer alone; parameters as in `build`."""
    softplus.require_parameter(parameter)
    program = Program(target, 1)

    def padded(*shape: int) -> Padded:
        return Padded(shape, target.lanes)

    S, B, n_in, n_out = sizes.samples, sizes.batch, sizes.n_in, sizes.n_out
    images = padded(B, n_in) if sizes.first else padded(S, B, n_in)
    weights, biases = padded(n_out, n_in), padded(n_out)
    x, grad_y = program.array(images, "x"), program.array(padded(S, B, n_out), "grad_y")
    gradient_parameters.add(
        program,
        weights,
        biases,
        parameter,
        noise=partial(_noise, program, sizes, law, layer),
        by_weights=partial(by_weights, program, sizes, x, grad_y),
        by_bias=partial(by_bias, program, sizes, grad_y),
        by_input=None if sizes.first else partial(by_input, program, sizes, grad_y),
        images=images,
    )
    return program


def _noise(program: Program, sizes: Sizes, law: Law | None, layer: int) -> Callable[[str], Noise]:
    """Noise for a gradient of that name: two inputs, or drawn, and the seed an input."""
    n_in, lanes = sizes.n_in, program.target.lanes
    if law is None:
        of_weights = Padded((sizes.samples, sizes.n_out, n_in), lanes)
        z = program.array(of_weights, "z")
        z_bias = program.array(Padded((sizes.samples, sizes.n_out), lanes), "z_bias")
        weights, biases = Given(lambda s, o, i: z[s, o, i]), Given(lambda s, o, i: z_bias[s, o])
        return lambda name: biases if name == "by_bias" else weights
    source = sampled_weights.source(program, law, sizes.samples)
    columns = Rows(n_in, lanes).tensor_shape(1)[1]
    shape = sizes.n_out, n_in + 1
    return lambda name: drawn(program, name, layer, shape, columns, source)


def build(
    sizes: Sizes,
    target: str = "host",
    schedule: str = "hand",
    parameter: str = "scale",
    law: Law | None = None,
    layer: int = 0,
    device: str | Board = "local",
) -> Kernel:
    """Compile the gradients of a layer.

    Parameters
    ----------
    sizes : Sizes
    target, schedule, device
        As in `kernels.compile_network`.
    parameter : {"scale", "rho"}
        Whether it is called with σ and gives ∂L/∂σ, or with ρ, σ = softplus(ρ), and gives ∂L/∂ρ.
    law : Law, optional
        Noise is drawn from it in the kernel, as `refbnn.network.counter_sampling` does; else it
        is given.
    layer : int
        Index in the network that noise is drawn for.

    Returns
    -------
    Kernel
        Called with x, (S, B, in), or (B, in) if `first`; ∂L/∂y, (S, B, out); means and scales of
        the weights, (out, in) each; scales of the bias, (out,); and the words of a seed, (2,), or
        z of the weights, (S, out, in), and of the bias, (S, out). Gives the gradients by means and
        scales of the weights, by means and scales of the bias, and unless `first` by x.
    """
    program = alone(sizes, targets.target(target), parameter, law, layer)
    return build_program(program, schedule, device=device)
