"""E[log p], E[s_p] and E[z s_p] at θ = µ + σz for millions of weights, by loops over panels.

Formulas
--------
Log p = c₀ + c₂θ² + f, s_p = (log p)′. The parabola gives c₀ + c₂(µ² + σ²), 2c₂µ and 2c₂σ. E[f],
E[f′] and E[z f′] are sums over panels of `refbnn.training.kl.adaptive_rules`, chosen by the
singularities of f in the complex plane, mapped to z = (θ − µ)/σ:

*Student's t*: f = −½(ν+1) log(1 + θ²/a²), a = √ν s; poles of f′ at ±ia.

*Scale mixture*: f = log(1 + e^ℓ), ℓ = L − ½Dθ². 1 + e^ℓ vanishes where ℓ = ∓(2k+1)πi, so

    θ² = 2(L ± (2k+1)πi)/D:

from k = 0 outwards on the hyperbola (Re θ)² − (Im θ)² = 2L/D. The whole branch from k = 0 on is
treated as singular. Its point nearest to a real X has Re θ = X/2, which minimises
(x − X)² + x² − 2L/D, unless this lies before k = 0. Panels in which ℓ < −38 add less than rounding.

*Device*: f = α log(1 + y) + β log(1 − y) + g(y), y linear in θ; singular at the ends of the prior's
support. Rules must be exact for the degree of g, too.

Range
-----
The range is that of `refbnn.training.kl.adaptive_rules`. A weight costs 0.1 µs while σ is a tenth
of the prior's features, 0.5 to 1.5 µs where they are alike, 2 µs where σ is a hundred times as
large.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from refbnn.training.kl.adaptive_rules import MAX_LEVEL, ORDERS, STARTS, LawTree

STUDENT, MIXTURE, DEVICE = 0, 1, 2

_NEGLIGIBLE = -38.0  # e to this is 3e-17

_scalar = njit(cache=True, inline="always", error_model="numpy")


@_scalar
def _student(par, theta):
    """f and f′; par = (a, (ν+1)/2)."""
    t = theta / par[0]
    u = 1.0 + t * t
    return -par[1] * math.log1p(t * t), -2.0 * par[1] * t / (u * par[0])


@_scalar
def _mixture(par, theta):
    """f and f′; par = (L, D, Re and Im of the first singularity)."""
    e = math.exp(par[0] - 0.5 * par[1] * theta * theta)
    u = 1.0 + e
    return math.log(u), -par[1] * theta * e / u


@_scalar
def _device(par, theta):
    """f and f′; par = (low, high, dy/dθ, α, β, c₀, c₁, …)."""
    slope = par[2]
    lower, upper = slope * (theta - par[0]), slope * (par[1] - theta)  # 1 + y and 1 − y
    y = 0.5 * (lower - upper)
    # Clenshaw, for g and its derivative.
    b1 = b2 = d1 = d2 = 0.0
    for k in range(par.size - 1, 5, -1):
        d1, d2 = 2.0 * (y * d1 + b1) - d2, d1
        b1, b2 = 2.0 * y * b1 - b2 + par[k], b1
    f, df = y * b1 - b2 + par[5], b1 + y * d1 - d2
    if par[3] != 0.0:
        f += par[3] * math.log(lower)
        df += par[3] / lower
    if par[4] != 0.0:
        f += par[4] * math.log(upper)
        df -= par[4] / upper
    return f, slope * df


@_scalar
def _singularities(kind, par, low, high):
    """Real and imaginary part of the two singularities of f nearest to low ≤ θ ≤ high."""
    if kind == STUDENT:
        return 0.0, par[0], 0.0, par[0]
    if kind == MIXTURE:
        if low <= 0.0 <= high:
            return -par[2], par[3], par[2], par[3]
        end = low if low > 0.0 else high
        x_1, y_1 = _on_hyperbola(par, end)
        x_2, y_2 = _on_hyperbola(par, 0.5 * (low + high))
        return x_1, y_1, x_2, y_2
    x_1 = par[0] if par[3] != 0.0 else -np.inf
    x_2 = par[1] if par[4] != 0.0 else np.inf
    return x_1, 0.0, x_2, 0.0


@_scalar
def _on_hyperbola(par, theta):
    """Point nearest to a real θ on the hyperbola of the mixture's singularities."""
    x = 0.5 * abs(theta)
    if x <= par[2]:
        return math.copysign(par[2], theta), par[3]
    return 0.5 * theta, math.sqrt(x * x - 2.0 * par[0] / par[1])


@_scalar
def _vanishes(kind, par, low, high):
    """Whether f is below rounding for all θ in [low, high]."""
    if kind != MIXTURE:
        return False
    theta = max(low, -high, 0.0)
    return par[0] - 0.5 * par[1] * theta * theta < _NEGLIGIBLE


@dataclass(frozen=True)
class Form:
    """Log p in the form that the loops take.

    Parameters
    ----------
    kind : int
        STUDENT, MIXTURE or DEVICE.
    parabola : (float, float)
        c₀ and c₂.
    parameters : tuple of float
        Parameters of f, as the scalar function of this kind names them.
    degree : int
        Degree of the polynomial in f.
    """

    kind: int
    parabola: tuple[float, float]
    parameters: tuple[float, ...]
    degree: int = 0


def expectations(
    form: Form, tree: LawTree, mu: np.ndarray, sigma: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the expectations of all weights, splitting panels of the law until they suffice.

    Parameters
    ----------
    form : Form
    tree : LawTree
        Refined where these weights need smaller panels than those before.
    mu, sigma : (N,)

    Returns
    -------
    sums : (3, N)
        E[log p], E[s_p], E[z s_p].
    unresolved : (K,) of int
        Weights that the smallest panels do not resolve, so that their sums are incomplete.
    """
    par = np.array(form.parameters)
    first = int(np.searchsorted(2 * np.array(ORDERS) - 1, form.degree))
    c_0, c_2 = form.parabola
    sums = np.empty((3, mu.size))
    blocking = np.empty(mu.size, dtype=np.int64)
    every = np.arange(mu.size)
    # A thousandth of the weights already asks for most of the panels.
    for todo in (every[::1000], every):
        while True:
            wanted = np.zeros(len(tree.child), dtype=bool)
            _sum_panels(
                form.kind, par, first, STARTS, MAX_LEVEL, todo, mu, sigma,
                tree.ends, tree.child, tree.nodes, tree.weights, tree.limits,
                wanted, blocking, sums,
            )  # fmt: skip
            todo = todo[blocking[todo] >= 0]
            panels = np.flatnonzero(wanted & tree.divisible)
            if not panels.size:
                break
            tree.split(panels)
    sums[0] += c_0 + c_2 * (np.square(mu) + np.square(sigma))
    sums[1] += 2.0 * c_2 * mu
    sums[2] += 2.0 * c_2 * sigma
    return sums, todo


@_scalar
def _resolves(nodes, p, start, stop, x_1, y_1, x_2, y_2, limit):
    """Whether a rule of panel p is accurate for both singularities."""
    product_1 = product_2 = 1.0
    for j in range(start, stop):
        d_1, d_2 = x_1 - nodes[p, j], x_2 - nodes[p, j]
        product_1 *= d_1 * d_1 + y_1 * y_1
        product_2 *= d_2 * d_2 + y_2 * y_2
    return min(product_1, product_2) >= limit


@njit(cache=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _sum_panels(
    kind, par, first, starts, max_level, todo, mu, sigma,
    ends, child, nodes, weights, limits,
    wanted, blocking, sums,
):  # fmt: skip
    """Sum over panels, weight by weight.

    Parameters
    ----------
    kind, par
        Kind and parameters of f.
    first : int
        Index of the least rule that is exact for the polynomial in f.
    starts, max_level
        Constants of `refbnn.training.kl.adaptive_rules`; compiled code would cache old ones.
    todo : (K,) of int
        Weights to compute, among those of mu and sigma, (N,).
    ends, child, nodes, weights, limits
        Arrays of a `LawTree`.
    wanted : (P,) of bool
        Set for panels that have to be split first.
    blocking : (N,) of int
        Set to such a panel, or to −1 where the expectations are complete.
    sums : (3, N)
        E[f], E[f′], E[z f′].
    """
    stack = np.empty(max_level + 2, np.int64)
    for i in todo:
        m, s = mu[i], sigma[i]
        value = slope = moment = 0.0
        blocking[i] = -1
        stack[0], height = 0, 1
        while height:
            height -= 1
            p = stack[height]
            low, high = m + s * ends[p, 0], m + s * ends[p, 1]
            if _vanishes(kind, par, low, high):
                continue
            x_1, y_1, x_2, y_2 = _singularities(kind, par, low, high)
            x_1, y_1, x_2, y_2 = (x_1 - m) / s, y_1 / s, (x_2 - m) / s, y_2 / s
            order = first
            while order < starts.size - 1 and not _resolves(
                nodes, p, starts[order], starts[order + 1], x_1, y_1, x_2, y_2, limits[p, order]
            ):
                order += 1
            if order < starts.size - 1:
                # One loop a kind: a branch within costs a tenth, a function for all three a fifth.
                if kind == STUDENT:
                    for j in range(starts[order], starts[order + 1]):
                        z = nodes[p, j]
                        f, df = _student(par, m + s * z)
                        df *= weights[p, j]
                        value += weights[p, j] * f
                        slope += df
                        moment += z * df
                elif kind == MIXTURE:
                    for j in range(starts[order], starts[order + 1]):
                        z = nodes[p, j]
                        f, df = _mixture(par, m + s * z)
                        df *= weights[p, j]
                        value += weights[p, j] * f
                        slope += df
                        moment += z * df
                else:
                    for j in range(starts[order], starts[order + 1]):
                        z = nodes[p, j]
                        f, df = _device(par, m + s * z)
                        df *= weights[p, j]
                        value += weights[p, j] * f
                        slope += df
                        moment += z * df
            elif child[p]:
                stack[height], stack[height + 1] = child[p], child[p] + 1
                height += 2
            else:
                wanted[p] = True
                blocking[i] = p
        sums[0, i], sums[1, i], sums[2, i] = value, slope, moment
