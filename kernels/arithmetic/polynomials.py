"""Parts of float32 formulas: constants, named terms, polynomials that stand for functions.

A call of the C library's exp or erf computes one number at a time; a polynomial computes a whole
vector. Each polynomial interpolates float64 values at Chebyshev points when its module loads.
Horner's rule sums it in a variable that runs over [−1, 1], where its coefficients fall.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tvm_ffi
from numpy.polynomial import chebyshev
from tvm import tirx
from tvm.ir import register_op_attr
from tvm.tirx.op import register_intrin_lowering

ONE_BITS = 127  # exponent bits of 1.0
MANTISSA = 23  # bits behind the point
_LARGEST = float(np.finfo(np.float32).max)

# The identity, as an operation that TVM's simplifier takes for a read of memory. The simplifier
# would replace the name of a purely arithmetic value by the whole expression, in pass after pass,
# and the maximum of two Gaussians would take three times as long to compile.
_KEPT = "refbnn.kept"
_READS_MEMORY = 2  # tvm::tirx::CallEffectKind::kReadState
register_op_attr(_KEPT, "TVectorizable", True)
register_op_attr(_KEPT, "TScriptPrinterName", "kept")  # passes that print it would warn
register_op_attr(_KEPT, "TCallEffectKind", _READS_MEMORY)
register_intrin_lowering(_KEPT, target="default", f=lambda call: call.args[0])


def f32(value: float):
    """Return a float32 constant."""
    return tirx.const(float(value), "float32")


def fma(a, b, c):
    """ab + c, rounded once."""
    return tirx.op.fma(a, b, c)


def finite(*values):
    """Whether none of the values is NaN or infinite.

    The sum of all, each scaled so that finite ones cannot overflow, is infinite or NaN if one is.
    """
    share = f32(0.5 ** len(values).bit_length())
    total = sum((share * value for value in values[1:]), share * values[0])
    return tirx.abs(total) <= f32(_LARGEST)


def nan_of(*values):
    """NaN where one of the values is NaN or infinite, else 0.

    For results of comparisons, and of functions with limits: they would make a number again of what
    has overflowed.
    """
    return tirx.Select(finite(*values), f32(0.0), f32(np.nan))


def kept(value):
    """The value, in a form that TVM's simplifier does not move."""
    return tirx.call_intrin(value.ty.dtype, _KEPT, value)


def named(formula: Callable, results: int) -> tuple:
    """Evaluate a formula with intermediate results that are computed once.

    TVM expressions are trees: an expression that is used twice is computed twice, and one used
    twice within such an expression four times. A named expression is computed once.

    Parameters
    ----------
    formula : callable (name) -> tuple of expressions
        `name(expression)` gives a variable that stands for the expression.
    results : int
        Length of that tuple.
    """

    def result(index: int):
        names: list[tuple] = []

        def name(value):
            names.append((tirx.Var(f"t{len(names)}", value.ty), kept(value)))
            return names[-1][0]

        expression = formula(name)[index]
        used = _variables(expression)
        for variable, value in reversed(names):
            if variable in used:  # one of another result would cost time to compile
                used |= _variables(value)
                expression = tirx.Let(variable, value, expression)
        return expression

    return tuple([result(index) for index in range(results)])


def _variables(expression) -> set[tirx.Var]:
    found: set[tirx.Var] = set()
    tvm_ffi.structural_walk(expression, (tirx.Var, found.add))
    return found


def interpolate(f: Callable, degree: int) -> np.ndarray:
    """Monomial coefficients of the interpolant of f on [−1, 1] in Chebyshev points, low to high."""
    return chebyshev.cheb2poly(chebyshev.chebinterpolate(f, degree))


def horner(coefficients: np.ndarray, u):
    """Σ c_i uⁱ for an array of coefficients, low to high."""
    total = f32(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * u + f32(coefficient)
    return total


def power_of_half(k):
    """2^{−k} for a whole float32 number k, |k| ≤ 127, by the exponent bits; 0 at k = 127."""
    bits = tirx.const(ONE_BITS, "int32") - k.astype("int32")
    return tirx.reinterpret("float32", tirx.shift_left(bits, tirx.const(MANTISSA, "int32")))


_LOG2_E = 1.0 / np.log(2.0)
_LOG2_E_HIGH = float(np.float32(_LOG2_E))
# 2^{−r} for |r| ≤ ½, to 3e-9: the interpolant in u = 2r, written in r.
POWER_REST = interpolate(lambda u: 2.0 ** (-0.5 * u), 6) * 2.0 ** np.arange(7)


def exp_minus(name: Callable, a):
    """e^{−a} for a ≥ 0, to 2e-7; 0 from a = 87.7 on, where it is no normal float32 number.

    With a/ln 2 = k + r, k whole, |r| ≤ ½: 2^{−r}, a polynomial, times 2^{−k}, in the exponent bits.
    """
    a = name(tirx.min(a, f32(88.0)))
    k = name(tirx.floor(a * f32(_LOG2_E_HIGH) + f32(0.5)))
    rest = name(fma(a, f32(_LOG2_E_HIGH), -k) + a * f32(_LOG2_E - _LOG2_E_HIGH))
    return name(power_of_half(k) * horner(POWER_REST, rest))


_EXPM1 = interpolate(lambda u: np.expm1(u) / np.where(u == 0.0, 1.0, u) + (u == 0.0), 8)  # to 1e-8


def exp_minus_one(t):
    """eᵗ − 1 for |t| ≤ 1, relatively accurate."""
    return t * horner(_EXPM1, t)
