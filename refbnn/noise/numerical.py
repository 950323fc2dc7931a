"""What a law needs beyond its density: everything else follows from the panels.

Formulas
--------
A law is given by a density q(y) ∝ (y − A)^α (B − y)^β exp(g(y)) on [A, B] and is that of
z = (y − m)/s, where m and s are the mean and standard deviation of y. Both halves of [A, B] are
resolved into panels from their ends (`refbnn.numerics.piecewise_density`), which gives in one way
for every law

    Q(x) = P(z ≤ x)        from the lower end; 1 − P(z > x) from the upper one beyond the middle,
    M(x) = E[z; z ≤ x]     from the panels of z q; −E[z; z > x] beyond the middle,
    Gauss rules            by Stieltjes and Golub–Welsch over the points of all panels,
    H = −E[log q₀(z)]      over the same points; on the panel at an edge, where log q is singular,
                           with m(t) = t^(α+1) H(t) the probability within t of the edge,
                           ∫₀^L m′ log t dt = m(L) log L − ∫₀^L t^α H(t) dt,
    G = Q⁻¹                by `refbnn.numerics.inverse_cdf`.

A law on the whole line is cut where its density is e^−690 of its peak; its places are counted from
the middle, not from the cuts.

Range
-----
Q, M and moments to a few 1e-15, relative towards either end for Q; Gauss rules up to 64 nodes. On a
bounded support places are exact to 2⁻⁵³ of its width: a law that is narrow against its support, of
standard deviation s in a width w, has 1e-16·w/s instead of 1e-15.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np
from numpy.polynomial import chebyshev

from refbnn.errors import InputError
from refbnn.numerics import inverse_cdf_building
from refbnn.numerics import piecewise_density as panels
from refbnn.numerics.inverse_cdf import InverseCDF
from refbnn.numerics.piecewise_density import DEGREE, LEAST_LOG, MAX_RULE, Half
from refbnn.numerics.quadrature import Rule, gauss_jacobi, golub_welsch, jacobi_log_total, stieltjes

CUT = float(np.sqrt(-2.0 * LEAST_LOG))  # a normal law's, in standard deviations
_UNREACHED = 1e-20  # probability beyond `reach` on either side
AROUND_PEAK = np.array([-12.0, -4.0, -1.0, 0.0, 1.0, 4.0, 12.0])  # features, in widths of a peak
_UNSEEN = 1e-11  # of the probability: rounding, never a peak that was missed
_SMALLEST = 2.0**-53  # of the range: distance of the nearest number inside to an end
_SAMPLE_BLOCK = 1 << 17  # probabilities at a time, so that they are still in cache
_BLOCK = 1 << 22  # points × nodes at a time


def check_nodes(law: NumericalLaw, n: int) -> None:
    """Raise InputError unless a Gauss rule of n nodes is offered."""
    if not (isinstance(n, int | np.integer) and 1 <= n <= MAX_RULE):
        raise InputError(
            f"{type(law).__name__}.quadrature: n is {n}; expected an integer, 1 to {MAX_RULE}"
        )


class NumericalLaw(ABC):
    """Base of the laws; the methods are those of `refbnn.noise.law.Law`."""

    @property
    @abstractmethod
    def _ends(self) -> tuple[float, float]:
        """A and B, finite."""

    @property
    def bounded(self) -> bool:
        """Whether A and B are the ends of the support, not a cut."""
        return True

    @abstractmethod
    def _log_density(self, y: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        """Log of the density up to a constant, from y, y − A and B − y."""

    @abstractmethod
    def score(self, x: np.ndarray) -> np.ndarray:
        """(log q₀)′(x), inside the support."""

    @property
    def exponents(self) -> tuple[float, float]:
        """Exponents α, β of the density at its ends; 0 where it is finite or has no end."""
        return (0.0, 0.0)

    @property
    def _features(self) -> np.ndarray:
        """Places y around a peak that panels might miss, closer where it is narrower."""
        return np.empty(0)

    @property
    def _terms(self) -> float:
        """Size of the terms that the log density is summed from: they round against each other."""
        return 0.0

    @property
    def _middle(self) -> float:
        """Where the halves meet."""
        return 0.5 * sum(self._ends)

    @cached_property
    def location(self) -> tuple[float, float]:
        """Mean m and standard deviation s of y, before standardising."""
        (t, mass), (t_upper, mass_upper) = (half.rule() for half in self._halves)
        y = np.append(self._origins[0] + t, self._origins[1] - t_upper)
        mass = np.append(mass, mass_upper)
        m = float(np.sum(mass * y))
        return m, float(np.sqrt(np.sum(mass * (y - m) ** 2)))

    @property
    def support(self) -> tuple[float, float]:
        """Least and greatest value; infinite where unbounded."""
        return self._z_ends if self.bounded else (-np.inf, np.inf)

    @cached_property
    def reach(self) -> tuple[float, float]:
        """Finite interval that holds all probability but 1e-20 a side; the support if bounded."""
        if self.bounded:
            return self._z_ends
        t, t_upper = (
            half.breaks[np.searchsorted(half.before, _UNREACHED, side="right") - 1]
            for half in self._halves
        )
        return float(self._places(0, t)), float(self._places(1, t_upper))

    @cached_property
    def entropy(self) -> float:
        """H = −E[log q₀(z)], in nats."""
        mean_log = sum(
            _integral_of_log(half, lambda t, side=side: self._log_seen(side, t))
            for side, half in enumerate(self._halves)
        )
        return float(self._log_total - mean_log - np.log(self.location[1]))

    def log_pdf(self, x: np.ndarray) -> np.ndarray:
        """Log q₀(x) = log q(y) + log s; −∞ outside the support.

        At an end, that of the nearest y inside: a sample may round onto a singular edge, and its
        density there must stay a number.
        """
        (a, b), (m, s) = self._ends, self.location
        low, high = self._z_ends
        x = np.asarray(x, dtype=float)
        least = _SMALLEST * (b - a)
        lower = np.clip(s * (x - low), least, b - a)
        upper = np.clip(s * (high - x), least, b - a)
        log_q = self._log_density(np.clip(m + s * x, a, b), lower, upper)
        log_q = log_q - self._log_total + np.log(s)
        return np.where((x >= low) & (x <= high) | np.isnan(x), log_q, -np.inf)

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Q(x), relative accuracy towards the lower end, absolute towards the upper."""
        lower, upper = self._halves
        return self._from_both_ends(lower, upper, x, 1.0)

    def partial_mean(self, x: np.ndarray) -> np.ndarray:
        """M(x) = E[z; z ≤ x], 0 at both ends."""
        lower, upper = self._mean_halves
        return self._from_both_ends(lower, upper, x, 0.0)

    def within(self, side: int, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probability and E[z; ·] within d of the lower (0) or upper (1) end of a support.

        Relative accuracy for d itself, where a place end ± d would be rounded.
        """
        t = self.location[1] * np.asarray(d, dtype=float)
        rest = self._ends[1] - self._ends[0] - t
        results = []
        for halves, total in ((self._halves, 1.0), (self._mean_halves, 0.0)):
            near, far = halves[side].integrated(t), halves[1 - side].integrated(rest)
            results.append(np.where(t <= halves[side].stop, near, total - far))
        return results[0], results[1]

    @property
    def panel_ends(self) -> np.ndarray:
        """Places where panels meet, ascending: close around spikes and jumps."""
        places = [self._places(side, half.breaks) for side, half in enumerate(self._halves)]
        return np.unique(np.concatenate(places))

    def icdf(self, u: np.ndarray) -> np.ndarray:
        """G(u) for u in [0, 1]; accuracy as stated in `refbnn.numerics.inverse_cdf`."""
        return self.inverse(u)

    def sample(
        self, rng: np.random.Generator, shape: tuple[int, ...], dtype: type = float
    ) -> np.ndarray:
        """Draw by inverse transform: G of uniform numbers."""
        x: np.ndarray = np.empty(shape, dtype)
        flat = x.reshape(-1)
        inverse = self.inverse.single if x.dtype == np.float32 else self.inverse
        for start in range(0, flat.size, _SAMPLE_BLOCK):
            part = flat[start : start + _SAMPLE_BLOCK]
            rng.random(out=part, dtype=x.dtype.type)
            inverse.apply(part)
        return x

    def quadrature(self, n: int) -> Rule:
        """Gauss rule by Stieltjes and Golub–Welsch, n up to 64."""
        check_nodes(self, n)
        return golub_welsch(*stieltjes(*self._points, n))

    def rules_between(self, breaks: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Gauss rule of the law restricted to each interval between neighbouring breaks.

        Parameters
        ----------
        breaks : (P + 1,), ascending
        n : int

        Returns
        -------
        nodes, weights : (P, n)
            Σ_j weights[i, j] f(nodes[i, j]) = E[f(z); breaks[i] < z ≤ breaks[i + 1]] for
            polynomials of degree 2n − 1. Weights are 0 where there is no probability.
        """
        breaks = np.asarray(breaks, dtype=float)
        if breaks.ndim != 1 or not (np.diff(breaks) > 0.0).all() or not np.isfinite(breaks).all():
            raise InputError("rules_between: expected one row of finite breaks, ascending")
        pieces = []
        # Exact for the density's polynomial times one of degree 2n − 1.
        per_piece = n + 12
        for side, half in enumerate(self._halves):
            cuts = self._seen(side, breaks)
            inside = cuts[(cuts > half.start) & (cuts < half.stop)]
            t, mass = half.nodes_between(np.union1d(half.breaks, inside), per_piece)
            pieces.append((self._places(side, t), mass))
        z = np.concatenate([piece[0] for piece in pieces]).reshape(-1, per_piece)
        mass = np.concatenate([piece[1] for piece in pieces]).reshape(-1, per_piece)
        interval = np.searchsorted(breaks, 0.5 * (z.min(1) + z.max(1)), side="right") - 1
        order = np.argsort(interval, kind="stable")
        order = order[(interval[order] >= 0) & (interval[order] < breaks.size - 1)]
        z, mass, interval = z[order], mass[order], interval[order]
        counts = np.bincount(interval, minlength=breaks.size - 1)
        first = np.append(0, np.cumsum(counts))[:-1]
        width = max(1, int(counts.max()))
        # Rows of equal length: what is missing lies anywhere in the interval, without mass.
        spread = (np.arange(width * per_piece) + 0.5) / (width * per_piece)
        nodes, weights = np.empty((breaks.size - 1, n)), np.empty((breaks.size - 1, n))
        block = max(1, _BLOCK // spread.size)
        for start in range(0, breaks.size - 1, block):
            rows = slice(start, min(start + block, breaks.size - 1))
            size = rows.stop - start
            points = breaks[:-1][rows, np.newaxis] + np.diff(breaks)[rows, np.newaxis] * spread
            points = points.reshape(size, width, per_piece)
            masses = np.zeros_like(points)
            here = (interval >= start) & (interval < rows.stop)
            row = interval[here] - start
            column = np.flatnonzero(here) - first[interval[here]]
            points[row, column], masses[row, column] = z[here], mass[here]
            nodes[rows], weights[rows] = panels.rules_between(
                points.reshape(size, -1), masses.reshape(size, -1), n
            )
        return nodes, weights

    @cached_property
    def inverse(self) -> InverseCDF:
        """G, built at first use."""
        (m, s), halves = self.location, self._halves
        origins = tuple((y - m) / s for y in self._origins)

        def mass(side, d):
            """Probability up to d from an end; beyond the middle from the other end."""
            half, other = halves[side], halves[1 - side]
            t = s * d
            t_other = self._origins[1] - self._origins[0] - t
            near, far = half.integrated(t), 1.0 - other.integrated(t_other)
            return np.where(t <= half.stop, near, far)

        def seen_from(side):
            half, alpha = halves[side], halves[side].exponent
            at_end = float(chebyshev.chebval(-1.0, half.integral[0]))
            ends = self._ends[1] - self._ends[0]
            # mass ≈ H(0) (s d)^(α+1), so d ≈ H(0)^(−1/(α+1))/s · u^(1/(α+1))
            with np.errstate(over="ignore"):
                unit = np.float64(at_end) ** (-1.0 / (alpha + 1.0)) / s if at_end > 0.0 else np.inf
            return inverse_cdf_building.Side(
                mass=lambda d: mass(side, d),
                exponent=alpha if self.bounded else None,
                unit=unit,
                origin=origins[side],
                start=half.start / s,
                stop=(half.start + ends) / s,
                half=half.total,
                noise=min(4e-15 * (1.0 + 0.25 * self._terms), 9e-14),
            )

        return inverse_cdf_building.build(self._z_ends, seen_from(0), seen_from(1))

    @property
    def _origins(self) -> tuple[float, float]:
        """Places y from which either half counts t: the ends, or the middle if unbounded."""
        return self._ends if self.bounded else (self._middle, self._middle)

    def _seen(self, side: int, z: np.ndarray) -> np.ndarray:
        """t of places z, from the lower (0) or the upper (1) end."""
        m, s = self.location
        z, origin = np.asarray(z, dtype=float), (self._origins[side] - m) / s
        return s * (z - origin) if side == 0 else s * (origin - z)

    def _places(self, side: int, t: np.ndarray) -> np.ndarray:
        """z of t."""
        m, s = self.location
        origin = (self._origins[side] - m) / s
        return origin + t / s if side == 0 else origin - t / s

    def _log_seen(self, side: int, t: np.ndarray) -> np.ndarray:
        """Log density at t from an end."""
        a, b = self._ends
        if not self.bounded:
            y = self._middle + t if side == 0 else self._middle - t
            return self._log_density(y, y - a, b - y)
        far = b - a - t
        return self._log_density(a + t, t, far) if side == 0 else self._log_density(b - t, far, t)

    @cached_property
    def _z_ends(self) -> tuple[float, float]:
        m, s = self.location
        return ((self._ends[0] - m) / s, (self._ends[1] - m) / s)

    @cached_property
    def _resolved(self) -> tuple[Half, Half, float]:
        """Both halves with total 1, and the log of the total before."""
        a, b = self._ends
        name = type(self).__name__
        y = np.linspace(a, b, 2003)[1:-1]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            log_q = self._log_density(y, y - a, b - y)
            peak = float(np.max(log_q))
            # With the neighbours of the greatest value, which a narrow peak lies between.
            highest = int(np.argmax(log_q))
            features = np.append(self._features, y[max(0, highest - 1) : highest + 2])
            if not np.isfinite(peak):
                raise InputError(f"{name}: the density is 0, NaN or infinite; expected a density")

            def half(side: int, length: float) -> Half:
                def log_density(t):
                    return self._log_seen(side, t) - peak

                start = 0.0 if self.bounded else -length
                origin = self._origins[side]
                seen = features - origin if side == 0 else origin - features
                return panels.resolve(
                    log_density,
                    self.exponents[side],
                    start,
                    start + length,
                    name,
                    self._terms,
                    tuple(seen),
                )

            lower, upper = half(0, self._middle - a), half(1, b - self._middle)
        total = lower.total + upper.total
        if not (np.isfinite(total) and total > 0.0):
            raise InputError(f"{name}: the density integrates to {total}; expected more than 0")
        log_total = peak + float(np.log(total))
        return lower.scaled(1.0 / total), upper.scaled(1.0 / total), log_total

    @property
    def _halves(self) -> tuple[Half, Half]:
        return self._resolved[:2]

    @property
    def _log_total(self) -> float:
        return self._resolved[2]

    @cached_property
    def _mean_halves(self) -> tuple[Half, Half]:
        """Panels of z q from either end."""
        lower, upper = self._halves
        return lower.times(lambda t: self._places(0, t)), upper.times(lambda t: self._places(1, t))

    @cached_property
    def _points(self) -> tuple[np.ndarray, np.ndarray]:
        """The discrete measure behind Gauss rules: z and masses, (N,)."""
        (t, mass), (t_upper, mass_upper) = (half.rule() for half in self._halves)
        mass = np.append(mass, mass_upper)
        return np.append(self._places(0, t), self._places(1, t_upper)), mass / mass.sum()

    def _from_both_ends(self, lower: Half, upper: Half, x, total: float) -> np.ndarray:
        x = np.asarray(x, dtype=float)
        t = self._seen(0, x)
        from_lower, from_upper = lower.integrated(t), upper.integrated(self._seen(1, x))
        return np.where(t <= lower.stop, from_lower, total - from_upper)


class WholeLineLaw(NumericalLaw):
    """Base of the laws on the whole line whose `log_pdf` is standardised by construction."""

    @property
    def bounded(self) -> bool:
        """Never."""
        return False

    @property
    def location(self) -> tuple[float, float]:
        """Mean and standard deviation, 0 and 1 by construction."""
        return (0.0, 1.0)

    @property
    def _middle(self) -> float:
        return 0.0

    def _log_density(self, y: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        return self.log_pdf(y)

    @abstractmethod
    def log_pdf(self, x: np.ndarray) -> np.ndarray:
        """Log q₀(x)."""

    @cached_property
    def _resolved(self) -> tuple[Half, Half, float]:
        lower, upper, log_total = super()._resolved
        if not abs(log_total) <= _UNSEEN:  # the density is a law's already
            raise InputError(
                f"{type(self).__name__}: panels see {np.exp(log_total):.12g} of its probability; "
                "expected shapes that differ less in width"
            )
        return lower, upper, log_total


def _integral_of_log(half: Half, log_density) -> float:
    """∫ q log q over a half, from log q (up to a constant) as a function of t."""
    alpha, length = half.exponent, half.breaks[1] - half.breaks[0]
    # Panels that halve towards the end: there log q may be singular though q is not.
    towards = half.breaks[0] + length * 2.0 ** np.arange(-40.0, 0.0)
    t, mass = half.nodes_between(np.union1d(half.breaks, towards), DEGREE + 1)
    t, mass = t[mass > 0.0], mass[mass > 0.0]
    log_q = log_density(t)
    first = t < half.breaks[1]
    if alpha != 0.0:  # log t apart: its integral against q on the first panel is in closed form
        log_q[first] -= alpha * np.log(t[first])
    value = float(np.sum(mass * log_q))
    if alpha != 0.0:
        n = DEGREE + 1
        jacobi = gauss_jacobi(n, 0.0, alpha)
        rest = chebyshev.chebval(jacobi.nodes, half.integral[0]) @ jacobi.weights
        rest *= np.exp((alpha + 1.0) * np.log(0.5 * length) + jacobi_log_total(0.0, alpha))
        value += alpha * float(half.before[1] * np.log(length) - rest)
    return value
