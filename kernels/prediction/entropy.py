"""Entropy of class probabilities, by statements of a loop that is written out, in float32.

Formula
-------
H(p) = Σ_{c≠r} −p_c log p_c + p_r log(1 + ρ/p_r), with ρ = Σ_{c≠r} p_c, for any class r. No term is
negative, and where r is the greatest, none loses relative accuracy: −log p_r would, near 1.
"""

from __future__ import annotations

from tvm import tirx
from tvm.script.ir_builder import tirx as script

from kernels.arithmetic.logarithm import log, log1p
from kernels.arithmetic.polynomials import exp_minus, f32
from kernels.arithmetic.statements import array, let, put

_LEAST = 1e-37  # a normal number


def entropy(p: tirx.Buffer, greatest, classes: int, lanes: int):
    """Write the statements that find H(p), an expression, in nats.

    Parameters
    ----------
    p : buffer (classes padded,)
        Padding is finite.
    greatest : expression
        Index of the greatest of them.
    classes, lanes : int
    """
    terms, total, rest = array(int(p.shape[0])), array(1), array(1)
    with script.serial(p.shape[0] // lanes) as g, script.vectorized(lanes) as lane:
        c = g * lanes + lane
        put(terms, _term(p[c]), c)
    put(total, f32(0.0), 0)
    put(rest, f32(0.0), 0)
    with script.serial(classes) as c:
        other = c != greatest
        put(total, total[0] + tirx.Select(other, terms[c], f32(0.0)), 0)
        put(rest, rest[0] + tirx.Select(other, p[c], f32(0.0)), 0)
    p_r = let(tirx.max(p[greatest], f32(_LEAST)))
    return total[0] + p_r * log_1p(rest[0] / p_r)


def exp_of_minus(a):
    """Write the statements that find e^−a for a ≥ 0, an expression."""
    return exp_minus(let, let(a))


def log_1p(x):
    """Write the statements that find log(1 + x) for x ≥ 0, an expression."""
    return log1p(let, let(x))


def _term(p):
    """Write the statements that find −p log p, an expression, of a probability that may be 0."""
    return -p * log(let, let(tirx.max(p, f32(_LEAST))))
