"""Expected softmax, entropy and mutual information of independent Gaussian logits, in float32.

Formulas
--------
As in `refbnn.prediction.softmax.quadrature`: a Gumbel variable of distribution function
G(y) = exp(−e^−y) and density g is added to each logit ℓ_c ~ N(m_c, s_c²), and with

    F_c(u) = E[G(u − ℓ_c)],   f_c(u) = E[g(u − ℓ_c)],   E[p_c] = ∫ f_c Π_{j≠c} F_j du.

The mean entropy is there a sum of integrals that cancel where one class is almost certain. Here it
is taken from the class r of the greatest mean: H(p) = (Λ − ℓ_r) + Σ_{c≠r} p_c (ℓ_r − ℓ_c), and

    E[Λ − ℓ_r] = ∫ F_r (1 − Π_{j≠r} F_j) du                                             (1)
    E[p_c (ℓ_r − ℓ_c)] = ∫ (f_c A_r − a_c F_r) Π_{j≠c,r} F_j du                         (2)
    A_r(u) = E[ℓ_r G(u − ℓ_r)],   a_c(u) = E[ℓ_c g(u − ℓ_c)].

(1): Λ + γ and ℓ_r + γ are the means of the greatest of all sums and of that of class r, and the
difference of two means is the integral of the difference of their distribution functions. The
integrand is positive, and 1 − ΠF_j is formed from the H_j = 1 − F_j: (1 − Q) ← (1 − Q) + H_j Q. So
the entropy keeps its relative accuracy, and MI, a difference, an absolute one of rounding × H.

Rules
-----
*In u*, the trapezoidal rule of step ½: it errs by 2 Σ_k |Γ(1 + 4πik)| = 5e-8, relative to E[p_c].

*In ℓ_c*, the trapezoidal rule on multiples of η = ¼ for s < 0.46, ½ for s < 1.15, 1 beyond. It
errs by 2 exp(α²/2s² − 2πα/η), α = min(π, 2πs²/η): at most 2e-10, 1e-7 and 2e-7. Its points lie
within m − 5.8 s and m + (5.8 + min(s, 2)) s. Where s < 0.3, eight points around m take the weights
E[L_i(ℓ)], L_i Lagrange's polynomials, the mean by four Gauss–Hermite nodes: an error of order
(4!/8!) 8! (s/π)⁸ = 2e-7.

All u − ℓ are multiples of ¼, and G, 1 − G and g are read from a table of −3 ≤ y < 45, in whole
vectors of nodes: each F_c is a discrete convolution, whose weights alone need exponentials. Below,
G < 2e-9 counts as 0, and beyond, as 1.

MI of small variances, all below 10⁻³, is ½ Σ_c v_c p_c (1 − p_c) (second order of δp; the next
order is v times as much), as the difference of H(p̄) and its mean loses its digits there.

Range
-----
s ≤ 16, and s ≤ 500/C for C > 31 classes (`widest`); the row of a greater one is marked, and has
results without meaning. Absolute errors: 3e-7 of E[p_c]; of SME and MI 1e-6 for s ≤ 2 and 1e-5 up
to the limit, as (1) grows with s and C. E[p_c] below 1e-12 counts as 0. A row of ten classes takes
1.2 µs for s ≤ 0.5, 2.5 µs for s = 1 and 15 µs for s = 5, with AVX-512.
"""

from __future__ import annotations

from contextlib import contextmanager
from math import factorial

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from tvm import te, tirx
from tvm.script.ir_builder import tirx as script

from kernels.arithmetic.polynomials import f32
from kernels.arithmetic.statements import array, let, put
from kernels.prediction.entropy import entropy, exp_of_minus
from kernels.program import loops
from kernels.program.program import Program, Step

_WIDEST, _WIDEST_TIMES_CLASSES = 16.0, 500.0
_UNIT = 4  # lattice points a unit
_NODES = 16  # in u, of one step of the loop: 8 units
_FIRST, _LAST = -3, 45  # of the table
_ENOUGH = 17  # 1 − G(17) = 4e-8
_NARROW, _MIDDLE, _BROAD = 0.3, 0.46, 1.15
_REACH, _SHIFT = 5.8, 2.0
_FAR = 1e4  # probabilities are 0 long before
_POINTS = 8
_SMALL = 1e-3  # variance
_M, _V, _S = range(3)  # rows of the logits
_START, _STEP, _NUMBER = range(3)  # rows of the lattices
_G, _REST, _SLOPE = range(3)  # functions of the table: G, 1 − G, g
_W, _WL = range(2)  # weights, without and with ℓ
_POSITION, _SHARE = hermegauss(_POINTS // 2)
_SHARE = _SHARE / _SHARE.sum()
_MOST = 256  # lattice points: (2 · 5.8 + 2) · 16 and one vector


def widest(classes: int) -> float:
    """Greatest standard deviation of a logit that the rule takes."""
    return min(_WIDEST, _WIDEST_TIMES_CLASSES / classes)


def _table() -> np.ndarray:
    """G, 1 − G and g for y = i/2 + phase/4 + constant: [phase, function, i]."""
    entries = (_LAST - _FIRST) * _UNIT // 2
    i = np.arange(-_NODES, entries + _NODES)
    y = _FIRST + 0.5 * i + np.array([[0.0], [0.25]])
    t = np.exp(-np.maximum(y, _FIRST))
    G = np.exp(-t)
    table = np.stack([G, -np.expm1(-t), t * G], axis=1)
    table[:, :, i < 0] = np.array([0.0, 1.0, 0.0])[:, np.newaxis]
    table[:, :, i >= entries] = np.array([1.0, 0.0, 0.0])[:, np.newaxis]
    return table


_TABLE = _table()
_END = _TABLE.shape[-1] - _NODES
# 1/Π_{o≠i}(i − o) of Lagrange's polynomials.
_OVER = np.zeros(_NODES)
_OVER[:_POINTS] = [
    (-1.0) ** (_POINTS - 1 - i) / (factorial(i) * factorial(_POINTS - 1 - i))
    for i in range(_POINTS)
]


def add(
    program: Program, mean: te.Tensor, var: te.Tensor | None, n_outputs: int, name: str
) -> tuple[te.Tensor, te.Tensor]:
    """Statistics of the classes of n outputs; of two classes by one, the logit of the second.

    Parameters
    ----------
    program : Program
    mean, var : tensors (batch, outputs padded)
        Moments of the outputs; no variance where they are known.
    n_outputs : int
    name : str
        Name of the block.

    Returns
    -------
    p : tensor (batch, classes padded)
    statistics : tensor (4, batch)
        Mean entropy, entropy, mutual information, and 1 for a row too wide, else 0.
    """
    classes, lanes = max(2, n_outputs), program.target.lanes
    width = -(-classes // lanes) * lanes
    constants = [program.weight(f"{name}_table", _TABLE), program.weight(f"{name}_rule", _OVER)]
    rows = int(mean.shape[0])
    results = [((rows, width), "float32")]
    work = [((4, rows), "float32"), ((2, classes, _MOST), "float32"), ((3, width), "int32")]
    work += [((3, width), "float32"), ((classes, 4, _NODES), "float32")]
    work += [((classes, _NODES), "float32")]
    moments = [mean] if var is None else [mean, var]

    def body(ins, outs, row):
        *moments, table, over = ins
        _Row(moments, table, over, outs, row, n_outputs, lanes).write()

    p, statistics, *_ = loops.by_rows(name, rows, moments, constants, results, work, body)
    program.steps.append(Step(f"softmax {rows}x{n_outputs}", {}, {}, lambda *_: None))
    return p, statistics


class _Row:
    """Statements for one row: buffers, and the parts of the computation in their order.

    Slot 0 of the work arrays is class r, and slot r class 0.
    """

    def __init__(self, moments, table, over, outs, row, n_outputs: int, lanes: int):
        self.moments, self.table, self.over, self.row = moments, table, over, row
        self.p, self.statistics = outs[:2]
        # Weights; lattices; logits; F, f, a, and 1 − F, then products; sums of E[p].
        self.w, self.lattice, self.logits, self.values, self.sums = outs[2:]
        self.n_outputs, self.lanes = n_outputs, lanes
        self.classes, self.width = max(2, n_outputs), self.p.shape[1]
        self.widest = widest(self.classes)

    def write(self) -> None:
        """Write all statements."""
        best = self._read()
        self._lattices()
        with script.serial(self.classes) as c:
            self._weights(c)
        self._finish(best, *self._integrate())

    @contextmanager
    def _slots(self):
        """Loop over all slots, whole vectors at a time; gives the slot."""
        with script.serial(self.width // self.lanes) as g, script.vectorized(self.lanes) as lane:
            yield g * self.lanes + lane

    def _read(self) -> tirx.Buffer:
        """Read the moments into slots; (1,), the class of slot 0."""
        m, best = self.logits, script.alloc_buffer((1,), "int32")
        one_logit = self.n_outputs == 1
        with self._slots() as c:
            for part in range(2):
                if part >= len(self.moments):
                    value = f32(0.0)
                elif one_logit:  # the logits 0 and z
                    value = tirx.Select(c == 1, self.moments[part][self.row, 0], f32(0.0))
                else:
                    value = self.moments[part][self.row, c]
                put(m, tirx.Select(c < self.classes, value, f32(0.0)), part, c)
        put(best, tirx.const(0, "int32"), 0)
        with script.serial(1, self.classes) as c:
            put(best, tirx.Select(m[_M, c] > m[_M, best[0]], c, best[0]), 0)
        for part in range(2):
            greatest = let(m[part, best[0]])
            put(m, m[part, 0], part, best[0])
            put(m, greatest, part, 0)
        top = let(m[_M, 0])
        with self._slots() as c:
            gap, s = let(m[_M, c] - top), let(tirx.sqrt(m[_V, c]))
            # In this order NaN becomes a number too.
            put(m, tirx.Select(gap > f32(-_FAR), gap, f32(-_FAR)), _M, c)
            put(m, tirx.Select(s <= f32(self.widest), s, f32(2.0 * self.widest)), _S, c)
        return best

    def _lattices(self) -> None:
        """Find the lattices: first point and step in quarters, and number of points."""
        with self._slots() as c:
            m, s = self.logits[_M, c], let(tirx.min(self.logits[_S, c], f32(self.widest)))
            fine, coarse = tirx.Select(s < f32(_BROAD), f32(2.0), f32(4.0)), s < f32(_MIDDLE)
            step = let(tirx.Select(coarse, f32(1.0), fine))
            per_unit = let(f32(_UNIT) / step)
            low = let(tirx.ceil((m - f32(_REACH) * s) * per_unit))
            reach = f32(_REACH) + tirx.min(s, f32(_SHIFT))
            number = tirx.floor((m + reach * s) * per_unit) - low + f32(1.0)
            narrow = s < f32(_NARROW)
            around = tirx.floor(f32(_UNIT) * m) - f32(_POINTS // 2 - 1)
            put(self.lattice, tirx.Select(narrow, around, low * step).astype("int32"), _START, c)
            put(self.lattice, step.astype("int32"), _STEP, c)
            put(self.lattice, tirx.Select(narrow, f32(_POINTS), number).astype("int32"), _NUMBER, c)

    def _weights(self, c) -> None:
        """Weights of slot c; a class without influence takes one point."""
        first, step, number = (self.lattice[part, c] for part in range(3))
        last = first + step * (number - 1)
        m, s = self.logits[_M, c], self.logits[_S, c]
        with script.If(last < self.lattice[_START, 0] + _UNIT * (_FIRST - _LAST)):
            with script.Then():
                put(self.lattice, tirx.const(1, "int32"), _NUMBER, c)
                put(self.w, f32(1.0), _W, c, 0)
                put(self.w, f32(0.0), _WL, c, 0)
            with script.Else(), script.If(s < f32(_NARROW)):
                with script.Then(), script.vectorized(_NODES) as lane:
                    point = let((first + lane).astype("float32") * f32(1.0 / _UNIT))
                    weight = let(self._of_polynomials(m, s, first, lane))
                    put(self.w, weight, _W, c, lane)
                    put(self.w, weight * point, _WL, c, lane)
                with script.Else():
                    over = let(f32(1.0) / tirx.min(s, f32(self.widest)))
                    share = let(step.astype("float32") * over * f32(0.25 / np.sqrt(2.0 * np.pi)))
                    vectors = (number + _NODES - 1) // _NODES
                    with script.serial(vectors) as g, script.vectorized(_NODES) as lane:
                        j = g * _NODES + lane
                        point = (first + step * j).astype("float32")
                        point = let(point * f32(1.0 / _UNIT))
                        z = let((point - m) * over)
                        weight = let(share * exp_of_minus(f32(0.5) * z * z))
                        put(self.w, weight, _W, c, j)
                        put(self.w, weight * point, _WL, c, j)

    def _of_polynomials(self, m, s, first, i):
        """E[L_i(ℓ)] by Gauss–Hermite nodes."""
        total = f32(0.0)
        for position, share in zip(_POSITION, _SHARE, strict=True):
            x = let((m + s * f32(position)) * f32(_UNIT) - first.astype("float32"))
            product = f32(share)
            for other in range(_POINTS):
                product = product * tirx.Select(i == other, f32(1.0), x - f32(other))
            total = let(total + product)
        return total * self.over[i]

    def _integrate(self) -> tuple[tirx.Buffer, tirx.Buffer]:
        """Add up all integrands over the nodes: E[p], and (1) and (2), returned, (16,) each."""
        zero, one, f = f32(0.0), f32(1.0), self.values
        ahead, behind, run, rest = (array(_NODES) for _ in range(4))
        first = let(self.lattice[_START, 0] + _UNIT * _FIRST)
        last = script.alloc_buffer((1,), "int32")
        put(last, first, 0)
        with script.serial(self.classes) as c:
            end = self.lattice[_START, c] + self.lattice[_STEP, c] * (self.lattice[_NUMBER, c] - 1)
            put(last, tirx.max(last[0], end), 0)
        with script.vectorized(_NODES) as lane:
            put(ahead, zero, lane)
            put(behind, zero, lane)
        with script.serial(self.classes) as c, script.vectorized(_NODES) as lane:
            put(self.sums, zero, c, lane)

        per_step = _NODES * _UNIT // 2
        steps = (last[0] + _UNIT * _ENOUGH - first) // per_step + 1
        with script.serial(steps) as step:
            start = let(first + per_step * step)
            self._convolve(tirx.const(0, "int32"), start, [(_W, _G), (_W, _SLOPE), (_WL, _G)])
            with script.vectorized(_NODES) as lane:
                put(run, one, lane)
                put(rest, zero, lane)
            with script.serial(1, self.classes) as c:
                self._convolve(c, start, [(_W, _G), (_W, _SLOPE), (_WL, _SLOPE), (_W, _REST)])
                with script.vectorized(_NODES) as lane:
                    complement = f[c, 3, lane]
                    put(rest, rest[lane] + complement * (one - rest[lane]), lane)
                    put(f, run[lane], c, 3, lane)
                    put(run, run[lane] * f[c, 0, lane], lane)
            with script.vectorized(_NODES) as lane:
                put(self.sums, self.sums[0, lane] + f[0, 1, lane] * run[lane], 0, lane)
                put(ahead, ahead[lane] + f[0, 0, lane] * rest[lane], lane)
                put(run, one, lane)
            with script.serial(self.classes - 1) as back:
                c = self.classes - 1 - back
                with script.vectorized(_NODES) as lane:
                    others = let(f[c, 3, lane] * run[lane])
                    own, slope = f[0, 0, lane], f[c, 1, lane]
                    put(self.sums, self.sums[c, lane] + slope * others * own, c, lane)
                    term = slope * f[0, 2, lane] - f[c, 2, lane] * own
                    put(behind, behind[lane] + others * term, lane)
                    put(run, run[lane] * f[c, 0, lane], lane)
        return ahead, behind

    def _convolve(self, c, start, terms: list[tuple[int, int]]) -> None:
        """Sums of slot c at the nodes from `start`, each of w or wℓ and a function of the table."""
        sums = [array(_NODES) for _ in terms]
        with script.vectorized(_NODES) as lane:
            for total in sums:
                put(total, f32(0.0), lane)
        first = let(start - self.lattice[_START, c] - _UNIT * _FIRST + 2 * _NODES)
        step = let(self.lattice[_STEP, c])
        with script.serial(self.lattice[_NUMBER, c]) as j:
            offset = let(first - step * j)
            phase = let(tirx.bitwise_and(offset, tirx.const(1, "int32")))
            half = tirx.shift_right(offset, tirx.const(1, "int32"))
            i = let(tirx.max(0, tirx.min(half, _END)))
            with script.vectorized(_NODES) as lane:
                values = [let(self.table[phase, function, i + lane]) for function in range(3)]
                for total, (weight, function) in zip(sums, terms, strict=True):
                    put(total, total[lane] + self.w[weight, c, j] * values[function], lane)
        with script.vectorized(_NODES) as lane:
            for part, total in enumerate(sums):
                put(self.values, total[lane], c, part, lane)

    def _finish(self, best: tirx.Buffer, ahead: tirx.Buffer, behind: tirx.Buffer) -> None:
        """Normalise; entropies; put the classes into their order."""
        zero, one, half = f32(0.0), f32(1.0), f32(0.5)
        logits, p = self.logits, array(int(self.width))
        totals = [array(1) for _ in range(6)]
        rest, spread, lead, lag, v_most, s_most = totals
        for total in totals:
            put(total, zero, 0)
        with self._slots() as c:
            put(p, zero, c)
        with script.serial(_NODES) as lane:
            put(lead, lead[0] + ahead[lane], 0)
            put(lag, lag[0] + behind[lane], 0)
        with script.serial(self.classes) as c:
            with script.serial(_NODES) as lane:
                put(p, p[c] + self.sums[c, lane], c)
            put(v_most, tirx.max(v_most[0], logits[_V, c]), 0)
            put(s_most, tirx.max(s_most[0], logits[_S, c]), 0)
        with script.serial(1, self.classes) as c:
            put(rest, rest[0] + p[c], 0)
        # Weights sum to 1 but for rounding. All of them are factors of E[p] and (2), not of (1).
        share = let(one / (rest[0] + p[0]))
        with self._slots() as c:
            put(p, tirx.max(p[c] * share, zero), c)
        with script.serial(1, self.classes) as c:
            put(spread, spread[0] + logits[_V, c] * p[c] * (one - p[c]), 0)
        others = let(rest[0] * share)
        of_mean = let(entropy(p, 0, self.classes, self.lanes))
        mean = let(tirx.max(half * lead[0] + share * lag[0], zero))
        by_order = half * (spread[0] + logits[_V, 0] * p[0] * others)
        mutual = tirx.Select(v_most[0] < f32(_SMALL), by_order, tirx.max(of_mean - mean, zero))
        too_wide = tirx.Select(s_most[0] > f32(self.widest), one, zero)
        for index, value in enumerate((mean, of_mean, mutual, too_wide)):
            put(self.statistics, value, index, self.row)
        with self._slots() as c:
            put(self.p, p[c], self.row, c)
        put(self.p, p[best[0]], self.row, 0)
        put(self.p, p[0], self.row, best[0])
