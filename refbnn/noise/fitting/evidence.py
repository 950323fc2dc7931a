"""Standard errors of a fitted law, and the test that can refute it.

Cells
-----
M − 1 points e_k cut the line into cells of probability p_k. With F(e; θ) the fitted distribution
function and g = ∂F/∂θ, the increments Δg_k = ∂p_k/∂θ hold all that the counts c_k of n values say
about θ: multinomial counts have score Σ_k c_k Δg_k/p_k and information n I,

    I = Σ_k Δg_k Δg_kᵀ/p_k  →  E[score scoreᵀ]  as the cells become narrow.

Standard errors
---------------
√diag(I⁻¹)/√n (Fisher 1925), for regular parameters inside their bounds. An edge with an exponent of
at most 1 has none: the scale of its uncertainty is the distance from the edge of the fitted law's
1/n-quantile, within which the outermost value lies with probability 1 − 1/e. Directions that the
cells do not resolve (an eigenvalue of the correlation matrix of scores below 1e-8) have none.

The Kolmogorov–Smirnov test
---------------------------
D = max_k |F_n(e_k) − F(e_k; θ̂)|. Its textbook p-value assumes a law known beforehand. A fitted law
follows the data, so D is smaller and that p-value too large. To first order θ̂ − θ = I⁻¹ s̄,
with s̄ the mean score, and (Durbin 1973)

    F_n(e) − F(e; θ̂) = F_n(e) − F(e; θ) − g(e)ᵀ I⁻¹ s̄ + O(1/n).

The law of D is simulated: counts of n values in the cells, multinomial under the fitted law, less
their projection on Δg; the p-value is the share of replicates with a D no less than that observed.

*Steps.* Data that an instrument rounds to steps of h differ from any smooth law between steps, not
at their boundaries. So the points are the M-quantiles of the fitted law, each moved to the nearest
number that is at least h/2 from either neighbouring value. For untied data h is the least spacing,
and the shifts are negligible.

The test assumes independent values, and known edges where these are not regular: they converge
faster than 1/√n, so they move F by less than the projection does (`verification.calibration`
measures the level that is reached).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refbnn.noise.fitting.estimate import Estimate
from refbnn.noise.fitting.sample import Sample
from refbnn.numerics.random.streams import stream

REPLICATES = 1000
P_FLOOR = 1.0 / (1 + REPLICATES)  # least p-value that as many replicates can give
_CELLS = 1000
_LEAST_CELL = 1e-9  # narrower ones, between moved points, would show rounding
_STEP = 1e-4  # of a parameter's unit: central differences good to 1e-8 of the derivative
_LEAST_EIGENVALUE = 1e-8  # of the correlation matrix of scores: rounding of the differences


@dataclass(frozen=True, eq=False)
class Cells:
    """M cells of the fitted law and their dependence on the f free parameters."""

    edges: np.ndarray  # (M − 1,): points e_k in the measurements' unit, increasing
    cdf: np.ndarray  # (M − 1,): F at the edges
    slopes: np.ndarray  # (f, M − 1): ∂F/∂θ at the edges

    @property
    def probabilities(self) -> np.ndarray:
        """p, shape (M,)."""
        return np.diff(self.cdf, prepend=0.0, append=1.0)

    @property
    def scores(self) -> np.ndarray:
        """Δg/p: the score of one value in each cell, shape (f, M)."""
        return np.diff(self.slopes, prepend=0.0, append=0.0) / self.probabilities

    @property
    def inverse_information(self) -> np.ndarray:
        """I⁻¹, shape (f, f), over the directions that the cells resolve."""
        scores = self.scores
        information = (scores * self.probabilities) @ scores.T
        size = np.sqrt(np.diag(information))
        values, vectors = np.linalg.eigh(information / np.outer(size, size))
        resolved = values > _LEAST_EIGENVALUE
        vectors = vectors[:, resolved] / size[:, np.newaxis]
        return (vectors / values[resolved]) @ vectors.T


def cells_of(estimate: Estimate, sample: Sample) -> Cells:
    """Cut the line at the quantiles of the fitted law, between the steps of the data."""
    placed = estimate.placed
    u = np.arange(1, _CELLS) / _CELLS
    edges = placed.location + placed.scale * placed.law.icdf(u)
    fenced = np.concatenate([[-np.inf], sample.distinct, [np.inf]])
    above = np.searchsorted(fenced, edges)
    half = 0.5 * sample.step
    edges = np.unique(np.clip(edges, fenced[above - 1] + half, fenced[above] - half))
    cdf = placed.cdf(edges)
    kept = np.diff(cdf, prepend=0.0) > _LEAST_CELL
    kept &= cdf < 1.0 - _LEAST_CELL
    edges, cdf = edges[kept], cdf[kept]
    slopes = np.empty((len(estimate.free), edges.size))
    for row, i in enumerate(estimate.free):
        shift = np.zeros(estimate.theta.size)
        shift[i] = _STEP * estimate.units[i]
        after, before = (estimate.cdf(estimate.theta + s, edges) for s in (shift, -shift))
        slopes[row] = (after - before) / (2.0 * shift[i])
    return Cells(edges, cdf, slopes)


def ks_distance(cells: Cells, sample: Sample) -> float:
    """Kolmogorov–Smirnov distance D."""
    empirical = np.searchsorted(sample.values, cells.edges) / sample.n
    return float(np.abs(empirical - cells.cdf).max())


def ks_p_value(cells: Cells, distance: float, n: int, seed: int) -> float:
    """Share of replicates with at least this D, the observed one among them: `P_FLOOR` or more."""
    return share_beyond(ks_replicates(cells, n, seed), distance)


def share_beyond(replicates: np.ndarray, distance: float) -> float:
    """p-value of a D among its replicates."""
    return float((1 + np.sum(replicates >= distance)) / (1 + REPLICATES))


def critical_distance(replicates: np.ndarray, level: float) -> float:
    """Greatest D whose p-value is above a level: half the width of a band around F."""
    # (1 + #{replicates ≥ D})/(1 + REPLICATES) > level
    return float(np.sort(replicates)[-int(np.floor(level * (1 + REPLICATES)))])


def ks_replicates(cells: Cells, n: int, seed: int) -> np.ndarray:
    """D of values drawn from the fitted law and fitted anew, to first order; (REPLICATES,)."""
    rng = stream(seed, "kolmogorov-smirnov")
    p, scores = cells.probabilities, cells.scores
    excess = rng.multinomial(n, p, size=REPLICATES) / n - p
    fitted = (excess @ scores.T) @ cells.inverse_information @ (scores * p)
    return np.abs(np.cumsum(excess - fitted, axis=1)[:, :-1]).max(axis=1)


def standard_errors(cells: Cells, n: int) -> np.ndarray:
    """√diag(I⁻¹)/√n of the free parameters, shape (f,)."""
    return np.sqrt(np.diag(cells.inverse_information) / n)
