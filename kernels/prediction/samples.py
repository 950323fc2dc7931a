"""Statistics of sampled logits: moments of the logits, softmax, entropies, in float32.

The samples stay inside of the kernel. The formulas are in `kernels.prediction.points`; mean and
unbiased variance of the logits are found in two passes, so that the variance loses nothing.
"""

from __future__ import annotations

from tvm import te, tirx
from tvm.script.ir_builder import tirx as script

from kernels.arithmetic.polynomials import f32
from kernels.arithmetic.statements import array, let, put
from kernels.prediction import points
from kernels.program import loops
from kernels.program.program import Program, Step


def add(
    program: Program, name: str, outputs: te.Tensor, n_samples: int, n_outputs: int
) -> list[te.Tensor]:
    """Statistics of the classes of n outputs; of two classes by one, the logit of the second.

    Parameters
    ----------
    program : Program
    name : str
        Name of the block.
    outputs : tensor (samples·batch, outputs padded)
        Sample after sample.
    n_samples, n_outputs : int

    Returns
    -------
    mean, var : tensors (batch, outputs padded)
        Moments of the outputs over the samples.
    p : tensor (batch, classes padded)
    statistics : tensor (4, batch)
        Mean entropy, entropy of the mean, mutual information, 0: samples so large that differences
        of them overflow have a variance that does, which calls refuse.
    """
    lanes, rows = program.target.lanes, program.batch
    classes, columns = max(2, n_outputs), int(outputs.shape[1])
    width = -(-classes // lanes) * lanes
    results = [((rows, columns), "float32")] * 2 + [((rows, width), "float32")]
    work = [((4, rows), "float32"), ((classes, points.padded(n_samples)), "float32")]

    def body(ins, outs, row):
        (samples,), (mean, var, p, statistics, p_of) = ins, outs

        def logits(g):
            with script.serial(classes) as c, script.vectorized(points.POINTS) as lane:
                at = g * points.POINTS + lane
                n = tirx.min(at, n_samples - 1)
                value = samples[n * rows + row, c if n_outputs > 1 else 0]
                if n_outputs == 1:  # the logits 0 and z
                    value = tirx.Select(c == 1, value, f32(0.0))
                put(p_of, value, c, at)

        _moments(samples, mean, var, row, rows, n_samples, lanes)
        points.write(logits, n_samples, classes, lanes, p_of, p, statistics, row, f32(0.0))

    tensors = loops.by_rows(name, rows, [], [outputs], results, work, body)
    workload = f"softmax of {n_samples} samples {rows}x{n_outputs}"
    program.steps.append(Step(workload, {}, {}, lambda *_: None))
    return tensors[:4]


def _moments(samples, mean, var, row, rows: int, n: int, lanes: int) -> None:
    """Mean and unbiased variance of the logits of one row."""
    total, squares = array(lanes), array(lanes)
    with script.serial(mean.shape[1] // lanes) as g:
        with script.vectorized(lanes) as lane:
            put(total, f32(0.0), lane)
            put(squares, f32(0.0), lane)
        with script.serial(n) as s, script.vectorized(lanes) as lane:
            put(total, total[lane] + samples[s * rows + row, g * lanes + lane], lane)
        with script.vectorized(lanes) as lane:
            put(total, total[lane] * f32(1.0 / n), lane)
        with script.serial(n) as s, script.vectorized(lanes) as lane:
            gap = let(samples[s * rows + row, g * lanes + lane] - total[lane])
            put(squares, squares[lane] + gap * gap, lane)
        with script.vectorized(lanes) as lane:
            put(mean, total[lane], row, g * lanes + lane)
            put(var, squares[lane] * f32(1.0 / (n - 1)), row, g * lanes + lane)
