"""Kernels for Cortex-A76 that compute variances of a dense layer in half precision.

    v_o = Σ_i E[x_i²] σ_oi²

for one known input, in the forms of `figures.support.half_precision.sums`, scaled and rounded
beforehand. An emulated core counts the instructions over n_in · n_out products. Multiply-adds take
1/4 a product in float32 and 1/8 in half. Besides:

    blocks   of b inputs, for eight outputs two conversions and two sums in float32: 1/2b
    stored   two conversions of eight weights, as the A76 has no FMLAL: 1/4

Not counted: scaling and rounding E[x²], some instructions an input, 1/n_out of that a product.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec

import numpy as np
import tvm
from tvm import te

from figures.support.half_precision.sums import halves
from kernels.devices import targets
from kernels.layers import dense
from kernels.layers.layer import build_layer
from kernels.program.kernel import Kernel, build
from kernels.program.program import Program, Rows, Step
from refbnn.layers import Dense
from refbnn.layers.posterior import Posterior

N_IN, N_OUT = 768, 96  # near 784→100, but a multiple of blocks and vectors of both precisions
_LANES = 8  # halves in a register of 128 bits
_PACKS = 6  # packs in a tile: 6 registers of half sums, 12 of float32 sums
_PACKS_STORED = 2  # with more, LLVM spills the halves that it converts ahead
_TARGET = "cortex-a76"


def absent() -> bool:
    """Whether the emulated core is not installed: the extra `arm`."""
    return any(find_spec(name) is None for name in ("unicorn", "elftools", "capstone", "ziglang"))


def instructions_a_product(blocks: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """Count instructions and multiply-adds a product, by form; empty without the emulated core.

    Besides the variance in each form: in float32 the mean alone, and both moments in one loop.
    """
    if absent():
        return {}
    second, var = np.ones(N_IN), np.ones((N_OUT, N_IN))
    kernels = {
        "mean, float32": float32(second, var, "mean"),
        "both, float32": float32(second, var, "variance"),
        "float32": float32(second, var, "spread"),
    }
    kernels |= {form: half(second, var, block) for form, block in blocks.items()}
    counts = {name: kernel.instruction_count(*kernel.inputs) for name, kernel in kernels.items()}
    n = N_IN * N_OUT
    return {name: {"all": c.total / n, "multiply_adds": c.fma / n} for name, c in counts.items()}


def float32(second: np.ndarray, var: np.ndarray, form: str) -> Kernel:
    """Build the hand schedule of `kernels.layers.dense` in a form of `kernels.layers.products`.

    Means of weights are 1, biases 0; `half` describes the arrays.
    """
    weight = Posterior(np.ones_like(var), np.sqrt(var))
    bias = Posterior(np.zeros(len(var)), np.zeros(len(var)))
    n_out, n_in = var.shape
    layer, own = Dense(n_in, n_out), {"weight": weight, "bias": bias}
    kernel = build_layer(layer, own, (n_in,), 1, _TARGET, "hand", True, form, "emulated")
    kernel.inputs[0][...] = np.sqrt(second)
    return kernel


def half(second: np.ndarray, var: np.ndarray, block: int) -> Kernel:
    """Build the kernel of one form, its inputs filled in: E[x²] (n_in,) and σ² (n_out, n_in).

    A block divides n_in, or is longer for one sum; 0 stands for stored halves. Outputs keep the
    scale of the sums.
    """
    n_out, n_in = var.shape
    block = min(block, n_in)
    program = Program(targets.target(_TARGET), 1)
    x = te.placeholder((1, n_in), "float16", "x")
    program.inputs.append((Rows(n_in, _LANES), x))
    packs = _PACKS if block else _PACKS_STORED
    packed = dense.by_tiles([dense.pack(halves(var, 2).values, _LANES)], packs, 1)
    w = te.placeholder(packed.shape, "float16", "w")
    program.weights.append((w, packed.astype(np.float16)))
    program.give_arrays(Rows(n_out, _LANES), compute(x, w, block))
    step = partial(schedule, block=block)
    program.steps.append(Step(f"half {block}", {"packs": packs}, {}, step))
    kernel = build(program, "hand", device="emulated")
    kernel.inputs[0][...] = halves(second, 1).values
    return kernel


def compute(x: te.Tensor, w: te.Tensor, block: int) -> te.Tensor:
    """Compute Σ x w of halves x (1, in), w (tiles, in, 1, packs, lanes) -> (1, packs·lanes)."""
    tiles, n_in, _, packs, lanes = map(int, w.shape)
    outputs = tiles * packs, lanes

    def weight(p, i, lane):
        return w[p // packs, i, 0, p % packs, lane]

    if block == 0:
        i = te.reduce_axis((0, n_in), name="i")
        inputs = te.compute(x.shape, lambda *at: x[at].astype("float32"), name="inputs")
        total = te.compute(
            outputs,
            lambda p, lane: te.sum(inputs[0, i] * weight(p, i, lane).astype("float32"), axis=i),
            name="total",
        )
    else:
        j = te.reduce_axis((0, block), name="j")
        part = te.compute(
            (n_in // block, *outputs),
            lambda k, p, lane: te.sum(x[0, k * block + j] * weight(p, k * block + j, lane), axis=j),
            name="part",
        )
        k = te.reduce_axis((0, n_in // block), name="k")
        total = te.compute(
            outputs,
            lambda p, lane: te.sum(part[k, p, lane].astype("float32"), axis=k),
            name="total",
        )
    return te.compute(
        (1, outputs[0] * lanes), lambda _, o: total[o // lanes, o % lanes], name="out"
    )


def schedule(sch: tvm.s_tir.Schedule, decisions: Mapping[str, int], block: int) -> None:
    """Keep a tile of packs in registers over all inputs, as in `kernels.layers.dense`."""
    # Tiles of packs are the outer loop; a tile writes its outputs once.
    out, total = sch.get_sblock("out"), sch.get_sblock("total")
    _, column = sch.get_loops(out)
    tile, pack, lane = sch.split(column, [None, decisions["packs"], _LANES])
    sch.unroll(pack)
    sch.vectorize(lane)
    sch.compute_at(total, tile, preserve_unit_loops=True)
    pack, lane, outer = sch.get_loops(total)[-3:]

    # Sum one block in half for all packs of the tile; then add the blocks in float32.
    if block:
        sch.reorder(outer, pack, lane)
        sch.unroll(pack)
        sch.vectorize(lane)
        part = sch.get_sblock("part")
        sch.compute_at(part, outer, preserve_unit_loops=True)
        pack, lane, inner = sch.get_loops(part)[-3:]
        sch.decompose_reduction(total, outer)
    else:
        part, inner = total, outer

    # Load as many inputs at once as there are lanes: a multiply-add can take any lane.
    inner, step = sch.split(inner, [None, _LANES])
    sch.reorder(inner, step, pack, lane)
    sch.unroll(step)
    sch.unroll(pack)
    sch.vectorize(lane)
    copy = sch.cache_read(part, "x", "global") if block else sch.get_sblock("inputs")
    sch.compute_at(copy, inner, preserve_unit_loops=True)
    sch.vectorize(sch.get_loops(copy)[-1])
    sch.decompose_reduction(part, inner)
