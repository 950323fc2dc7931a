"""Statistics of correlated Gaussian logits by a fixed table of points, in float32.

Formulas
--------
Softmax depends on the differences δ_c = ℓ_c − ℓ_0, c = 1 … C − 1, alone. With their covariance
A = LLᵀ and N points z of the standard normal law in C − 1 dimensions,

    δ_n = E[δ] + L z_n,      E[p] ≈ mean_n softmax(0, δ_n),

and the entropies follow as in `kernels.prediction.points`. Cholesky's L is computed column by
column; a pivot below 10⁻⁵ of its variance is rounding of a singular A, and its column is 0.

Whole vectors hold points: neither the product nor the softmax then has to sum over lanes.

Range
-----
The same table in float64 gives the same results to 1e-5, for variances up to 10⁴. How close the
table comes to the integrals is its own question.
"""

from __future__ import annotations

import numpy as np
from tvm import te, tirx
from tvm.script.ir_builder import tirx as script

from kernels.arithmetic.polynomials import f32
from kernels.arithmetic.statements import array, let, put
from kernels.prediction import points
from kernels.program import loops
from kernels.program.program import Program, Step

_SINGULAR = 1e-5  # of a variance: rounding in float32


def add(
    program: Program,
    mean: te.Tensor,
    cov: te.Tensor,
    n_outputs: int,
    table: np.ndarray,
    name: str,
) -> tuple[te.Tensor, te.Tensor]:
    """Statistics of the classes of n outputs; of two classes by one, the logit of the second.

    Parameters
    ----------
    program : Program
    mean : tensor (batch, outputs padded)
    cov : tensor (batch, outputs, outputs padded)
    n_outputs : int
    table : (N, C − 1)
        Points of the standard normal law.
    name : str
        Name of the block.

    Returns
    -------
    p : tensor (batch, classes padded)
    statistics : tensor (4, batch)
        Mean entropy, entropy of the mean, mutual information, 0.
    """
    lanes, rows = program.target.lanes, program.batch
    classes, (n, size) = max(2, n_outputs), table.shape
    width, n_padded = -(-classes // lanes) * lanes, points.padded(n)
    columns = np.pad(table.T, ((0, 0), (0, n_padded - n)))
    z = program.weight(f"{name}_points", columns)
    results = [((rows, width), "float32")]
    work = [((4, rows), "float32"), ((classes, n_padded), "float32")]
    work += [((size, -(-size // lanes) * lanes), "float32")]

    def body(ins, outs, row):
        (mean, cov, z), (p, statistics, p_of, factor) = ins, outs
        _cholesky(cov, factor, row, n_outputs, lanes)

        def logits(g):
            with script.vectorized(points.POINTS) as lane:
                put(p_of, f32(0.0), 0, g * points.POINTS + lane)
            total = array(points.POINTS)
            with script.serial(1, classes) as c:
                base = mean[row, 0] if n_outputs == 1 else mean[row, c] - mean[row, 0]
                with script.vectorized(points.POINTS) as lane:
                    put(total, base, lane)
                with script.serial(c) as j, script.vectorized(points.POINTS) as lane:
                    step = factor[j, c - 1] * z[j, g * points.POINTS + lane]
                    put(total, total[lane] + step, lane)
                with script.vectorized(points.POINTS) as lane:
                    put(p_of, total[lane], c, g * points.POINTS + lane)

        points.write(logits, n, classes, lanes, p_of, p, statistics, row)

    p, statistics, *_ = loops.by_rows(name, rows, [mean, cov], [z], results, work, body)
    workload = f"softmax of {n} points {rows}x{n_outputs}"
    program.steps.append(Step(workload, {}, {}, lambda *_: None))
    return p, statistics


def _cholesky(cov, factor, row, n_outputs: int, lanes: int) -> None:
    """Lᵀ of the differences' covariance: factor[j, i] = L_ij, i ≥ j."""
    size = factor.shape[0]

    def entry(i, j):
        if n_outputs == 1:  # the logits 0 and z
            return cov[row, 0, 0]
        first = cov[row, i + 1, j + 1] - cov[row, i + 1, 0]
        return first - (cov[row, 0, j + 1] - cov[row, 0, 0])

    rest = array(int(factor.shape[1]))
    with script.serial(size) as j:
        with script.serial(factor.shape[1] // lanes) as g:
            with script.vectorized(lanes) as lane:
                i = g * lanes + lane
                value = entry(j, tirx.min(i, size - 1))
                put(rest, tirx.Select(tirx.And(i >= j, i < size), value, f32(0.0)), i)
            with script.serial(j) as k, script.vectorized(lanes) as lane:
                i = g * lanes + lane
                product = factor[k, j] * factor[k, i]
                put(rest, rest[i] - tirx.Select(i >= j, product, f32(0.0)), i)
        least = let(f32(_SINGULAR) * entry(j, j))
        pivot = let(rest[j])
        root = let(tirx.sqrt(tirx.max(pivot, f32(1e-30))))
        share = let(
            tirx.Select(tirx.And(pivot > least, pivot > f32(1e-30)), f32(1.0) / root, f32(0.0))
        )
        with script.serial(factor.shape[1] // lanes) as g, script.vectorized(lanes) as lane:
            put(factor, rest[g * lanes + lane] * share, j, g * lanes + lane)
