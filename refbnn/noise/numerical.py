"""Base of the laws: distribution function, moments, Gauss rules, entropy, quantiles of a density.

Formulas
--------
A law is given by a density q(y) ∝ (y − A)^α (B − y)^β exp(g(y)) on [A, B] and is that of
z = (y − m)/s, where m and s are the mean and standard deviation of y. Both halves of [A, B] are
resolved into panels from their ends (`refbnn.numerics.piecewise_density`), which yields for every
law

    Q(x) = P(z ≤ x)        from the lower end; 1 − P(z > x) from the upper one beyond the middle,
    M(x) = E[z; z ≤ x]     from the panels of z q; −E[z; z > x] beyond the middle,
    Gauss rules            by Stieltjes and Golub–Welsch over the points of all panels,
    H = −E[log q₀(z)]      over the same points; on the panel at an edge, where log q is singular,
                           with m(t) = t^(α+1) H(t) the probability within t of the edge,
                           ∫₀^L m′ log t dt = m(L) log L − ∫₀^L t^α H(t) dt,
    G = Q⁻¹                by `refbnn.numerics.inverse_cdf`.

A law on the whole line is cut where its density is e^−690 of its peak; distances t are counted from
the middle, not from the cuts.

Range
-----
Q, M and moments to a few 1e-15, relative towards either end for Q; Gauss rules up to 64 nodes. On a
bounded support values y are exact to 2⁻⁵³ of its width: a law that is narrow against its support,
of standard deviation s in a width w, has 1e-16·w/s instead of 1e-15.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property, partial

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import DTypeLike

from refbnn.errors import InputError
from refbnn.numerics import piecewise_density as panels
from refbnn.numerics.arrays import float_type, real_array
from refbnn.numerics.inverse_cdf import InverseCDF
from refbnn.numerics.inverse_cdf_building import Side, build
from refbnn.numerics.piecewise_density import DEGREE, LEAST_LOG, MAX_RULE, Half
from refbnn.numerics.quadrature import Rule, gauss_jacobi, golub_welsch, jacobi_log_total, stieltjes

CUT = float(np.sqrt(-2.0 * LEAST_LOG))  # where a normal law is cut, in standard deviations
_UNREACHED = 1e-20  # probability beyond `reach` on either side
AROUND_PEAK = np.array([-12.0, -4.0, -1.0, 0.0, 1.0, 4.0, 12.0])  # features, in widths of a peak
_MISSED = 1e-11  # of the probability: more than rounding, so that a peak was missed
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

    bounded = True  # whether A and B are the ends of the support, not a cut

    @property
    @abstractmethod
    def _ends(self) -> tuple[float, float]:
        """A and B, finite."""

    @abstractmethod
    def _log_density(self, y: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        """Log of the density up to a constant, from y, y − A and B − y."""

    @abstractmethod
    def score(self, x: np.ndarray) -> np.ndarray:
        """(log q₀)′(x), inside the support."""

    def _real(self, x) -> np.ndarray:
        """Return x as an array of float64; InputError unless it holds real numbers."""
        return real_array(x, type(self).__name__).astype(float, copy=False)

    @property
    def exponents(self) -> tuple[float, float]:
        """Exponents α, β of the density at its ends; 0 where it is finite or has no end."""
        return (0.0, 0.0)

    @property
    def _features(self) -> np.ndarray:
        """Values y around peaks that panels might miss, closer where a peak is narrower."""
        return np.empty(0)

    @property
    def _terms(self) -> float:
        """Size of the terms that the log density is summed from, which sets its rounding error."""
        return 0.0

    @property
    def _middle(self) -> float:
        """Value y where the halves meet."""
        return 0.5 * sum(self._ends) if self.bounded else 0.0

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
        return float(self._to_z(0, t)), float(self._to_z(1, t_upper))

    @cached_property
    def entropy(self) -> float:
        """H = −E[log q₀(z)], in nats."""
        mean_log = sum(
            _integral_of_log(half, lambda t, side=side: self._log_from(side, t))
            for side, half in enumerate(self._halves)
        )
        return float(self._log_total - mean_log - np.log(self.location[1]))

    def log_pdf(self, x: np.ndarray) -> np.ndarray:
        """Log q₀(x) = log q(y) + log s; −∞ outside the support.

        At an end, the value is that of the nearest y inside: a sample may round onto a singular
        edge, where its density must stay finite.
        """
        (a, b), (m, s) = self._ends, self.location
        low, high = self._z_ends
        x = self._real(x)
        least = _SMALLEST * (b - a)
        lower = np.clip(s * (x - low), least, b - a)
        upper = np.clip(s * (high - x), least, b - a)
        log_q = self._log_density(np.clip(m + s * x, a, b), lower, upper)
        log_q = log_q - self._log_total + np.log(s)
        return np.where((x >= low) & (x <= high) | np.isnan(x), log_q, -np.inf)

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Q(x), relative accuracy towards the lower end, absolute towards the upper."""
        return self._from_both_ends(self._halves, x, 1.0)

    def partial_mean(self, x: np.ndarray) -> np.ndarray:
        """M(x) = E[z; z ≤ x], 0 at both ends."""
        return self._from_both_ends(self._mean_halves, x, 0.0)

    def within(self, side: int, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probability and E[z; ·] within d of the lower (0) or upper (1) end of a support.

        Accurate relative to d, where the value end ± d would be rounded.
        """
        d = self._real(d)
        probability = self._from_end(side, self._halves, 1.0, d)
        return probability, self._from_end(side, self._mean_halves, 0.0, d)

    @property
    def panel_ends(self) -> np.ndarray:
        """Values z where panels meet, ascending: close around spikes and jumps."""
        ends = [self._to_z(side, half.breaks) for side, half in enumerate(self._halves)]
        return np.unique(np.concatenate(ends))

    def icdf(self, u: np.ndarray) -> np.ndarray:
        """G(u) for u in [0, 1]; accuracy as stated in `refbnn.numerics.inverse_cdf`."""
        return self.inverse(self._real(u))

    def sample(
        self, rng: np.random.Generator, shape: tuple[int, ...], dtype: DTypeLike = float
    ) -> np.ndarray:
        """Draw by inverse transform: G of uniform numbers."""
        x: np.ndarray = np.empty(shape, float_type(dtype, f"{type(self).__name__}.sample"))
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
        """Gauss rules on the intervals between P + 1 ascending breaks: nodes and weights (P, n).

        Σ_j weights[i, j] f(nodes[i, j]) = E[f(z); breaks[i] < z ≤ breaks[i + 1]] for polynomials of
        degree 2n − 1. Weights are 0 where there is no probability.
        """
        breaks = self._real(breaks)
        if breaks.ndim != 1 or not (np.diff(breaks) > 0.0).all() or not np.isfinite(breaks).all():
            raise InputError("rules_between: expected one row of finite breaks, ascending")
        z, mass, interval = self._points_between(breaks, n + 12)
        counts = np.bincount(interval, minlength=breaks.size - 1)
        column = np.arange(interval.size) - np.append(0, np.cumsum(counts))[interval]
        # Rows of equal length: missing points lie anywhere in the interval, without mass.
        width = max(1, int(counts.max()))
        spread = (np.arange(width * (n + 12)) + 0.5) / (width * (n + 12))
        block = max(1, _BLOCK // spread.size)
        rules = []
        for start in range(0, breaks.size - 1, block):
            own = breaks[start : start + block + 1]
            points = own[:-1, np.newaxis] + np.diff(own)[:, np.newaxis] * spread
            points = points.reshape(-1, width, n + 12)
            masses = np.zeros_like(points)
            here = (interval >= start) & (interval < start + block)
            row = interval[here] - start
            points[row, column[here]], masses[row, column[here]] = z[here], mass[here]
            shape = (len(points), -1)
            rules.append(panels.rules_between(points.reshape(shape), masses.reshape(shape), n))
        return np.concatenate([rule[0] for rule in rules]), np.concatenate([r[1] for r in rules])

    def _points_between(self, breaks, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """n points z and masses a row for all parts of panels between breaks, and their intervals.

        Exact for the density's polynomial times one of degree 2n − 24; rows are in the order of the
        intervals.
        """
        pieces = []
        for side, half in enumerate(self._halves):
            cuts = self._to_t(side, breaks)
            inside = cuts[(cuts > half.start) & (cuts < half.stop)]
            t, mass = half.nodes_between(np.union1d(half.breaks, inside), n)
            pieces.append((self._to_z(side, t), mass))
        z, mass = (np.concatenate(part).reshape(-1, n) for part in zip(*pieces, strict=True))
        interval = np.searchsorted(breaks, 0.5 * (z.min(1) + z.max(1)), side="right") - 1
        order = np.argsort(interval, kind="stable")
        order = order[(interval[order] >= 0) & (interval[order] < breaks.size - 1)]
        return z[order], mass[order], interval[order]

    @cached_property
    def inverse(self) -> InverseCDF:
        """G, built at first use."""
        s = self.location[1]
        sides = []
        for side, half in enumerate(self._halves):
            alpha = half.exponent
            at_end = float(chebyshev.chebval(-1.0, half.integral[0]))
            # mass ≈ H(0) (s d)^(α+1), so d ≈ H(0)^(−1/(α+1))/s · u^(1/(α+1))
            with np.errstate(over="ignore"):
                unit = np.float64(at_end) ** (-1.0 / (alpha + 1.0)) / s if at_end > 0.0 else np.inf
            sides.append(
                Side(
                    mass=partial(self._from_end, side, self._halves, 1.0),
                    exponent=alpha if self.bounded else None,
                    unit=unit,
                    origin=(self._origins[side] - self.location[0]) / s,
                    start=half.start / s,
                    stop=(half.start + (self._ends[1] - self._ends[0])) / s,
                    half=half.total,
                    noise=min(4e-15 * (1.0 + 0.25 * self._terms), 9e-14),
                )
            )
        return build(self._z_ends, *sides)

    @property
    def _origins(self) -> tuple[float, float]:
        """Values y from which either half counts t: the ends, or the middle if unbounded."""
        return self._ends if self.bounded else (self._middle, self._middle)

    def _to_t(self, side: int, z: np.ndarray) -> np.ndarray:
        """Distance t of z from the lower (0) or the upper (1) end."""
        m, s = self.location
        z, origin = self._real(z), (self._origins[side] - m) / s
        return s * (z - origin) if side == 0 else s * (origin - z)

    def _to_z(self, side: int, t: np.ndarray) -> np.ndarray:
        """Value z at the distance t from an end."""
        m, s = self.location
        origin = (self._origins[side] - m) / s
        return origin + t / s if side == 0 else origin - t / s

    def _log_from(self, side: int, t: np.ndarray) -> np.ndarray:
        """Log density at the distance t from an end."""
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
            # A narrow peak may lie between the neighbours of the greatest value.
            highest = int(np.argmax(log_q))
            features = np.append(self._features, y[max(0, highest - 1) : highest + 2])
            if not np.isfinite(peak):
                raise InputError(f"{name}: the density is 0, NaN or infinite; expected a density")

            def half(side: int, length: float) -> Half:
                def log_density(t):
                    return self._log_from(side, t) - peak

                start = 0.0 if self.bounded else -length
                origin = self._origins[side]
                distances = features - origin if side == 0 else origin - features
                return panels.resolve(
                    log_density,
                    self.exponents[side],
                    start,
                    start + length,
                    name,
                    self._terms,
                    tuple(distances),
                )

            lower, upper = half(0, self._middle - a), half(1, b - self._middle)
        lower, upper, log_total = normalised(name, lower, upper)
        return lower, upper, peak + log_total

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
        return lower.times(lambda t: self._to_z(0, t)), upper.times(lambda t: self._to_z(1, t))

    @cached_property
    def _points(self) -> tuple[np.ndarray, np.ndarray]:
        """The discrete measure behind Gauss rules: z and masses, (N,)."""
        (t, mass), (t_upper, mass_upper) = (half.rule() for half in self._halves)
        mass = np.append(mass, mass_upper)
        return np.append(self._to_z(0, t), self._to_z(1, t_upper)), mass / mass.sum()

    def _from_end(self, side: int, halves: tuple[Half, Half], total: float, d) -> np.ndarray:
        """Integral within d of an end; beyond the middle from the other end."""
        t = self.location[1] * d
        rest = self._origins[1] - self._origins[0] - t
        near, far = halves[side].integrated(t), total - halves[1 - side].integrated(rest)
        return np.where(t <= halves[side].stop, near, far)

    def _from_both_ends(self, halves: tuple[Half, Half], x, total: float) -> np.ndarray:
        """Integral up to x; beyond the middle from the upper end."""
        lower, upper = halves
        x = self._real(x)
        t = self._to_t(0, x)
        from_lower, from_upper = lower.integrated(t), upper.integrated(self._to_t(1, x))
        return np.where(t <= lower.stop, from_lower, total - from_upper)


class WholeLineLaw(NumericalLaw):
    """Base of the laws on the whole line whose `log_pdf` is standardised by construction."""

    bounded = False

    @property
    def location(self) -> tuple[float, float]:
        """Mean and standard deviation, 0 and 1 by construction."""
        return (0.0, 1.0)

    def _log_density(self, y: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        return self.log_pdf(y)

    @abstractmethod
    def log_pdf(self, x: np.ndarray) -> np.ndarray:
        """Log q₀(x)."""

    @cached_property
    def _resolved(self) -> tuple[Half, Half, float]:
        lower, upper, log_total = super()._resolved
        if not abs(log_total) <= _MISSED:  # log_pdf is normalised by construction
            raise InputError(
                f"{type(self).__name__}: panels find {np.exp(log_total):.12g} of its probability; "
                "expected shapes that differ less in width"
            )
        return lower, upper, log_total


def normalised(name: str, lower: Half, upper: Half) -> tuple[Half, Half, float]:
    """Both halves divided by their total, and its logarithm; InputError unless it is above 0."""
    total = lower.total + upper.total
    if not (np.isfinite(total) and total > 0.0):
        raise InputError(f"{name}: the density integrates to {total}; expected more than 0")
    return lower.scaled(1.0 / total), upper.scaled(1.0 / total), float(np.log(total))


def _integral_of_log(half: Half, log_density) -> float:
    """∫ q log q over a half, from log q (up to a constant) as a function of t."""
    alpha, length = half.exponent, half.breaks[1] - half.breaks[0]
    # Panels that halve towards the end: there log q may be singular though q is not.
    towards = half.breaks[0] + length * 2.0 ** np.arange(-40.0, 0.0)
    t, mass = half.nodes_between(np.union1d(half.breaks, towards), DEGREE + 1)
    t, mass = t[mass > 0.0], mass[mass > 0.0]
    log_q = log_density(t)
    if alpha == 0.0:
        return float(np.sum(mass * log_q))
    # log t apart: its integral against q on the first panel is in closed form.
    first = t < half.breaks[1]
    log_q[first] -= alpha * np.log(t[first])
    jacobi = gauss_jacobi(DEGREE + 1, 0.0, alpha)
    rest = chebyshev.chebval(jacobi.nodes, half.integral[0]) @ jacobi.weights
    rest *= np.exp((alpha + 1.0) * np.log(0.5 * length) + jacobi_log_total(0.0, alpha))
    return float(np.sum(mass * log_q)) + alpha * float(half.before[1] * np.log(length) - rest)
