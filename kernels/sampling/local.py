"""Local reparameterisation of a dense layer: its outputs are drawn, in place of its weights.

Formula
-------
With the moments m and v of `kernels.layers.dense` for known inputs, and the noise ε of
`refbnn.network.local_sampling`, a function of an output's place, input, sample and seed,

    y_sbo = m_sbo + √v_sbo ε_sbo.

In the first layer m and v are the same for all samples, and found once. Later ones have S·B known
inputs, so that all samples share a weight that is read, and activations of all samples are stored.
A layer takes one random word an output, input and sample.

Range
-----
With u = 2⁻²⁴, the table's error δ (`refbnn.noise.word_table.SINGLE_ERROR`), and the errors Δm and
Δv of `kernels.layers.dense`, under its conditions:

    |error of y| ≤ Δm + |ε| (Δv / √v + 2u √v) + δ √v max(1, |ε|) + 2u (|m| + |√v ε|).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import tvm
from tvm import te, tirx

from kernels.devices.targets import Target
from kernels.layers import dense
from kernels.program.program import Activation, Program, Step
from kernels.sampling import noise, philox
from kernels.sampling.weights import Source, under_samples
from refbnn.layers.posterior import Posterior


def add(
    program: Program,
    name: str,
    index: int,
    posteriors: Mapping[str, Posterior],
    x: Activation,
    source: Source,
) -> Activation:
    """Apply the layer; parameters as in `kernels.sampling.dense.add`."""
    of_samples = under_samples(program, source)
    first = int(x.mean.shape[0]) == program.batch  # no layer with weights before
    moments = dense.add(program if first else of_samples, name, posteriors, x, "variance")
    n_out, _ = posteriors["weight"].shape
    out = compute(f"{name}_draw", index, moments, n_out, program, source)
    program.steps.append(
        Step(
            workload=f"draw {n_out} batch {program.batch} samples {source.n_samples}",
            by_hand={},
            space={},
            transform=partial(
                schedule, name=f"{name}_draw", batch=program.batch, target=program.target
            ),
        )
    )
    return Activation(moments.layout, out, None)


def compute(
    name: str, index: int, moments: Activation, n_out: int, program: Program, source: Source
) -> te.Tensor:
    """Say what is computed: y, (samples·batch, packs·lanes).

    Parameters
    ----------
    name : str
    index : int
        Index of the layer in the network.
    moments : Activation in `Rows`
        Moments for B inputs, the same for all samples, or for S·B.
    n_out : int
    program : Program
    source : Source
    """
    mean, var = moments.tensors
    rows, columns = (int(n) for n in mean.shape)
    batch, lanes, group = program.batch, program.target.lanes, philox.GROUP
    shape = columns // lanes, batch, philox.n_groups(source.n_samples), lanes
    words = philox.words_of_outputs(name, source.seed, shape, n_out, index)

    def noise_of(*at):
        return noise.value(words[at], source.table, source.coefficients)

    epsilon = te.compute(words.shape, noise_of, name=f"{name}_noise")

    def value(s, i, o):
        own = i if rows == batch else s * batch + i
        z = epsilon[o // lanes, i, s // group, s % group, o % lanes]
        return mean[own, o] + tirx.sqrt(var[own, o]) * z

    n_samples = source.n_samples
    drawn = te.compute((n_samples, batch, columns), value, name=f"{name}_drawn")
    return te.compute(
        (n_samples * batch, columns),
        lambda row, o: drawn[row // batch, row % batch, o],
        name=name,
    )


def schedule(
    sch: tvm.s_tir.Schedule, decisions: Mapping[str, int], name: str, batch: int, target: Target
) -> None:
    """Say how it is computed: one decision a paragraph; nothing is left to decide."""
    # Written as rows at once. The loops stay over samples and inputs: TVM finds what noise a block
    # of them needs.
    sch.reverse_compute_inline(sch.get_sblock(name))
    out = sch.get_sblock(f"{name}_drawn")

    # Eight samples at a time, as many as two counters give; in each, the outputs by packs.
    sample, row, column = sch.get_loops(out)
    group, sample = sch.split(sample, [None, philox.GROUP])
    pack_, lane = sch.split(column, [None, target.lanes])
    sch.reorder(group, row, pack_, sample, lane)
    sch.vectorize(lane)

    # Their noise before them: left to LLVM, which loads from the table by gathers, from words that
    # stay in registers or on the stack (as in `kernels.sampling.weights.schedule`).
    epsilon = sch.get_sblock(f"{name}_noise")
    sch.compute_at(epsilon, pack_, preserve_unit_loops=True)
    *_, noise_group, j, lane = sch.get_loops(epsilon)
    sch.fuse(j, lane)
    philox.schedule(sch, name, noise_group)
