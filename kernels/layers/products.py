"""Products of weights and inputs: what dense layers and convolutions sum for both moments.

Formulas
--------
For independent weights (mean µ, variance σ²) and inputs (mean m, variance v), the terms of

    "variance"  mean mµ; variance (v + m²)σ² + vµ², of known inputs m²σ²:
                no term is negative, nothing cancels
    "raw"       mean mµ; variance E[x²]E[w²] − (mµ)² with E[x²] = v + m², E[w²] = µ² + σ²
                (arXiv 2511.23440, equation 5); cancels when m² ≫ v: at m = 100, √v = 0.01
                nothing is left of it in float32. What falls below 0 counts as 0.
    "separate"  those of "variance", but each moment in loops of its own, as an operator of the form
                "mean" and one of the form "spread": what the joint loop is held against
    "mean"      mµ alone: the deterministic network of the means
    "spread"    the variance alone

as `refbnn.layers` and `refbnn.prediction.raw_moments` have them. Grouped by what is read: the
second moment v + m² is formed once an input, not once a product; µ² in registers, so that a weight
is two numbers. Sums are kept apart until the last, one fused multiply-add a product: added up
before, the two of the variance would cost a product and a sum more, 10 % of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tvm import te, tirx

from kernels.program.program import Activation
from refbnn.errors import InputError
from refbnn.layers.posterior import Posterior

FORMS = ("variance", "raw", "separate", "mean")  # of networks


def require_form(form: str, forms: Sequence[str] = FORMS) -> None:
    """Raise InputError for a form that is none of these: of those that a network can have."""
    if form not in forms:
        raise InputError(f"form {form!r} is unknown; expected one of: {', '.join(forms)}")


def both_moments(form: str) -> bool:
    """Whether mean and variance are computed, in one loop; else one of them."""
    return form in ("variance", "raw")


def weight_terms(weight: Posterior, form: str) -> list[np.ndarray]:
    """What is read of a weight: µ, and σ² or E[w²]; infinite where a square overflows.

    Raises
    ------
    InputError
        If the form is unknown.
    """
    require_form(form, (*FORMS, "spread"))
    if form == "mean":
        return [weight.mean]
    with np.errstate(over="ignore"):
        var = weight.var
        return [weight.mean, weight.mean**2 + var if form == "raw" else var]


def bias_terms(bias: Posterior, form: str) -> list[np.ndarray]:
    """What is read of a bias: µ and σ², or that of the one moment."""
    with np.errstate(over="ignore"):
        return {"mean": [bias.mean], "spread": [bias.var]}.get(form, [bias.mean, bias.var])


def n_sums(form: str, known: bool) -> int:
    """Sums that run side by side."""
    return {"variance": 2 if known else 3, "raw": 3, "mean": 1, "spread": 1 if known else 2}[form]


def second_moments(name: str, x: Activation, form: str) -> Callable:
    """Form m² + v once an input; parameters as of `panel`, and what is returned."""
    mean, var = x.mean, x.var
    if form == "mean":
        return lambda *index: (mean(*index), None, None)

    def second_moment(*index):
        square = mean(*index) * mean(*index)
        return square if var is None else var(*index) + square

    second = te.compute(mean.shape, second_moment, name=name)
    return lambda *index: (mean(*index), second(*index), None if var is None else var(*index))


def panel(
    name: str,
    x: Activation,
    form: str,
    shape: Sequence[int],
    axis: int,
    source: Callable = lambda *index: index,
) -> Callable:
    """Lay all that is read of inputs out side by side: it is loaded from one address.

    Parameters
    ----------
    name : str
        Of the block.
    x : Activation
    form : str
    shape : sequence of int
        Of the copy, without its terms.
    axis : int
        Before which of these axes the terms of one input are.
    source : callable (*index) -> index
        Where x has the input at an index of that shape.

    Returns
    -------
    callable (*index) -> (m, second moment, v)
        Of the input at that index, for `products`; None for what is not needed, or 0.
    """
    wanted = {
        "m": form != "spread",
        "second": form != "mean",
        "v": x.var is not None and form in ("variance", "spread"),
    }
    terms = [term for term, there in wanted.items() if there]

    def element(*index):
        at = source(*index[:axis], *index[axis + 1 :])
        m = x.mean(*at)
        v = None if x.var is None else x.var(*at)
        values = {"m": m, "second": m * m if v is None else v + m * m, "v": v}
        *others, last = [values[term] for term in terms]
        for place, value in reversed(list(enumerate(others))):
            last = tirx.if_then_else(index[axis] == place, value, last)
        return last

    copy = te.compute((*shape[:axis], len(terms), *shape[axis:]), element, name=name)

    def entry(*index):
        values = {t: copy(*index[:axis], place, *index[axis:]) for place, t in enumerate(terms)}
        return values.get("m"), values.get("second"), values.get("v")

    return entry


def products(m, second, v, weights, form: str) -> list:
    """Terms of one weight and one input, the mean's first where there is one.

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
    spread = second * weights[1]
    if form == "raw":
        return [m * mu, spread, (m * mu) * (m * mu)]
    terms = [spread] if form == "spread" else [m * mu, spread]
    return terms if v is None else [*terms, v * (mu * mu)]


def moments(sums: list, bias: list, form: str) -> list:
    """Mean and variance from the sums of these products and what is read of the bias, or one."""
    if form == "mean":
        return [sums[0] + bias[0]]
    first = [] if form == "spread" else [sums[0] + bias[0]]
    own = sums[len(first) :]
    if form == "raw":
        var = tirx.max(own[0] - own[1], tirx.const(0.0, "float32"))
    else:
        var = sum(own[1:], own[0])
    return [*first, var + bias[-1]]


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
