"""A law given by a density function on an interval.

Formula
-------
f(x) ≥ 0 on [a, b], up to a constant factor, is resolved once into panels from both ends
(`refbnn.numerics.piecewise_density`), with edge exponents α, β > −1 where f is singular or vanishes
like a power: f(x) = (x − a)^α h₁(x) = (b − x)^β h₂(x) with h smooth at the edge. The panels'
Chebyshev series are the law from then on: plain numbers that are saved and loaded without the
function.

Range
-----
Errors are those of `refbnn.numerics.piecewise_density` and of f: values with relative noise above
1e-12 are refused. Features narrower than a four-hundredth of the interval may be missed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.polynomial import chebyshev

from refbnn.errors import InputError
from refbnn.noise.families.device import MAX_EXPONENT, MIN_EXPONENT
from refbnn.noise.numerical import NumericalLaw, normalised
from refbnn.numerics import piecewise_density as panels
from refbnn.numerics.arrays import real_array
from refbnn.numerics.piecewise_density import Half

_GREATEST = 1e100  # of numbers that are multiplied by each other
_MOST_PANELS = 5000  # of either half, seconds of arithmetic; `of` makes tens to hundreds
_NEGATIVE = 1e-12  # of a half: rounding where the density is 0
_TERMS = 4000.0  # as if the log density were summed from such terms: an error of 1e-12

Numbers = tuple[float, ...]


@dataclass(frozen=True, repr=False)
class DensityLaw(NumericalLaw):
    """A law given by the Chebyshev series of its density; make one with `of`.

    The methods are those of `refbnn.noise.law.Law`.

    Parameters
    ----------
    ends : (float, float)
        a and b. `location` counts from a.
    alpha, beta : float
        Edge exponents.
    breaks : two tuples
        Distances of the breaks between panels from a, and from b; both reach the middle.
    series : two tuples of tuples
        Coefficients of each panel of either half, see `refbnn.numerics.piecewise_density.Half`.

    Raises
    ------
    InputError
        If the numbers do not make a density.

    Examples
    --------
    >>> law = DensityLaw.of(lambda x: 1.0 - np.abs(x), -1.0, 1.0)  # a triangle
    >>> law
    DensityLaw(ends=(-1, 1), alpha=0, beta=0, 16 panels)
    >>> round(law.support[1], 12) == round(6**0.5, 12)
    True
    """

    ends: tuple[float, float]
    alpha: float
    beta: float
    breaks: tuple[Numbers, Numbers]
    series: tuple[tuple[Numbers, ...], tuple[Numbers, ...]]

    def __post_init__(self):
        def plain(value):
            return tuple(map(plain, value)) if np.iterable(value) else float(value)

        if max(map(len, self.series)) > _MOST_PANELS:
            raise InputError(f"DensityLaw: expected at most {_MOST_PANELS} panels of either half")
        for name in ("ends", "alpha", "beta", "breaks", "series"):
            object.__setattr__(self, name, plain(getattr(self, name)))
        _check_interval(self.ends, self.exponents)
        a, b = self.ends
        for breaks, series in zip(self.breaks, self.series, strict=True):
            steps, numbers = np.diff(breaks), np.array(series)
            if (
                breaks[0] != 0.0
                or not (steps > 0.0).all()
                or not abs(breaks[-1] - 0.5 * (b - a)) <= 1e-12 * (b - a)
                or numbers.shape != (len(breaks) - 1, panels.DEGREE + 1)
                or not (np.abs(numbers) <= _GREATEST).all()
            ):
                raise InputError("DensityLaw: breaks or series do not fit; make one with of()")
            points = np.append(np.cos(np.pi * (np.arange(48) + 0.5) / 48), [-1.0, 1.0])
            values = chebyshev.chebval(points, numbers.T)
            # Compared by probability: the polynomial of a jump's last panel swings below 0.
            below = steps @ np.maximum(-values.min(axis=1), 0.0)
            if not below <= _NEGATIVE * (steps @ np.abs(values).max(axis=1)):
                raise InputError("DensityLaw: series negative or overflowing; expected a density")
        self._resolved  # noqa: B018, a density that does not integrate is an error now

    def __repr__(self) -> str:
        (a, b), n_panels = self.ends, sum(map(len, self.series))
        shape = f"alpha={self.alpha:g}, beta={self.beta:g}"
        return f"DensityLaw(ends=({a:g}, {b:g}), {shape}, {n_panels} panels)"

    @classmethod
    def of(
        cls,
        density: Callable[[np.ndarray], np.ndarray],
        low: float,
        high: float,
        *,
        exponents: tuple[float, float] = (0.0, 0.0),
    ) -> DensityLaw:
        """Make the law of a density f on [low, high].

        Parameters
        ----------
        density : callable
            f of an array inside (low, high), up to a constant factor.
        low, high : float
        exponents : (float, float)
            α and β where f goes like a power at an end; 0 where it is finite and smooth.

        Raises
        ------
        InputError
            If f is negative, NaN or infinite inside, or does not integrate.
        """
        low, high = float(low), float(high)
        _check_interval((low, high), exponents)
        reach = 0.5 * (high - low)
        peak = float(_values(density, np.linspace(low, high, 2003)[1:-1]).max())
        if not peak > 0.0:
            raise InputError("DensityLaw: the density is 0; expected one that integrates to more")

        def half(end, sign, exponent):
            def log_density(t):
                x = end + sign * t
                with np.errstate(divide="ignore"):
                    log_f = np.log(_values(density, x) / peak)
                if exponent != 0.0:
                    # x is rounded; its own distance belongs to f, t to the panels.
                    log_f += exponent * (np.log(t) - np.log(np.abs(x - end)))
                return log_f

            return panels.resolve(log_density, exponent, 0.0, reach, "DensityLaw", _TERMS)

        lower, upper = half(low, 1.0, exponents[0]), half(high, -1.0, exponents[1])
        series = (lower.density, upper.density)
        return cls((low, high), *exponents, (lower.breaks, upper.breaks), series)

    @property
    def exponents(self) -> tuple[float, float]:
        """α, β."""
        return (self.alpha, self.beta)

    @property
    def _ends(self) -> tuple[float, float]:
        # Counted from a: an interval far from 0 loses no digits.
        return (0.0, self.ends[1] - self.ends[0])

    @cached_property
    def _resolved(self) -> tuple[Half, Half, float]:
        lower, upper = (
            panels.from_series(exponent, np.array(breaks), np.array(series))
            for exponent, breaks, series in zip(
                self.exponents, self.breaks, self.series, strict=True
            )
        )
        return (*normalised("DensityLaw", lower, upper)[:2], 0.0)

    def _log_density(self, y: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        near, far = self._halves
        with np.errstate(divide="ignore"):
            return np.where(lower <= near.stop, _log_value(near, lower), _log_value(far, upper))

    def score(self, x: np.ndarray) -> np.ndarray:
        """(log q₀)′(x), inside the support."""
        s = self.location[1]
        lower, upper = self._halves
        t = self._to_t(0, self._real(x))
        rising, falling = _log_slope(lower, t), _log_slope(upper, self._to_t(1, x))
        return s * np.where(t <= lower.stop, rising, -falling)


def _check_interval(ends, exponents) -> None:
    low, high = ends
    if not -_GREATEST <= low < high <= _GREATEST:
        raise InputError(
            f"DensityLaw: interval {low} to {high}; expected two numbers, a < b, up to "
            f"{_GREATEST:g} in size"
        )
    if not MIN_EXPONENT <= min(exponents) <= max(exponents) <= MAX_EXPONENT:
        raise InputError(
            f"DensityLaw: exponents {exponents[0]} and {exponents[1]}; "
            f"expected {MIN_EXPONENT} to {MAX_EXPONENT:g}"
        )


def _values(density, x: np.ndarray) -> np.ndarray:
    """Values of the density, checked."""
    f = real_array(density(x), "DensityLaw: the density").astype(float)
    if f.shape != x.shape:
        raise InputError(
            f"DensityLaw: the density of an array of shape {x.shape} has shape {f.shape}; "
            "expected the same"
        )
    if not (f >= 0.0).all() or np.isinf(f).any():
        at = x[~(f >= 0.0) | np.isinf(f)][0]
        raise InputError(
            f"DensityLaw: the density at {at:.6g} is {f[x == at][0]:.6g}; "
            "expected a finite number of at least 0"
        )
    return f


def _local(half: Half, t: np.ndarray):
    """Panel of each t, position on it in [−1, 1], and its length."""
    t = np.clip(t, half.start, half.stop)
    panel = np.clip(np.searchsorted(half.breaks, t, side="right") - 1, 0, half.breaks.size - 2)
    near, far = half.breaks[panel], half.breaks[panel + 1]
    return panel, (2.0 * t - near - far) / (far - near), far - near


def _log_value(half: Half, t: np.ndarray) -> np.ndarray:
    panel, x, _ = _local(half, t)
    series = np.moveaxis(half.density[panel], -1, 0)
    log_q = np.log(np.maximum(chebyshev.chebval(x, series, tensor=False), 0.0))
    return log_q + np.where(panel == 0, half.exponent * np.log(t), 0.0) if half.exponent else log_q


def _log_slope(half: Half, t: np.ndarray) -> np.ndarray:
    panel, x, length = _local(half, t)
    value = chebyshev.chebval(x, np.moveaxis(half.density[panel], -1, 0), tensor=False)
    slopes = chebyshev.chebder(half.density, axis=1)
    slope = chebyshev.chebval(x, np.moveaxis(slopes[panel], -1, 0), tensor=False) * 2.0 / length
    ratio = slope / value
    return ratio + np.where(panel == 0, half.exponent / t, 0.0) if half.exponent else ratio
