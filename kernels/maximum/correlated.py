"""The greatest of dependent Gaussians, by pairs (Clark 1961), in float32.

Formulas
--------
Those of `refbnn.numerics.correlated_maximum`, written in the variances of differences,
γ_ij = Var[X_i − X_j], in the place of covariances: these are small where entries are nearly equal,
as neighbouring pixels of a convolution are, and v_i + v_j − 2c_ij would leave no digit of them. For
m₁ ≥ m₂ and θ² = γ₁₂, h_n = h_n(−(m₁ − m₂)/θ), q = h₂ − h₁², and M the greater,

    E[M]   = m₁ + θh₁
    Var[M] = (1 − h₀) v₁ + h₀ (v₂ − γ₁₂) + γ₁₂ q
    γ_M3   = (1 − h₀) γ₁₃ + h₀ γ₂₃ − γ₁₂ (h₀ − q).

The first follows from his equations by c₁₂ = (v₁ + v₂ − γ₁₂)/2, the last from
Cov(M, X₃) = (1 − h₀) c₁₃ + h₀ c₂₃. At θ = 0 the greater mean counts, and h₀ as 0.

Weights and own variance
------------------------
The weights π of the entries multiply from pair to pair, as in the reference. M = Σ π_i X_i + e,
with e uncorrelated to all entries. With r₁, r₂ the variances of the two e, and
h₀ − q = h₁(x + h₁),

    r = (1 − h₀)² r₁ + h₀² r₂ + γ₁₂ (q − h₀²) = Var[M] − πᵀ C π,

a sum of terms that are not negative: max(0, Z − x) has the variance q, and the linear part h₀².

Range
-----
`kernels.arithmetic.normal.lower_rectified`; with errors of u = 2⁻²⁴ relative in γ and v, π and the
variance, relative to Σ π_i v_i, to some 1e-6, and the mean to it and a deviation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest

from tvm import te, tirx
from tvm.script.ir_builder import tirx as script

from kernels.arithmetic.normal import lower_rectified
from kernels.arithmetic.polynomials import f32, nan_of
from kernels.maximum.window import array, put
from kernels.program import loops


@dataclass(frozen=True, eq=False)
class Window:
    """Entries of one window, as TVM expressions.

    Parameters
    ----------
    mean, var : lists of k expressions
    apart : dict of (i, j) to expression
        Var[X_i − X_j], i < j.
    """

    mean: list
    var: list
    apart: dict


class _Statements:
    """Names of one vector, and the order in which they are computed.

    Names are arrays, which LLVM keeps in registers: TVM would write a name out wherever it is used,
    and the names in it, pass after pass.

    Parameters
    ----------
    register : callable (n) -> expression
        Name n.
    """

    def __init__(self, register: Callable):
        self.register = register
        self.values: list[tirx.PrimExpr] = []
        self.order: list[int] = []

    def __call__(self, value):
        """Name a value: it is computed once."""
        self.order.append(len(self.values))
        self.values.append(value)
        return self.register(self.order[-1])

    def alternate(self, formulas: Sequence[Callable]) -> list:
        """Evaluate formulas, each waiting for itself alone, so that their statements alternate."""
        before, parts, results = self.order, [], []
        for formula in formulas:
            self.order = []
            results.append(formula())
            parts.append(self.order)
        rounds = zip_longest(*parts)
        self.order = before + [n for one in rounds for n in one if n is not None]
        return results


@dataclass(frozen=True, eq=False)
class _Entry:
    """An entry, or the greatest of several: its moments, r, and π of its entries."""

    mean: tirx.PrimExpr
    var: tirx.PrimExpr
    own: tirx.PrimExpr
    weights: dict[int, tirx.PrimExpr]


def greatest(
    name: str,
    shape: Sequence[int],
    tensors: Sequence[te.Tensor],
    constants: Sequence[te.Tensor],
    window: Callable,
    lanes: int,
    weights: int = 0,
    together: int = 2,
) -> list[te.Tensor]:
    """Moments of the greatest entry of every window, in one pass over whole vectors.

    Parameters
    ----------
    name : str
        Name of the block.
    shape : sequence of int
        Shape of the results, the batch first; the last axis is a multiple of the lanes.
    tensors, constants : sequences of tensors
        As in `kernels.program.loops.stage`.
    window : callable (buffers, index) -> Window
        Entries of the window at an index of `shape`; buffers are those of all tensors, constants
        last.
    lanes : int
    weights : int
        Number of entries, where their weights and the own variance are wanted.
    together : int
        Vectors whose statements alternate: each waits for the one before, and a processor that
        looks ahead computes two chains at once.

    Returns
    -------
    mean, var, and where they are wanted r and π of each entry; tensors of that shape
    """

    def results(name, ins, index):
        of_window = window(ins, index)
        mean, var = ([name(part) for part in parts] for parts in (of_window.mean, of_window.var))
        nan = name(nan_of(*mean, *var))
        one = _by_pairs(name, mean, var, of_window.apart)
        more = [one.own, *[one.weights[e] for e in range(weights)]] if weights else []
        return [one.mean + nan, one.var + nan, *more]

    def vectors(ins, outs, places):
        counted = _Statements(lambda n: tirx.Var("counted", "float32"))
        places = places if together > 1 else [places]
        results(counted, ins, places[0](tirx.const(0, "int32")))
        arrays = [[array(lanes) for _ in counted.values] for _ in places]
        with script.vectorized(lanes) as lane:
            written = [_Statements(lambda n, own=own: own[n][lane]) for own in arrays]
            values = [
                results(statements, ins, place(lane))
                for statements, place in zip(written, places, strict=True)
            ]
            for n in counted.order:
                for own, statements in zip(arrays, written, strict=True):
                    put(own[n], statements.values[n], lane)
            for place, of_vector in zip(places, values, strict=True):
                for out, value in zip(outs, of_vector, strict=True):
                    put(out, value, *place(lane))

    count = weights + 3 if weights else 2
    return loops.stage(name, shape, tensors, constants, count, lanes, vectors, together)


def _by_pairs(name: _Statements, mean: list, var: list, apart: dict) -> _Entry:
    """The greatest entry; writes the statements."""
    entries = [
        _Entry(m, v, f32(0.0), {e: f32(1.0)})
        for e, (m, v) in enumerate(zip(mean, var, strict=True))
    ]
    gamma = {pair: name(value) for pair, value in apart.items()}
    while len(entries) > 1:
        pairs = [
            partial(_greater, name, entries[i], entries[i + 1], gamma[i, i + 1])
            for i in range(0, len(entries) - 1, 2)
        ]
        rounds = name.alternate(pairs)
        gamma = _between(name, len(entries), gamma, rounds)
        entries = [one for one, *_ in rounds] + entries[2 * len(rounds) :]
    return entries[0]


def _greater(name: _Statements, one: _Entry, other: _Entry, gamma) -> tuple:
    """The greater of two, the weights of both, and γ₁₂ (h₀ − q)."""
    swap = other.mean > one.mean
    high, low = (name(end(one.mean, other.mean)) for end in (tirx.max, tirx.min))
    gap = name(high - low)
    theta, h0, h1, h2 = lower_rectified(name, gap, gamma, exact_argument=False)
    h0 = name(tirx.Select(gamma > f32(0.0), h0, f32(0.0)))
    h1 = name(h1)
    q = name(h2 - h1 * h1)
    rest = name(f32(1.0) - h0)
    share, other_share = name(tirx.Select(swap, h0, rest)), name(tirx.Select(swap, rest, h0))
    v_high = tirx.Select(swap, other.var, one.var)
    v_low = tirx.Select(swap, one.var, other.var)
    var = rest * v_high + (h0 * (v_low - gamma) + gamma * q)
    own = gamma * tirx.max(f32(0.0), q - h0 * h0)
    weights = {e: name(share * w) for e, w in one.weights.items()}
    weights |= {e: name(other_share * w) for e, w in other.weights.items()}
    entry = _Entry(
        mean=name(high + theta * h1),
        var=name(tirx.max(f32(0.0), var)),  # in this order NaN stays NaN
        own=name(share * share * one.own + (other_share * other_share * other.own + own)),
        weights=weights,
    )
    return entry, share, other_share, name(gamma * (h0 - q))


def _between(name: _Statements, count: int, gamma: dict, rounds: list[tuple]) -> dict:
    """γ between the greater ones of `count` entries; an odd one waits."""

    def to_entry(one: int, entry: int):
        if one == len(rounds):
            return of(2 * one, entry)
        return joined(one, of(2 * one, entry), of(2 * one + 1, entry))

    def of(i, j):
        return gamma[min(i, j), max(i, j)]

    def joined(one: int, gamma_1, gamma_2):
        _, share, other_share, less = rounds[one]
        return name(share * gamma_1 + (other_share * gamma_2 - less))

    result = {}
    for j in range(1, -(-count // 2)):
        for i in range(j):
            value = to_entry(i, 2 * j)
            if j < len(rounds):
                value = joined(j, value, to_entry(i, 2 * j + 1))
            result[i, j] = name(tirx.max(f32(0.0), value))
    return result
