"""Expected softmax, entropy and mutual information of Gaussian logits by quadrature, for any C.

Formulas
--------
Logits ℓ_c ~ N(m_c, s_c²) independent, p = softmax(ℓ), Λ = log Σ_c e^{ℓ_c}. Wanted are E[p_c] and

    SME = E[H(p)] = E[Λ] − Σ_c E[p_c ℓ_c] = Σ_c E[p_c (Λ − ℓ_c)],

C-dimensional integrals. Add to each logit a Gumbel variable of distribution function
G(y) = exp(−e^−y) and density g = G′. The greatest of the sums, ℓ_c + G_c, is that of class c with
probability p_c, and it lies in du with density g(u − Λ), independently of c (Gumbel's theorem; Luce
1959, Yellott 1977):

    g(u − ℓ_c) Π_{j≠c} G(u − ℓ_j) = p_c g(u − Λ).                                        (1)

For given u the left side is a product over classes, so its mean over logits is one as well. With

    F_c(u) = E[G(u − ℓ_c)],   f_c(u) = E[g(u − ℓ_c)],   d_c(u) = E[(u − γ − ℓ_c) g(u − ℓ_c)]

and the Gumbel law's mean γ (Euler's constant), integrating (1), and (1) times u − γ − ℓ_c, gives

    E[p_c] = ∫ f_c Π_{j≠c} F_j du,      E[p_c (Λ − ℓ_c)] = ∫ d_c Π_{j≠c} F_j du.          (2)

(Substituting u = −log t, F_c is the Laplace transform E[exp(−t e^{ℓ_c})] of a log-normal variable.)

Rules, and why they are accurate
--------------------------------
*In u*: the trapezoidal rule of step h. By (1) it errs, for any fixed ℓ, by p_c times its error for
g, which is at most 2 Σ_k |Γ(1 + 2πik/h)| (Poisson's formula; the transform of g is Γ(1 − iω)).
|Γ(1 + iy)|² = πy/sinh πy makes that 1.8e-16 at h = 1/4, whatever the means, spreads and C.

*In ℓ_c*: the normal law is replaced by weights w_i on points of a lattice of step η. By (1) the
result is that of the product lattice, which is never formed. As a function of one logit, p is a
logistic function, analytic in |Im ℓ| < π, so the trapezoidal rule w_i = η φ((ℓ_i − m)/s)/s errs by
2 exp(α²/2s² − 2πα/η), times a factor of order one, with α the smaller of π and 2πs²/η (the contour
moved by iα; Trefethen & Weideman 2014): below 1e-15 where η = 1/2 for s ≥ 1.2, 1/4 for s ≥ 0.35,
1/8 for s ≥ 0.175, 1/16 for s ≥ 0.0875. A smaller s takes 12 points of the last lattice around m,
w_i = E[L_i(ℓ)] with L_i Lagrange's polynomials, the mean by six Gauss–Hermite nodes: exact to
degree 11, error of order (12!/24!)^½ (s/π)¹² < 1e-16 and (η/π)¹² Π|i − ½|² < 1e-15.

All lattices and the nodes in u lie on multiples of 1/16, so G, g and (y − γ)g are read from one
table and each F_c is a discrete convolution. Beyond the table's end, y > 42, they are 1, e^−y and
(y − γ)e^−y to rounding and follow from step to step by recurrences; E[p_c] has *relative* accuracy
therefore, down to underflow.

The lattice covers m ± (8.5 + min(s, 8)) s: the normal law's 1e-17, moved by s as e^ℓ moves it.

Range
-----
E[p_c]: relative error below 1e-12 where s ≤ 8, absolute below 1e-13 beyond. SME: absolute error
below 1e-13 nats, so that a mutual information far below that is rounding. Time grows as C (2 +
max s), see `figures.softmax_error`, up to s = 16; inputs with a greater spread go to
`refbnn.prediction.softmax.wide`, whose time does not grow with it. Zero variances give the plain
softmax and its entropy exactly. C = 2 is no special case: the mean of a logistic function.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.polynomial.hermite_e import hermegauss
from scipy.special import entr, softmax

from refbnn.layers.moments import Moments
from refbnn.prediction.result import Prediction
from refbnn.prediction.softmax import wide
from refbnn.prediction.softmax.logits import centred

_WIDE = 16.0  # 3 ms an input of ten classes; `wide` takes 0.3 to 4
_FINE = 16  # lattice points a unit
_H = 4  # of them from one node in u to the next: h = 1/4
_FIRST, _LAST = -4, 42  # G(−4) = 2e-24, 1 − G(42) = 6e-19
_LENGTH = (_LAST - _FIRST) * _FINE // _H
_BLOCK = 512  # nodes in u at a time
# Step of the lattice in 1/16, for spreads from here up.
_STEPS = ((8, 1.2), (4, 0.35), (2, 0.175), (1, 0.0875))
_NOWHERE = -2e6  # so far below the greatest mean the probability underflows, whatever the spread
_POINTS = 12  # of Lagrange's polynomials
_NODES, _WEIGHTS = hermegauss(_POINTS // 2)
_WEIGHTS /= _WEIGHTS.sum()


def by_quadrature(logits: Moments) -> Prediction:
    """Softmax mean and mean softmax entropy of independent Gaussian logits (B, C).

    Raises
    ------
    InputError
        If the logits are not of shape (B, C) with C ≥ 1.
    """
    m, var = centred(logits)
    s = np.sqrt(var)
    p, sme = np.zeros(m.shape), np.zeros(len(m))
    is_wide = s.max(axis=1) > _WIDE
    p[~is_wide], sme[~is_wide] = _on_lattice(m[~is_wide], s[~is_wide])
    own_means = np.asarray(logits.mean[is_wide], dtype=float)
    p[is_wide], sme[is_wide] = wide.on_panels(own_means, s[is_wide])
    p /= p.sum(axis=1, keepdims=True)  # 1 but for the rules' errors
    known = ~s.any(axis=1)
    p[known] = softmax(m[known], axis=1)
    sme[known] = entr(p[known]).sum(axis=1)
    return Prediction(logits, p, np.maximum(sme, 0.0))


def _on_lattice(m: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """E[p] (B, C) and SME (B,) of logits with means m and spreads s, both (B, C)."""
    p, sme = np.zeros(m.shape), np.zeros(len(m))
    _integrate(m, s, _TABLE, _NODES, _WEIGHTS, p, sme)
    return p, sme


def _tabulate() -> np.ndarray:
    """G, g and (y − γ)g at y = (4k + r)/16 − 4, as an array [function, r, k]."""
    y = np.arange(_FIRST * _FINE, _LAST * _FINE) / _FINE
    G = np.exp(-np.exp(-y))
    g = np.exp(-y) * G
    table = np.stack([G, g, (y - np.euler_gamma) * g])
    return np.ascontiguousarray(table.reshape(3, _LENGTH, _H).transpose(0, 2, 1))


_TABLE = _tabulate()


@njit(cache=True)
def _step(s):
    """Step of the lattice for spread s, in 1/16; 0 where Lagrange's polynomials serve."""
    for step, least in _STEPS:
        if s >= least:
            return step
    return 0


@njit(cache=True)
def _extent(m, s):
    """First and last lattice point for N(m, s²), in 1/16."""
    step = _step(s)
    if step == 0:
        first = math.floor(m * _FINE) - _POINTS // 2 + 1
        return first, first + _POINTS - 1
    reach = (8.5 + min(s, 8.0)) * s
    return step * math.ceil((m - reach) * _FINE / step), step * math.floor(
        (m + reach) * _FINE / step
    )


@njit(cache=True)
def _weight(j, first, m, s, nodes, weights):
    """Weight of lattice point j/16 for N(m, s²)."""
    step = _step(s)
    if step:
        z = (j / _FINE - m) / s
        return step / (_FINE * s) * math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    total = 0.0
    for i in range(len(nodes)):
        x, weight = (m + s * nodes[i]) * _FINE, weights[i]
        for other in range(first, first + _POINTS):
            if other != j:
                weight *= (x - other) / (j - other)
        total += weight
    return total


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _integrate(means, spreads, table, nodes, weights, p, sme):
    """Equations (2) for every row; p (B, C) and sme (B,) start at zero."""
    classes = means.shape[1]
    values = np.empty((classes, 3, _BLOCK))  # F, f, d at the nodes of a block
    state = np.empty((classes, 3))  # of points beyond the table: Σw, Σw e^−y, Σw y e^−y
    for row in range(len(means)):
        m, s = means[row], spreads[row]
        # Nodes u = k/4: below the first, some F_c is negligible, beyond the last, all 1 − F_c are.
        lowest, highest = -math.inf, -math.inf
        for c in range(classes):
            if m[c] > _NOWHERE:
                first, last = _extent(m[c], s[c])
                lowest, highest = max(lowest, first), max(highest, last)
        k_first = math.floor((lowest + _FIRST * _FINE) / _H)
        k_stop = math.ceil((highest + _LAST * _FINE) / _H) + 1
        entropy = 0.0
        for k in range(k_first, k_stop, _BLOCK):
            size = min(_BLOCK, k_stop - k)
            for c in range(classes):
                if k == k_first:
                    _start(k, m[c], s[c], nodes, weights, state[c])
                _fill(k, size, m[c], s[c], table, nodes, weights, state[c], values[c])
            for i in range(size):
                product = 1.0
                for c in range(classes):
                    product *= values[c, 0, i]
                if product != 0.0:
                    for c in range(classes):
                        ratio = product / values[c, 0, i]
                        p[row, c] += ratio * values[c, 1, i]
                        entropy += ratio * values[c, 2, i]
        sme[row] = entropy * _H / _FINE
        p[row] *= _H / _FINE


@njit(cache=True)
def _start(k, m, s, nodes, weights, state):
    """Set the state at node k − 1 from the points that lie beyond the table there."""
    state[:] = 0.0, 0.0, 0.0
    if m <= _NOWHERE:
        state[0] = 1.0
        return
    first, last = _extent(m, s)
    step = max(_step(s), 1)
    for j in range(first, min(last, _H * (k - 1) - _LAST * _FINE) + 1, step):
        y = (_H * (k - 1) - j) / _FINE
        w = _weight(j, first, m, s, nodes, weights)
        state[0] += w
        state[1] += w * math.exp(-y)
        state[2] += w * math.exp(-y) * y


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _fill(k, size, m, s, table, nodes, weights, state, values):
    """F, f and d of N(m, s²) at nodes k … k + size − 1; the state moves to the last of them."""
    F, f, d = values
    arrived = np.zeros((3, size))
    F[:size], f[:size], d[:size] = 0.0, 0.0, 0.0
    if m > _NOWHERE:
        first, last = _extent(m, s)
        step = max(_step(s), 1)
        least = _H * (k - 1) - _LAST * _FINE + 1  # earlier ones are in the state
        begin = first + step * max(0, -((first - least) // step))
        end = min(last, _H * (k + size - 1) - _FIRST * _FINE)
        for j in range(begin, end + 1, step):
            w = _weight(j, first, m, s, nodes, weights)
            offset = _H * k - j - _FIRST * _FINE  # 1/16 from the table's start to node k
            phase, skip = offset % _H, offset // _H
            start, stop = max(0, -skip), min(size, _LENGTH - skip)
            for i in range(start, stop):
                F[i] += w * table[0, phase, i + skip]
                f[i] += w * table[1, phase, i + skip]
                d[i] += w * table[2, phase, i + skip]
            if stop < size:
                y = (_H * (k + stop) - j) / _FINE
                arrived[0, stop] += w
                arrived[1, stop] += w * math.exp(-y)
                arrived[2, stop] += w * math.exp(-y) * y
    total, near, far = state
    h = _H / _FINE
    for i in range(size):
        total += arrived[0, i]
        far = math.exp(-h) * (far + h * near) + arrived[2, i]
        near = math.exp(-h) * near + arrived[1, i]
        F[i] += total
        f[i] += near
        d[i] += far - np.euler_gamma * near
    state[:] = total, near, far
