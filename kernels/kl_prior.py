"""log p of priors but for constant and parabola, f and f′, as float32 expressions.

Formulas
--------
log p = c₀ + c₂θ² + f(θ) as `refbnn.kl_loops` has it, with its parameters:

*Student's t*: t = θ/a, f = −½(ν+1) log(1 + t²), f′ = −(ν+1) t/(a(1 + t²)).

*Scale mixture*: ℓ = L − ½Dθ², e = e^−|ℓ|; f = max(ℓ, 0) + log(1 + e), f′ = −Dθ (1 or e)/(1 + e),
1 for ℓ ≥ 0: nothing overflows.

*Device*: f = α log(1 + y) + β log(1 − y) + g(y), f′ = y′(α/(1 + y) − β/(1 − y) + g′(y)). At
θ = µ + σz the distances from the ends are 1 + y = y′(µ − low) + y′σz and 1 − y likewise, where
µ − low is formed in float64: near an end θ would have lost them.

Each is computed in stages, tensors (P, n) for every weight and node.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import chebyshev, polynomial
from tvm import te, tirx

from kernels.exponential import exp, log, log1p, log1p_of_unit
from kernels.relu import _f32, _f64, _horner
from refbnn.kl_loops import DEVICE, MIXTURE, STUDENT, Form


def integrand(
    form: Form, mean: te.Tensor, scale: te.Tensor, nodes: te.Tensor
) -> tuple[te.Tensor, te.Tensor, list[str]]:
    """f and f′ at µ + σz; names of all stages, in order, these two last.

    Parameters
    ----------
    form : Form
    mean, scale : (P,)
    nodes : (n,)
    """
    by_kind = {STUDENT: _student, MIXTURE: _mixture, DEVICE: _device}
    *before, f, df = by_kind[form.kind](form.parameters, mean, scale, nodes)
    return f, df, [stage.op.name for stage in (*before, f, df)]


def _student(parameters, mean, scale, nodes):
    a, half = parameters  # half of ν + 1
    shape = mean.shape[0], nodes.shape[0]
    t = te.compute(
        shape, lambda i, k: (mean[i] + scale[i] * nodes[k]) * _f32(1.0 / a), name="theta"
    )
    square = te.compute(shape, lambda i, k: t[i, k] * t[i, k], name="square")
    u = te.compute(shape, lambda i, k: _f32(1.0) + square[i, k], name="u")
    f = te.compute(shape, lambda i, k: _f32(-half) * log1p(square[i, k], u[i, k]), name="f")
    df = te.compute(shape, lambda i, k: _f32(-2.0 * half / a) * t[i, k] / u[i, k], name="df")
    return t, square, u, f, df


def _mixture(parameters, mean, scale, nodes):
    L, D, *_ = parameters
    shape, zero, one = (mean.shape[0], nodes.shape[0]), _f32(0.0), _f32(1.0)
    theta = te.compute(shape, lambda i, k: mean[i] + scale[i] * nodes[k], name="theta")
    ell = te.compute(
        shape, lambda i, k: _f32(L) - _f32(0.5 * D) * theta[i, k] * theta[i, k], name="ell"
    )
    e = te.compute(shape, lambda i, k: exp(-tirx.abs(ell[i, k])), name="e")

    def value(i, k):
        return tirx.max(ell[i, k], zero) + log1p_of_unit(e[i, k])

    def score(i, k):
        logistic = tirx.Select(ell[i, k] >= zero, one, e[i, k]) / (one + e[i, k])
        return _f32(-D) * theta[i, k] * logistic

    f, df = te.compute(shape, value, name="f"), te.compute(shape, score, name="df")
    return theta, ell, e, f, df


def _device(parameters, mean, scale, nodes):
    low, high, slope, alpha, beta, *g = parameters
    shape = mean.shape[0], nodes.shape[0]
    # Monomials: a law's polynomial is of low degree, and |y| ≤ 1.
    g = chebyshev.cheb2poly(np.array(g))
    dg = polynomial.polyder(g)

    def lower_end(i):
        return (_f64(slope) * (mean[i].astype("float64") - _f64(low))).astype("float32")

    def upper_end(i):
        return (_f64(slope) * (_f64(high) - mean[i].astype("float64"))).astype("float32")

    step = te.compute(shape, lambda i, k: _f32(slope) * scale[i] * nodes[k], name="step")
    lower = te.compute(shape, lambda i, k: lower_end(i) + step[i, k], name="lower")
    upper = te.compute(shape, lambda i, k: upper_end(i) - step[i, k], name="upper")
    y = te.compute(shape, lambda i, k: _f32(0.5) * (lower[i, k] - upper[i, k]), name="y")
    ends = [(a, x) for a, x in ((alpha, lower), (beta, upper)) if a != 0.0]

    def value(i, k):
        logs = [_f32(a) * log(x[i, k]) for a, x in ends]
        return sum(logs, _horner(g, y[i, k]))

    def score(i, k):
        poles = [_f32(slope * (a if x is lower else -a)) / x[i, k] for a, x in ends]
        return sum(poles, _f32(slope) * _horner(dg, y[i, k]))

    f, df = te.compute(shape, value, name="f"), te.compute(shape, score, name="df")
    return step, lower, upper, y, f, df
