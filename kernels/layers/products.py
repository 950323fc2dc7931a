"""Products of weights and inputs: the terms that dense layers and convolutions sum.

Formulas
--------
For independent weights (mean µ, variance σ²) and inputs (mean m, variance v), the terms by form:

    "variance"  mean mµ; variance (v + m²)σ² + vµ², or m²σ² for known inputs.
                No term is negative, so nothing cancels.
    "raw"       mean mµ; variance E[x²]E[w²] − (mµ)² with E[x²] = v + m², E[w²] = µ² + σ²
                (arXiv 2511.23440, equation 5). It cancels when m² ≫ v: at m = 100, √v = 0.01
                no digit is left in float32. Negative results count as 0.
    "separate"  the terms of "variance", but each moment in loops of its own, as an operator of the
                form "mean" and one of the form "spread": the comparison for the joint loop
    "mean"      mµ alone: the deterministic network of the means
    "spread"    the variance alone

The reference has them in `refbnn.layers` and `refbnn.prediction.raw_moments`. Terms are grouped by
what is read: the second moment v + m² is formed once for each input, not once for each product; µ²
is formed in registers, so that a weight is two numbers. Each kind of term has a sum of its own
until the end, which takes one fused multiply-add a product. Adding the two terms of the variance
first would take a product and a sum more, 10 % of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import te, tirx

from kernels.layers.half import put_back
from kernels.program.program import Activation, Layout
from refbnn.layers.posterior import Posterior
from refbnn.numerics.arguments import require_known

FORMS = ("variance", "raw", "separate", "mean")  # that a network can have


@dataclass(frozen=True, eq=False)
class Folded:
    """Rows of known inputs of which some are raw, as `kernels.layers.folding` explains.

    Parameters
    ----------
    centred : tensor (batch,)
        1 for a row that is centred, 0 for one that is raw.
    twice : callable (k) -> expression
        2c of input k.
    bias : Posterior
        Biases of raw rows.
    """

    centred: te.Tensor
    twice: Callable
    bias: Posterior

    def shift(self, i, k):
        """The number d in the second moment m (m − d) of input k of row i: 2c, or 0 if centred."""
        return (tirx.const(1.0, "float32") - self.centred[i]) * self.twice(k)

    def chosen(self, i, centred: Sequence, raw: Sequence) -> list:
        """The biases of row i, of two lists of expressions."""
        is_raw = self.centred[i] == tirx.const(0.0, "float32")
        return [tirx.Select(is_raw, r, c) for c, r in zip(centred, raw, strict=True)]


def require_form(form: str, forms: Sequence[str] = FORMS) -> None:
    """Raise InputError for a form that is not among `forms`."""
    require_known(form, forms, "form")


def both_moments(form: str) -> bool:
    """Whether one loop computes mean and variance; otherwise it computes one of them."""
    return form in ("variance", "raw")


def weight_terms(weight: Posterior, form: str) -> list[np.ndarray]:
    """Arrays that are read of the weights: µ, and σ² or E[w²]; infinite where a square overflows.

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
    """Arrays that are read of the biases: µ and σ², or the one that the form needs."""
    with np.errstate(over="ignore"):
        return {"mean": [bias.mean], "spread": [bias.var]}.get(form, [bias.mean, bias.var])


def n_sums(form: str, known: bool) -> int:
    """Number of sums that run side by side."""
    return {"variance": 2 if known else 3, "raw": 3, "mean": 1, "spread": 1 if known else 2}[form]


def second_moments(name: str, x: Activation, form: str, shift: Callable | None = None) -> Callable:
    """Form m² + v once for each input; parameters and result as in `panel`."""
    mean, var = x.mean, x.var
    if form == "mean":
        return lambda *index: (mean(*index), None, None)

    def second_moment(*index):
        square = _square(mean(*index), shift, index)
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
    shift: Callable | None = None,
) -> Callable:
    """Lay m, m² + v and v of inputs out side by side, so that one address leads to all of them.

    Parameters
    ----------
    name : str
        Name of the block.
    x : Activation
    form : str
    shape : sequence of int
        Shape of the copy, without the axis of its terms.
    axis : int
        Place of the axis of the terms.
    source : callable (*index) -> index
        Index in x of the input at an index of that shape.
    shift : callable (*index) -> d, optional
        With it, m (m − d) takes the place of m², for an index in x (`kernels.layers.folding`).

    Returns
    -------
    callable (*index) -> (m, second moment, v)
        Numbers of the input at that index, for `products`. A number is None where the form does not
        need it, or it is 0.
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
        square = _square(m, shift, at)
        values = {"m": m, "second": square if v is None else v + square, "v": v}
        *others, last = [values[term] for term in terms]
        for place, value in reversed(list(enumerate(others))):
            last = tirx.if_then_else(index[axis] == place, value, last)
        return last

    copy = te.compute((*shape[:axis], len(terms), *shape[axis:]), element, name=name)

    def entry(*index):
        values = {t: copy(*index[:axis], place, *index[axis:]) for place, t in enumerate(terms)}
        return values.get("m"), values.get("second"), values.get("v")

    return entry


def _square(m, shift: Callable | None, index: Sequence):
    """The square m², or m (m − d) with a shift d."""
    return m * m if shift is None else m * (m - shift(*index))


def products(m, second, v, weights, form: str) -> list:
    """Terms of one weight and one input; the mean's term comes first where there is one.

    Parameters
    ----------
    m, second, v : TVM expressions
        Mean, second moment and variance of the input; v is None for known inputs, `second` in the
        form "mean".
    weights : list of TVM expressions
        Entries of `weight_terms`, in that order.
    """
    mu = weights[0]
    if form == "mean":
        return [m * mu]
    spread = second * weights[1]
    if form == "raw":
        return [m * mu, spread, (m * mu) * (m * mu)]
    terms = [spread] if form == "spread" else [m * mu, spread]
    return terms if v is None else [*terms, v * (mu * mu)]


def add_up(
    name: str,
    shape: Sequence[int],
    terms: Callable,
    axes: Sequence,
    layout: Layout,
    to_sums: Callable,
    form: str,
    own: bool = False,
) -> Activation:
    """Add up products, then add the biases: mean and variance of y, or one of them as the mean.

    Parameters
    ----------
    name : str
        Starts the names of the blocks: the sums, and y.
    shape : sequence of int
        Shape of the sums, the batch first.
    terms : callable (*index) -> list of TVM expressions
        Result of `products` for one term of the sums at an index.
    axes : sequence of reduction axes
    layout : Layout
        Layout of y.
    to_sums : callable (*index) -> (index, biases, powers of two)
        For an index of y in memory: the index of its sums, its entries of `bias_terms`, or none,
        and those of `kernels.layers.half.groups`, lists of TVM expressions.
    form : str
    own : bool
        Whether y has its own variance beside, Σ second σ² + σ_b², for random inputs and the form
        "variance".
    """

    def total(*index):
        return joint_sum(terms(*index), axis=axes)

    def epilogue(*index):
        at, biases, scales = to_sums(*index)
        values = put_back([part(*at) for part in sums], scales)
        if own:
            of_weights = values[1] + biases[1]
            return values[0] + biases[0], of_weights + values[2], of_weights
        return _moments(values, biases, form)

    sums = listed(te.compute(shape, total, name=f"{name}_sums"))
    mean, *var = listed(te.compute(layout.tensor_shape(shape[0]), epilogue, name=name))
    return Activation(layout, mean, *var) if var else Activation(layout, mean, None)


def listed(result) -> list[te.Tensor]:
    """The tensors of a computation of one or of several."""
    return list(result) if isinstance(result, list | tuple) else [result]


def _moments(sums: list, bias: list, form: str):
    """Mean and variance from the sums of products and the bias, or one of them."""
    if form == "mean":
        return sums[0] + bias[0] if bias else sums[0]
    own = sums if form == "spread" else sums[1:]
    if form == "raw":
        # In this order NaN, the difference of sums that overflow, stays NaN.
        var = tirx.max(tirx.const(0.0, "float32"), own[0] - own[1])
    else:
        var = sum(own[1:], own[0])
    var = var + bias[-1]
    return var if form == "spread" else (sums[0] + bias[0], var)


def joint_sum(terms: list, axis):
    """Sum each term over the axes: several sums in one loop, or one."""
    if len(terms) == 1:
        return te.sum(terms[0], axis=axis)
    zero = tirx.const(0.0, "float32")
    reducer = te.comm_reducer(
        lambda a, b: tuple([x + y for x, y in zip(a, b, strict=True)]),
        lambda *types: tuple([zero for _ in types]),
        name="joint_sum",
    )
    return reducer(tuple(terms), axis=axis)
