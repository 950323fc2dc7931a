"""The program behind `NAME_predict`: from moments of the outputs to probabilities or targets.

Python's compiled `predict` is one function with the network (`kernels.program.compiled`); here the
same rule takes the moments that `NAME_propagate` hands out, so that a library has every layer once.

For a regression with D targets, the outputs are the means m of the targets and, where the noise
depends on the input, the means and variances t, τ of its log variances; the aleatoric variance is
then exp(t + τ/2) (`refbnn.prediction.result.from_output_moments`), or else σ² of one noise for all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import te, tirx

from kernels.arithmetic.polynomials import exp_minus, f32, named
from kernels.prediction import quadrature, table
from kernels.program import vectors
from kernels.program.program import Plain, Program, Rows
from refbnn.network.network import Network
from refbnn.prediction.predict import is_regression, known_targets


@dataclass(frozen=True, eq=False)
class Statistics:
    """Program of a network's prediction.

    Parameters
    ----------
    kind : {"classes", "targets"}
    n : int
        Number of classes or targets.
    program : Program
        Takes the moments of the outputs; gives probabilities and entropies, or aleatoric variances.
    widest : float
        Greatest standard deviation of a logit that the rule of classes takes.
    """

    kind: str
    n: int
    program: Program
    widest: float = np.inf


def statistics(net: Network, whole: Program, method: str) -> Statistics | None:
    """Make the program of what a network predicts; None if its outputs are no single row.

    Parameters
    ----------
    net : Network
    whole : Program
        Propagation of moments of the network, without checks.
    method : {"pfp", "linearised"}
    """
    (outputs, _), *second = whole.outputs
    if len(outputs.shape) != 1:
        return None
    (n,) = outputs.shape
    program = Program(whole.target, whole.batch, whole.flush)
    mean = program.array(outputs, "mean")
    var = program.array(second[0][0], "second") if second else None
    if is_regression(net.likelihood):
        n_targets = known_targets(net) or (n // 2 if net.likelihood == "gaussian" else n)
        by_outputs = net.noise_sd is None and n == 2 * n_targets
        noise = [0.0] * n_targets if net.noise_sd is None else np.square(net.noise_sd)
        if by_outputs:
            aleatoric = _learned_noise(program, n_targets, mean, var)
        else:
            aleatoric = _constant_noise(program, np.asarray(noise))
        program.outputs.append((Rows(n_targets, whole.target.lanes), aleatoric))
        return Statistics("targets", n_targets, program)
    rule = quadrature if method == "pfp" else table
    p, found = rule.add(program, mean, var, n, "predict")
    classes = max(2, n)
    program.outputs.append((Rows(classes, whole.target.lanes), p))
    program.outputs.append((Plain((4, program.batch)), found))
    by_table = method == "linearised" and classes > 2
    return Statistics(
        "classes", classes, program, np.inf if by_table else quadrature.widest(classes)
    )


def _constant_noise(program: Program, noise: np.ndarray) -> te.Tensor:
    """Aleatoric variances (batch, targets padded), the same for every input."""
    shape = Rows(len(noise), program.target.lanes).tensor_shape(program.batch)
    constant = program.weight("noise", np.pad(noise, (0, shape[1] - len(noise))))
    return _scheduled(program, te.compute(shape, lambda i, c: constant[c], "aleatoric"))


def _learned_noise(program: Program, n: int, mean: te.Tensor, var: te.Tensor | None) -> te.Tensor:
    """Aleatoric variances (batch, targets padded) by the outputs behind the first n."""

    def entry(i, c):
        at = tirx.min(n + c, 2 * n - 1)
        log = mean[i, at]
        if var is not None:
            log = log + f32(0.5) * (var[i, at] if len(var.shape) == 2 else var[i, at, at])

        def formula(name):
            t = name(log)
            q = exp_minus(name, tirx.max(t, -t))
            return (tirx.Select(t > f32(0.0), f32(1.0) / q, q),)

        return tirx.Select(c < n, named(formula, 1)[0], f32(0.0))

    shape = Rows(n, program.target.lanes).tensor_shape(program.batch)
    return _scheduled(program, te.compute(shape, entry, "aleatoric"))


def _scheduled(program: Program, aleatoric: te.Tensor) -> te.Tensor:
    vectors.add_step(program, f"noise {aleatoric.shape}", ["aleatoric"])
    return aleatoric
