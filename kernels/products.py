"""Products of weights and inputs: what dense layers and convolutions sum for both moments.

Formulas
--------
For independent weights (mean µ, variance σ²) and inputs (mean m, variance v), the terms of

    "variance"  mean mµ; variance (v + m²)σ² + vµ², of known inputs m²σ²:
                no term is negative, nothing cancels
    "raw"       mean mµ; variance E[x²]E[w²] − (mµ)² with E[x²] = v + m², E[w²] = µ² + σ²
                (arXiv 2511.23440, equation 5); cancels when m² ≫ v: at m = 100, √v = 0.01
                nothing is left of it in float32. What falls below 0 counts as 0.
    "mean"      mµ alone: the deterministic network of the means

as `refbnn.layers` and `refbnn.raw_moments` have them. Grouped by what is read: the second moment
v + m² is formed once an input, not once a product; µ² in registers, so that a weight is two
numbers. Sums are kept apart until the last, one fused multiply-add a product: added up before,
the two of the variance would cost a product and a sum more, 10 % of the time.
"""

from __future__ import annotations

import numpy as np
from tvm import te, tirx

from refbnn.errors import InputError
from refbnn.posterior import Posterior

FORMS = ("variance", "raw", "mean")


def require_form(form: str) -> None:
    """Raise InputError for an unknown form."""
    if form not in FORMS:
        raise InputError(f"form {form!r} is unknown; expected one of: {', '.join(FORMS)}")


def weight_terms(weight: Posterior, form: str) -> list[np.ndarray]:
    """What is read of a weight: µ, and σ² or E[w²]; infinite where a square overflows.

    Raises
    ------
    InputError
        If the form is unknown.
    """
    require_form(form)
    if form == "mean":
        return [weight.mean]
    with np.errstate(over="ignore"):
        var = weight.var
        return [weight.mean, var if form == "variance" else weight.mean**2 + var]


def bias_terms(bias: Posterior, form: str) -> list[np.ndarray]:
    """What is read of a bias: µ, and σ² where there is a variance."""
    with np.errstate(over="ignore"):
        return [bias.mean] if form == "mean" else [bias.mean, bias.var]


def n_sums(form: str, known: bool) -> int:
    """Sums that run side by side."""
    return {"variance": 2 if known else 3, "raw": 3, "mean": 1}[form]


def products(m, second, v, weights, form: str) -> list:
    """Terms of one weight and one input, the mean's first.

    Parameters
    ----------
    m, second, v : TVM expressions
        Mean, second moment and variance of the input; v is None for known inputs, `second` in the
        form "mean".
    weights : list of TVM expressions
        In the order of `weight_terms`.
    """
    mu = weights[0]
    if form == "mean":
        return [m * mu]
    if form == "raw":
        return [m * mu, second * weights[1], (m * mu) * (m * mu)]
    terms = [m * mu, second * weights[1]]
    return terms if v is None else [*terms, v * (mu * mu)]


def variance(sums: list, form: str):
    """Variance from the sums but the first."""
    if form == "raw":
        return tirx.max(sums[0] - sums[1], tirx.const(0.0, "float32"))
    return sum(sums[1:], sums[0])


def joint_sum(terms: list, axis):
    """Several sums in one loop, or one."""
    if len(terms) == 1:
        return te.sum(terms[0], axis=axis)
    zero = tirx.const(0.0, "float32")
    reducer = te.comm_reducer(
        lambda a, b: tuple([x + y for x, y in zip(a, b, strict=True)]),
        lambda *types: tuple([zero for _ in types]),
        name="joint_sum",
    )
    return reducer(tuple(terms), axis=axis)
