"""Weights in half precision: 16 bits in memory, arithmetic in float32.

A kernel that reads a weight once, as a dense layer of a small batch does, waits for memory. µ and
σ² take 8 bytes in float32, 6 where σ² alone is in half precision ("variance16"), 4 where both are
("float16"). Processors convert on load: FCVTL on every 64-bit Arm, VCVTPH2PS with F16C or AVX-512.

Convolutions convert their weights once an image. Those that are one operator with the max pooling
behind them (`kernels.layers.shared_weights`) keep float32, whose products of weights would cancel,
and so do the means of residual blocks that the mean Jacobian reads.

Format
------
Half precision (IEEE 754, binary16) has 11 bits, from 2⁻¹⁴ to 65504; below, multiples of 2⁻²⁴. A
variance of 10⁻⁸ would be 0. So the weights of output o are stored as w/s with a power of two s = 2ᵉ
for each output, which puts the largest |w| in [2¹⁴, 2¹⁵). Sums run over w/s; the end of a sum puts
s back: s Σ m (µ/s), s' Σ (v + m²)(σ²/s') and s² Σ v (µ/s)². Products with powers of two are exact.

Range
-----
With δ = 2⁻¹¹ and W the largest |w| of an output, a stored number w' = w(1 + d) + t has

    |d| ≤ δ,    t = 0 or |t| ≤ 2⁻²⁵ s ≤ 2⁻³⁹ W (where |w| < 2⁻²⁸ W: below normal numbers).

Summed over the inputs of an output (the formulas of `kernels.layers.products`), with M the largest
|µ| and S the largest σ² of the output, storage changes moments of one layer by

    |error of m'| ≤ δ Σ |m µ| + 2⁻³⁹ M Σ |m|
    |error of v'| ≤ δ Σ (v + m²) σ² + 2⁻³⁹ S Σ (v + m²) + Σ v (2|µ| ε + ε²),  ε = δ|µ| + 2⁻³⁹ M

The mean's error, and the last term of the variance's, are 0 for "variance16": there every variance
of a layer is right to δ, whatever its inputs. Biases stay in float32. What comes on top is float32
rounding of the network of the stored weights: the bounds of `kernels.layers.dense` hold for it.

Sums run over stored numbers below 2¹⁵, so a variance overflows where (v + m²) summed over the
inputs passes 2¹¹³, inputs near 10¹⁵, however small σ² is. Subnormal numbers of half precision are
normal in float32, and no processor flushes them when it converts them (Intel, Software Developer's
Manual, VCVTPH2PS: MXCSR.DAZ has no effect; Arm, FPCR.FZ: float32 and float64 alone).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tvm
from tvm import te, tirx

from kernels.devices.targets import Target
from refbnn.errors import InputError
from refbnn.layers.posterior import Posterior
from refbnn.numerics.arguments import require_known

STORAGE = ("float32", "variance16", "float16")
_FORMS = {"variance16": ("variance",), "float16": ("variance", "mean")}
_DIGITS = 11  # of half precision, the first one included
_TOP = 15  # numbers are stored below 2^15, which rounding up does not leave


def require_storage(storage: str, form: str, method: str, target: Target) -> None:
    """Raise InputError unless weights can be stored so, in a form and a method, for a target."""
    require_known(storage, STORAGE, "weights")
    if storage == "float32":
        return
    if method != "pfp":
        raise InputError(f"weights is {storage!r} with method {method!r}; expected method 'pfp'")
    if form not in _FORMS[storage]:
        expected = " or ".join(map(repr, _FORMS[storage]))
        raise InputError(f"weights is {storage!r} with form {form!r}; expected form {expected}")
    if not target.converts_half:
        raise InputError(
            f"weights is {storage!r}: target {target.name!r} has no instruction that converts half "
            "precision (F16C); expected weights 'float32'"
        )


def exponents(values: np.ndarray) -> np.ndarray:
    """The exponent e of each output's power of two; of weights that are stored, the same again.

    Parameters
    ----------
    values : (out, ...)
        Finite in float32.

    Returns
    -------
    (out,) of int

    Examples
    --------
    >>> import numpy as np
    >>> from kernels.layers.half import exponents
    >>> exponents(np.array([[1.0, 0.1], [0.0, 3e-9], [0.0, 0.0]])).tolist()
    [-14, -43, 0]
    """
    largest = np.abs(values).reshape(len(values), -1).max(axis=1)
    digits, exponent = np.frexp(largest)
    exponent = exponent + (np.rint(np.ldexp(digits, _DIGITS)) == 2**_DIGITS)  # rounded up
    return np.where(largest == 0.0, 0, np.maximum(exponent - _TOP, -126))  # 2^-126: no subnormal


def scaled(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers w/s to be stored in half precision, not yet rounded, and s.

    Parameters
    ----------
    values : (out, ...)

    Returns
    -------
    (out, ...) and (out,)
    """
    e = exponents(values)
    return np.ldexp(values, -e.reshape(-1, *[1] * (values.ndim - 1))), np.ldexp(1.0, e)


def rounded(weight: Posterior, storage: str, name: str) -> Posterior:
    """The weights that a kernel has in the place of these: those of the network it computes.

    Raises
    ------
    InputError
        If a number is too large for float32.

    Examples
    --------
    >>> from refbnn import Posterior
    >>> from kernels.layers.half import rounded
    >>> one = rounded(Posterior([[0.1, 0.3]], [[1e-5, 2e-5]]), "float16", "weight")
    >>> abs(one.mean / [[0.1, 0.3]] - 1.0).max() < 2.0**-11
    True
    """

    def stored(values: np.ndarray) -> np.ndarray:
        if not (np.abs(values) <= np.finfo(np.float32).max).all():
            raise InputError(f"{name}: a number is too large for float32")
        halves, s = scaled(values)
        with np.errstate(under="ignore"):
            halves = halves.astype(np.float16)
        return halves * s.reshape(-1, *[1] * (values.ndim - 1))

    with np.errstate(over="ignore"):
        var = weight.var
    mean = stored(weight.mean) if storage == "float16" else weight.mean
    return Posterior(mean, np.sqrt(stored(var)))


def all_rounded(
    posteriors: Mapping[str, Posterior], storage: str, name: str
) -> Mapping[str, Posterior]:
    """Weights of a layer, or of the layers of a residual block, as stored; biases as they are."""
    if storage == "float32":
        return posteriors
    return {
        part: one if part.endswith("bias") else rounded(one, storage, f"{name}_{part}")
        for part, one in posteriors.items()
    }


def groups(
    terms: Sequence[np.ndarray], storage: str
) -> tuple[list[tuple[str, list[np.ndarray]]], list[np.ndarray | None]]:
    """Terms of weights by the arrays that hold them, and the powers of two to put back.

    Parameters
    ----------
    terms : list of (out, ...)
        Entries of `kernels.layers.products.weight_terms`.
    storage : str

    Returns
    -------
    list of (type, terms), and list of (out,)
        Arrays of one type each, in the order of the terms; and s of each term, or None for a term
        in float32. The second list is empty where all are.
    """
    if storage == "float32":
        return [("float32", list(terms))], []
    halves = [storage == "float16", True][: len(terms)]
    pairs = [scaled(t) if half else (t, None) for t, half in zip(terms, halves, strict=True)]
    values, s = [value for value, _ in pairs], [power for _, power in pairs]
    if storage == "float16":
        return [("float16", values)], s
    return [("float32", values[:1]), ("float16", values[1:])], s


def bytes_of(arrays: Sequence[tuple[str, list[np.ndarray]]]) -> int:
    """Bytes of one weight, all terms of `groups`."""
    return sum(np.dtype(dtype).itemsize * len(terms) for dtype, terms in arrays)


def in_words(storage: str) -> str:
    """End of a workload's name."""
    return "" if storage == "float32" else f" weights {storage}"


def widened(array: te.Tensor, *index):
    """The number at an index, in float32."""
    number = array(*index)
    return number if str(array.dtype) == "float32" else tirx.Cast("float32", number)


def put_back(sums: Sequence, scales: Sequence) -> list:
    """Sums of products, of which those of stored numbers get their power of two again.

    Parameters
    ----------
    sums : list of TVM expressions
        Sums of the terms of `kernels.layers.products.products`.
    scales : list of TVM expressions or None
        The powers of µ and σ² for this output; empty where no number is stored so.
    """
    if not scales:
        return list(sums)
    mean, *var = scales
    factors = [(mean,), *[(s,) for s in var], (mean, mean)]  # of m µ, (v + m²) σ², v µ²
    result = []
    for one, own in zip(sums, factors, strict=False):
        for factor in own:
            one = one if factor is None else one * factor
        result.append(one)
    return result


def float32_copy(name: str, w: Sequence[te.Tensor], axis: int) -> te.Tensor:
    """Convert arrays of weights to one in float32, their terms side by side on an axis."""
    shape = [int(n) for n in w[0].shape]
    terms = [(one, term) for one in w for term in range(int(one.shape[axis]))]
    shape[axis] = len(terms)

    def element(*index):
        *others, last = [
            widened(one, *index[:axis], term, *index[axis + 1 :]) for one, term in terms
        ]
        for place, value in reversed(list(enumerate(others))):
            last = tirx.if_then_else(index[axis] == place, value, last)
        return last

    return te.compute(shape, element, name=name)


def schedule_copy(sch: tvm.s_tir.Schedule, name: str, axis: int, lanes: int, loop) -> None:
    """Convert inside of a loop over images, by whole vectors.

    The axes behind that of the terms are one piece of memory.
    """
    copy = sch.get_sblock(name)
    sch.compute_at(copy, loop, preserve_unit_loops=True)
    loops = sch.get_loops(copy)[1:]
    sch.unroll(loops[axis])
    vector, lane = sch.split(sch.fuse(*loops[axis + 1 :]), [None, lanes])
    sch.annotate(vector, "pragma_loop_partition_hint", True)
    sch.vectorize(lane)
