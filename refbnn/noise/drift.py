"""Drift: a law of measured noise whose parameters move with time.

Formula
-------
One family is fitted at every time t_j at which one kind of cell was measured. With ψ the family's
parameters as numbers of the whole line (logarithms of scales, of weights, of 1 + α, …), the law at
a time between is that of

    ψ(t) = (1 − λ) ψ_j + λ ψ_{j+1},   λ = (τ(t) − τ_j)/(τ_{j+1} − τ_j),   τ(t) = log(1 + t/t₀).

Relaxation of resistive memory spreads in decades of time, hence the logarithm; t₀ is the first
measured time after 0, so that τ is finite at the moment of programming, and even in time between
there and t₀, where nothing was measured. A law between is one of the family, unless its components
lie further apart than the family's range; nothing is said about times outside the measured ones.

Family: BIC (`refbnn.noise.fitting.selection`) is summed over the times, since the samples are
independent. In the order of this sum the first family that a test refutes at none of the times is
taken; if there is none, the one of least sum.

Components of a mixture keep their identity: at every time they are numbered as the permutation says
that lies nearest to the time before, Σ (m − m′)²/(s s′) + log²(s/s′) being the distance.

A network whose weights θ = µ + σz were programmed at time t₁ has at t₂ the weights

    θ = µ + σ (shift + ratio·z′),   shift = (L₂ − L₁)/S₁,   ratio = S₂/S₁,

with L and S the law's location and scale and z′ from the law at t₂: scales of weights are those at
programming.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import NamedTuple

import numpy as np

from refbnn.errors import InputError
from refbnn.noise.fitting.bounded import MAX_DEGREE
from refbnn.noise.fitting.placing import FAMILIES, Placed, functions, place_mixture
from refbnn.noise.fitting.result import REFUTED
from refbnn.noise.fitting.sample import checked
from refbnn.noise.fitting.selection import estimates, tested


class Change(NamedTuple):
    """What a law did between two times, in scales of the first."""

    shift: float
    ratio: float


@dataclass(frozen=True)
class DriftingLaw:
    """One family's law at several times, and between them; plain numbers only.

    Parameters
    ----------
    family : str
        As `NoiseFit.family`.
    names : tuple of str
        Of the parameters θ.
    times : tuple of float
        Measured times, ascending from 0 or later; any unit.
    parameters : tuple of tuples of float
        θ at each of them.
    n_values : tuple of int
        Measurements at each of them.
    ks_p_values : tuple of float
        Of the fit at each of them.
    total_bic : dict of str to float
        Of every family that could be fitted at every time.

    Raises
    ------
    InputError
        If there are fewer than two times, they do not ascend, or the numbers do not make a law.
    """

    family: str
    names: tuple[str, ...]
    times: tuple[float, ...]
    parameters: tuple[tuple[float, ...], ...]
    n_values: tuple[int, ...]
    ks_p_values: tuple[float, ...]
    total_bic: dict[str, float]

    def __post_init__(self):
        # Lists, as a JSON file gives them back, become tuples.
        for name in ("names", "n_values"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("times", "ks_p_values"):
            object.__setattr__(self, name, tuple(float(v) for v in getattr(self, name)))
        rows = tuple(tuple(float(v) for v in row) for row in self.parameters)
        object.__setattr__(self, "parameters", rows)
        times = np.array(self.times)
        if not (
            times.size >= 2
            and times[0] >= 0.0
            and (np.diff(times) > 0.0).all()
            and np.isfinite(times[-1])
        ):
            raise InputError(
                f"drift: times {', '.join(f'{t:g}' for t in self.times)}; "
                "expected at least two, ascending from 0 or later"
            )
        if {len(row) for row in rows} != {len(self.names)} or len(rows) != times.size:
            raise InputError("drift: parameters do not match the names and times; expected a table")
        for row in rows:
            _, location, scale = functions(self.family).place(np.array(row))
            if not (np.isfinite(location) and 0.0 < scale < np.inf):
                raise InputError(
                    f"drift: {self.family} {row} has location {location} and scale {scale}; "
                    "expected finite numbers, the scale above 0"
                )

    @property
    def first_time(self) -> float:
        """t₀: the first measured time after 0."""
        return next(t for t in self.times if t > 0.0)

    @property
    def fits(self) -> bool:
        """Whether the law is refuted at none of the times."""
        return min(self.ks_p_values) > REFUTED

    def at(self, time: float) -> Placed:
        """The law at a time, with its location and scale in the measurements' unit.

        Raises
        ------
        InputError
            If the time lies outside the measured ones.
        """
        if not self.times[0] <= time <= self.times[-1]:
            raise InputError(
                f"drift: time {time:g}; expected {self.times[0]:g} to {self.times[-1]:g}, "
                "the times that were measured"
            )
        family = functions(self.family)
        j = int(np.searchsorted(self.times, time))
        if self.times[j] == time:
            return family.place(np.array(self.parameters[j]))
        before, here, after = (
            float(np.log1p(t / self.first_time)) for t in (self.times[j - 1], time, self.times[j])
        )
        share = (here - before) / (after - before)
        start, end = (family.to_line(np.array(self.parameters[i])) for i in (j - 1, j))
        return family.place(family.from_line((1.0 - share) * start + share * end))

    def change(self, since: float, time: float) -> Change:
        """Shift and ratio of scales at a time, for weights programmed at the time `since`."""
        _, location, scale = self.at(time)
        _, first_location, first_scale = self.at(since)
        return Change((location - first_location) / first_scale, scale / first_scale)


def fit_drift(
    times: Sequence[float],
    groups: Sequence[np.ndarray],
    *,
    families: Collection[str] = FAMILIES,
    bounds: tuple[float, float] = (-np.inf, np.inf),
    max_degree: int = MAX_DEGREE,
    seed: int = 0,
) -> DriftingLaw:
    """Fit one family to measurements at several times.

    Parameters
    ----------
    times : (m,)
        Ascending from 0 or later.
    groups : m arrays
        Measurements at each time.
    families, bounds, max_degree, seed
        As of `refbnn.noise.fit`.

    Raises
    ------
    InputError
        If times and groups differ in number, the times do not ascend, or a group shows no shape.
    """
    if len(times) != len(groups):
        raise InputError(f"drift: {len(times)} times and {len(groups)} groups; expected as many")
    if not (np.diff(times) > 0.0).all():
        raise InputError(f"drift: times {', '.join(f'{t:g}' for t in times)}; expected ascending")
    samples, tables = [], []
    for time, values in zip(times, groups, strict=True):
        try:
            sample = checked(values, bounds)
        except InputError as error:
            raise InputError(f"drift: at time {time:g}: {error}") from None
        samples.append(sample)
        found = estimates(sample, families, bounds, max_degree)
        tables.append({estimate.family: estimate for estimate in found})
    common = set(tables[0]).intersection(*tables) if tables else set()
    total_bic = {
        family: sum(t[family].bic(s.n) for t, s in zip(tables, samples, strict=True))
        for family in sorted(common)
    }
    if not total_bic:
        raise InputError("drift: no family could be fitted at every time; expected more families")
    tried = {}
    for family in sorted(total_bic, key=total_bic.__getitem__):
        chosen = [table[family] for table in tables]
        fits = [tested([e], sample, seed) for e, sample in zip(chosen, samples, strict=True)]
        tried[family] = chosen, fits
        if all(fit.fits for fit in fits):
            break
    else:  # none stands at all times: the nearest, and `fits` says so
        family = next(iter(tried))
    chosen, fits = tried[family]
    parameters = [estimate.theta for estimate in chosen]
    if functions(family).place is place_mixture:
        parameters = _matched(parameters)
    return DriftingLaw(
        family=family,
        names=chosen[0].names,
        times=tuple(times),
        parameters=tuple(tuple(row) for row in parameters),
        n_values=tuple(fit.n_values for fit in fits),
        ks_p_values=tuple(fit.ks_p_value for fit in fits),
        total_bic=total_bic,
    )


def _matched(parameters: list[np.ndarray]) -> list[np.ndarray]:
    """Components of mixtures numbered alike at all times."""
    matched = [parameters[0]]
    for theta in parameters[1:]:
        matched.append(min(_numberings(theta), key=lambda other: _distance(matched[-1], other)))
    return matched


def _numberings(theta: np.ndarray) -> list[np.ndarray]:
    k = (theta.size + 1) // 3
    m, s, w = theta[:k], theta[k : 2 * k], np.append(theta[2 * k :], 1.0 - theta[2 * k :].sum())
    orders = (list(order) for order in permutations(range(k)))
    return [np.concatenate([m[order], s[order], w[order][:-1]]) for order in orders]


def _distance(theta: np.ndarray, other: np.ndarray) -> float:
    k = (theta.size + 1) // 3
    s, s_other = theta[k : 2 * k], other[k : 2 * k]
    apart = (theta[:k] - other[:k]) ** 2 / (s * s_other)
    return float(np.sum(apart + np.log(s / s_other) ** 2))
