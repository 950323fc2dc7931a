"""Gauss rules of a law on panels that are halved where an integrand needs it.

Formulas
--------
The n-node Gauss rule of a measure dλ, monic orthogonal polynomial π_n, has for 1/(z₀ − z) the
exact remainder

    ∫ dλ(z)/(z₀ − z) − Σ_j w_j/(z₀ − x_j) = π_n(z₀)⁻² ∫ π_n(z)² dλ(z)/(z₀ − z),

because (π_n(z₀)² − π_n(z)²)/(z₀ − z) is a polynomial in z of degree 2n − 1 and π_n vanishes at the
nodes. At distance δ from the support it is at most ‖π_n‖²/(|π_n(z₀)|² δ), so the rule integrates
1/(z₀ − z), and still better log(z₀ − z), to the accuracy ε if

    Π_j |z₀ − x_j|² ≥ ‖π_n‖²/(ε·min(δ, 1)).

A *panel* carries the rules with 4, 8 and 16 nodes of the law restricted to an interval, and the
limits on the right-hand side. The root panel is the reach of the law. For an integrand with a
singularity at z₀ the cheapest rule that meets its limit is taken; if none does, both halves of the
panel are tried in turn. Panels are made when first needed, and kept.

Source of the remainder: Gautschi, *Orthogonal Polynomials*, 2004, section 1.4.

Range
-----
ε is 1e-13 for each panel, in units of 1/(standard deviation of the law); an expectation takes some
ten panels. A panel inside the law is halved at most 16 times, which resolves features of a
ten-thousandth of the reach; a panel at an end of the reach 30 times, for a singularity just beyond.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from refbnn.noise.law import Law
from refbnn.prior.device import MAX_DEGREE

ORDERS = (4, 8, (MAX_DEGREE + 1) // 2)  # nodes of each rule
STARTS = np.append(0, np.cumsum(ORDERS))  # start of each rule in a panel's row; the row's length
MAX_LEVEL = 30  # halvings at an end of the reach
_LEAST_LENGTH = 1e-4  # of a panel inside, in standard deviations
_ACCURACY = 1e-13


class LawTree:
    """The P panels of a law; the arrays grow as panels are split.

    Attributes
    ----------
    ends : (P, 2)
        Interval of each panel, in units of the law's standard deviation.
    level : (P,)
        Number of halvings that made a panel.
    child : (P,)
        Index of the lower half, the upper being the next one; 0 if not split yet.
    nodes, weights : (P, 28)
        Rules of 4, 8 and 16 nodes, one after the other; weights sum to the panel's probability.
    limits : (P, 3)
        Least Π_j |z₀ − x_j|² at a singularity, for each rule.
    """

    def __init__(self, law: Law):
        self._law = law
        self.ends = np.array([law.reach])
        self.level = np.zeros(1, dtype=np.int64)
        self.child = np.zeros(1, dtype=np.int64)
        self.nodes, self.weights, self.limits = self._rules(self.ends)

    @property
    def divisible(self) -> np.ndarray:
        """Panels that may be halved; (P,) of bool."""
        at_end = (self.ends[:, 0] == self.ends[0, 0]) | (self.ends[:, 1] == self.ends[0, 1])
        long = self.ends[:, 1] - self.ends[:, 0] > _LEAST_LENGTH
        return (self.level < MAX_LEVEL) & (at_end | long)

    def split(self, panels: np.ndarray) -> None:
        """Halve panels, given by index (K,), that have no children yet."""
        left, right = self.ends[panels].T
        middle = 0.5 * (left + right)
        # Lower and upper half of each panel next to each other.
        ends = np.stack([left, middle, middle, right], axis=1).reshape(-1, 2)
        nodes, weights, limits = self._rules(ends)
        self.child[panels] = len(self.ends) + 2 * np.arange(len(panels))
        self.child = np.append(self.child, np.zeros(len(ends), dtype=np.int64))
        self.level = np.append(self.level, np.repeat(self.level[panels] + 1, 2))
        self.ends = np.concatenate([self.ends, ends])
        self.nodes = np.concatenate([self.nodes, nodes])
        self.weights = np.concatenate([self.weights, weights])
        self.limits = np.concatenate([self.limits, limits])

    def _rules(self, ends):
        """Nodes, weights and limits of disjoint intervals; (K, 2) -> (K, 28), (K, 28), (K, 3)."""
        breaks = np.unique(ends)
        rows = np.searchsorted(breaks, ends[:, 0])  # the others are gaps between the panels
        rules = []
        for n in (*ORDERS, ORDERS[-1] + 1):
            nodes, weights = self._law.rules_between(breaks, n)
            rules.append((nodes[rows], weights[rows]))
        # A rule with more nodes than n integrates π_n² exactly: probability times ‖π_n‖².
        norms = [
            np.sum(w * np.prod(np.square(x[:, :, np.newaxis] - roots[:, np.newaxis]), axis=2), 1)
            for (roots, _), (x, w) in pairwise(rules)
        ]
        half = 0.5 * (ends[:, 1] - ends[:, 0])
        limits = np.stack(norms, axis=1) / (_ACCURACY * np.minimum(half, 1.0)[:, np.newaxis])
        nodes, weights = (np.concatenate(part, axis=1) for part in zip(*rules[:-1], strict=True))
        return nodes, weights, limits
