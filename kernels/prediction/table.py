"""Statistics of correlated Gaussian logits by the reference's table of points, in float32.

Formulas
--------
As in `refbnn.prediction.softmax.table`: with the differences d_c = ℓ_c − ℓ_K to the last logit,
their covariance S = F Fᵀ, and the table's points z_n of K − 1 dimensions,

    d_n = E[d] + F z_n,      E[p] ≈ mean_n softmax(d_n, 0),

and the entropies follow as in `kernels.prediction.points`. F is Cholesky's, with the reference's
guard of small pivots. Two classes are exact: the logits (d, 0) are independent
(`kernels.prediction.quadrature`).

Whole vectors hold points: neither the product nor the softmax then has to sum over lanes.

Range
-----
Within 1e-5 of the reference where pivots are above 1e-4 of the variances, and for up to 17 singular
logits; rounding of S makes small pivots, so 100 logits of a singular S differ by up to 2e-3. A row
of ten logits takes 7.7 µs with AVX-512.

A variance V that all logits share cancels in S, but the rounding of C does not: S has an absolute
error of up to 2⁻²² V, as four numbers of C make an entry of it. No rule can bring these digits
back. Probabilities err by a tenth of that at most: 3e-4 for V = 10⁴, a deviation of 100.

Rows with means or variances above 1e30 are marked: their differences may overflow.
"""

from __future__ import annotations

import numpy as np
from tvm import te, tirx
from tvm.script.ir_builder import tirx as script

from kernels.arithmetic.polynomials import f32
from kernels.arithmetic.statements import array, let, put
from kernels.prediction import points, quadrature
from kernels.program import loops, vectors
from kernels.program.program import Program, Step
from refbnn.prediction.softmax.table import LEAST_PIVOT, MOST_RATIO, N_POINTS
from refbnn.prediction.softmax.table import points as table_of

_LARGEST = 1e30  # of means and variances: no difference or product of them then overflows


def add(
    program: Program, mean: te.Tensor, cov: te.Tensor, n_outputs: int, name: str
) -> tuple[te.Tensor, te.Tensor]:
    """Statistics of the classes of n outputs; of two classes by one, the logit of the second.

    Parameters
    ----------
    program : Program
    mean : tensor (batch, outputs padded)
    cov : tensor (batch, outputs, outputs padded)
    n_outputs : int
    name : str
        Starts the names of the blocks.

    Returns
    -------
    p : tensor (batch, classes padded)
    statistics : tensor (4, batch)
        Mean entropy, entropy, mutual information, and 1 for a row that has no result here, else 0:
        one too wide for the quadrature of two classes, or one whose differences may overflow.
    """
    if n_outputs <= 2:
        return quadrature.add(program, *_independent(program, mean, cov, n_outputs, name), name)
    lanes, rows = program.target.lanes, int(mean.shape[0])
    size = n_outputs - 1
    width, n_padded = -(-n_outputs // lanes) * lanes, points.padded(N_POINTS)
    columns = np.pad(table_of(N_POINTS, size).T, ((0, 0), (0, n_padded - N_POINTS)))
    z = program.weight(f"{name}_points", columns)
    results = [((rows, width), "float32")]
    work = [((4, rows), "float32"), ((n_outputs, n_padded), "float32")]
    work += [((size, -(-size // lanes) * lanes), "float32")]

    def body(ins, outs, row):
        (mean, cov, z), (p, statistics, p_of, factor) = ins, outs
        _factor(cov, factor, row, lanes)
        total = array(points.POINTS)

        def logits(g):
            with script.vectorized(points.POINTS) as lane:
                put(p_of, f32(0.0), size, g * points.POINTS + lane)
            with script.serial(size) as c:
                centre = let(mean[row, c] - mean[row, size])
                with script.vectorized(points.POINTS) as lane:
                    put(total, centre, lane)
                with script.serial(c + 1) as j, script.vectorized(points.POINTS) as lane:
                    step = factor[j, c] * z[j, g * points.POINTS + lane]
                    put(total, total[lane] + step, lane)
                with script.vectorized(points.POINTS) as lane:
                    put(p_of, total[lane], c, g * points.POINTS + lane)

        unsuited = let(_unsuited(mean, cov, row, n_outputs))
        points.write(logits, N_POINTS, n_outputs, lanes, p_of, p, statistics, row, unsuited)

    p, statistics, *_ = loops.by_rows(name, rows, [mean, cov], [z], results, work, body)
    workload = f"softmax of {N_POINTS} points {rows}x{n_outputs}"
    program.steps.append(Step(workload, {}, {}, lambda *_: None))
    return p, statistics


def _independent(
    program: Program, mean: te.Tensor, cov: te.Tensor, n_outputs: int, name: str
) -> tuple[te.Tensor, te.Tensor, int]:
    """Moments of the independent logits (d, 0), or of the one logit z, and their number."""
    shape = int(mean.shape[0]), program.target.lanes

    def moments(i, c):
        if n_outputs == 1:
            return mean[i, 0], cov[i, 0, 0]
        var = cov[i, 0, 0] - cov[i, 0, 1] - cov[i, 1, 0] + cov[i, 1, 1]
        zero = f32(0.0)
        d = mean[i, 0] - mean[i, 1]
        d = tirx.max(-f32(_LARGEST), tirx.min(d, f32(_LARGEST)))  # infinity has no quadrature
        return tirx.Select(c == 0, d, zero), tirx.Select(c == 0, tirx.max(var, zero), zero)

    m, v = te.compute(shape, moments, name=f"{name}_difference")
    workload = f"difference of logits {shape[0]}"
    vectors.add_step(program, workload, [f"{name}_difference_v0"])
    return m, v, n_outputs


def _unsuited(mean, cov, row, n_outputs: int):
    """Write the statements that find 1 for a row that the reference takes, else 0; an expression.

    Those in which a difference may overflow, or the last logit's variance is so many times the
    least one that it is no reference for the others (`refbnn.prediction.softmax.table`).
    """
    greatest, least, last = array(1), array(1), n_outputs - 1
    put(greatest, f32(0.0), 0)
    put(least, cov[row, last, last], 0)
    with script.serial(n_outputs) as c:
        put(greatest, tirx.max(greatest[0], tirx.max(tirx.abs(mean[row, c]), cov[row, c, c])), 0)
        put(least, tirx.min(least[0], cov[row, c, c]), 0)
    no_reference = cov[row, last, last] > f32(MOST_RATIO) * least[0]
    unsuited = tirx.Or(greatest[0] > f32(_LARGEST), no_reference)
    return tirx.Select(unsuited, f32(1.0), f32(0.0))


def _factor(cov, factor, row, lanes: int) -> None:
    """Write the statements that find F of one row: factor[j, c] = F_cj, c ≥ j."""
    size, width = factor.shape
    zero, rest = f32(0.0), array(int(width))

    def entry(c, j):
        own = cov[row, j, c] - cov[row, j, size]
        return own - (cov[row, size, c] - cov[row, size, size])

    with script.serial(size) as j:
        with script.serial(width // lanes) as g:
            with script.vectorized(lanes) as lane:
                c = g * lanes + lane
                value = entry(tirx.min(c, size - 1), j)
                put(rest, tirx.Select(tirx.And(c >= j, c < size), value, zero), c)
            with script.serial(j) as k, script.vectorized(lanes) as lane:
                c = g * lanes + lane
                product = factor[k, j] * factor[k, c]
                put(rest, rest[c] - tirx.Select(c >= j, product, zero), c)
        least = let(f32(LEAST_PIVOT) * tirx.max(entry(j, j), zero))
        pivot = let(tirx.max(rest[j], least))
        root = let(tirx.sqrt(pivot))
        share = let(tirx.Select(pivot > zero, f32(1.0) / root, zero))
        with script.serial(width // lanes) as g, script.vectorized(lanes) as lane:
            c = g * lanes + lane
            value = tirx.Select(c == j, root, rest[c] * share)
            put(factor, value, j, c)
