"""Drift: a law of measured noise whose parameters change with time.

Formula
-------
One family is fitted at every time t_j at which one kind of cell was measured. ψ denotes the
family's parameters as numbers of the whole line (logarithms of scales, of weights, of 1 + α, …).
The law at a time between t_j and t_{j+1} has the parameters

    ψ(t) = (1 − λ) ψ_j + λ ψ_{j+1},   λ = (τ(t) − τ_j)/(τ_{j+1} − τ_j),   τ(t) = log(1 + t/t₀).

Relaxation of resistive memory spreads over decades of time, hence the logarithm. t₀ is the first
measured time after 0, so that τ is finite at the moment of programming and nearly linear until t₀,
where nothing was measured. The interpolated law belongs to the family, unless its components lie
further apart than the family's range. Times outside the measured ones are refused.

Family: BIC (`refbnn.noise.fitting.selection`) is summed over the times, since the samples are
independent. In the order of this sum the first family that a test refutes at none of the times is
taken; if there is none, the one of least sum. A family without a law at one of the times is left
out, as is one whose law there is too sharp to be tested.

Components of a mixture keep their identity: at every time they take the numbering nearest to that
of the time before, by the distance Σ (m − m′)²/(s s′) + log²(s/s′).

A network whose weights θ = µ + σz were programmed at time t₁ has at t₂ the weights

    θ = µ + σ (shift + ratio·z′),   shift = (L₂ − L₁)/S₁,   ratio = S₂/S₁,

with L and S the law's location and scale at either time and z′ from the law at t₂: σ is the scale
at programming.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from refbnn.errors import InputError
from refbnn.noise.fitting.bounded import MAX_DEGREE
from refbnn.noise.fitting.estimate import Estimate
from refbnn.noise.fitting.placing import FAMILIES, Placed, components, family_of, place_mixture
from refbnn.noise.fitting.result import REFUTED, NoiseFit
from refbnn.noise.fitting.sample import Sample, checked_sample
from refbnn.noise.fitting.selection import choose, estimates
from refbnn.noise.fitting.truncation import truncated


class Change(NamedTuple):
    """Change of a law between two times: shift of the mean in scales of the first, scale ratio."""

    shift: float
    ratio: float


@dataclass(frozen=True, repr=False)
class DriftingLaw:
    """A law of one family at several times, and between them; plain numbers only.

    Parameters
    ----------
    family : str
        Family as in `NoiseFit.family`.
    names : tuple of str
        Names of the parameters θ.
    times : tuple of float
        Measured times, ascending from 0 or later; any unit.
    parameters : tuple of tuples of float
        θ at each time.
    n_values : tuple of int
        Number of measurements at each time.
    ks_p_values : tuple of float
        p-value of the fit at each time.
    total_bic : dict of str to float
        BIC summed over the times, for every family that could be fitted at all of them.
    bounds : (float, float)
        Physical limits that the law is cut to at every time (`refbnn.noise.fitting.truncation`).

    Raises
    ------
    InputError
        If there are fewer than two times, they do not ascend, or the numbers do not make a law.

    Examples
    --------
    >>> rows = ((50.0, 2.0), (48.0, 8.0))  # mean and standard deviation
    >>> names = ("mean", "standard deviation")
    >>> law = DriftingLaw("Gaussian", names, (0, 60), rows, (200, 200), (0.5, 0.6), {})
    >>> law
    DriftingLaw(family='Gaussian', times=(0, 60), fits=True)
    >>> round(law.at(60).scale, 6), law.change(since=0, time=60)
    (8.0, Change(shift=-1.0, ratio=4.0))
    """

    family: str
    names: tuple[str, ...]
    times: tuple[float, ...]
    parameters: tuple[tuple[float, ...], ...]
    n_values: tuple[int, ...]
    ks_p_values: tuple[float, ...]
    total_bic: dict[str, float]
    bounds: tuple[float, float] = (-np.inf, np.inf)

    def __post_init__(self):
        # Lists, as in a JSON file, and NumPy's numbers become tuples of plain ones.
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "n_values", tuple(int(n) for n in self.n_values))
        for name in ("times", "ks_p_values", "bounds"):
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
            _, location, scale = family_of(self.family).place(np.array(row))
            if not (np.isfinite(location) and 0.0 < scale < np.inf):
                raise InputError(
                    f"drift: {self.family} {row} has location {location} and scale {scale}; "
                    "expected finite numbers, the scale above 0"
                )

    def __repr__(self) -> str:
        times = ", ".join(f"{t:g}" for t in self.times)
        return f"DriftingLaw(family={self.family!r}, times=({times}), fits={self.fits})"

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
                f"drift: time {time:g}; expected one within the measured times, "
                f"{self.times[0]:g} to {self.times[-1]:g}"
            )
        family = family_of(self.family)
        j = int(np.searchsorted(self.times, time))
        if self.times[j] == time:
            return truncated(family.place(np.array(self.parameters[j])), self.bounds)
        t_0 = next(t for t in self.times if t > 0.0)
        before, here, after = (
            float(np.log1p(t / t_0)) for t in (self.times[j - 1], time, self.times[j])
        )
        share = (here - before) / (after - before)
        start, end = (family.to_line(np.array(self.parameters[i])) for i in (j - 1, j))
        theta = family.from_line((1.0 - share) * start + share * end)
        return truncated(family.place(theta), self.bounds)

    def change(self, since: float, time: float) -> Change:
        """Shift and ratio of scales at a time, for weights programmed at time `since`."""
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
        See `refbnn.noise.fit`.

    Raises
    ------
    InputError
        If times and groups differ in number, the times do not ascend, or a group shows no shape.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> groups = [rng.normal(50.0, scale, 200) for scale in (2.0, 4.0)]
    >>> fit_drift([0.0, 60.0], groups, families=["Gaussian"])
    DriftingLaw(family='Gaussian', times=(0, 60), fits=True)
    """
    samples = _checked_samples(times, groups, bounds)
    tables = [
        {estimate.family: estimate for estimate in estimates(sample, families, bounds, max_degree)}
        for sample in samples
    ]
    common = set(tables[0]).intersection(*tables) if tables else set()
    total_bic = {
        family: sum(t[family].bic(s.n) for t, s in zip(tables, samples, strict=True))
        for family in sorted(common)
    }
    if not total_bic:
        raise InputError("drift: no family could be fitted at every time; expected more families")
    ranked = [[table[f] for table in tables] for f in sorted(total_bic, key=total_bic.__getitem__)]
    chosen, fits = _first_that_fits(ranked, samples, seed)
    parameters = [estimate.theta for estimate in chosen]
    if family_of(chosen[0].family).place is place_mixture:
        parameters = _matched(parameters)
    return DriftingLaw(
        family=chosen[0].family,
        names=chosen[0].names,
        times=tuple(times),
        parameters=tuple(tuple(row) for row in parameters),
        n_values=tuple(fit.n_values for fit in fits),
        ks_p_values=tuple(fit.ks_p_value for fit in fits),
        total_bic=total_bic,
        bounds=bounds,
    )


def _checked_samples(times, groups, bounds) -> list[Sample]:
    """Check the times and the measurements at each of them."""
    if len(times) != len(groups):
        raise InputError(
            f"drift: {len(times)} times and {len(groups)} groups; expected one group for each time"
        )
    if not (np.diff(times) > 0.0).all():
        raise InputError(f"drift: times {', '.join(f'{t:g}' for t in times)}; expected ascending")
    samples = []
    for time, values in zip(times, groups, strict=True):
        try:
            samples.append(checked_sample(values, bounds))
        except InputError as error:
            raise InputError(f"drift: at time {time:g}: {error}") from None
    return samples


def _first_that_fits(
    ranked: list[list[Estimate]], samples: list[Sample], seed: int
) -> tuple[list[Estimate], list[NoiseFit]]:
    """Choose the first family that is refuted at none of the times, or else the first of all.

    A family whose law cannot be tested at one of the times is passed over, as `fit` does.
    """
    tried = []
    for chosen in ranked:
        try:
            fits = [choose([e], sample, seed) for e, sample in zip(chosen, samples, strict=True)]
        except InputError:  # the law is too sharp for its panels
            continue
        tried.append((chosen, fits))
        if all(fit.fits for fit in fits):
            return tried[-1]
    if not tried:
        raise InputError(
            "drift: no family comes near the values at every time; expected values without far "
            "clusters or steps of rounding"
        )
    return tried[0]


def _matched(parameters: list[np.ndarray]) -> list[np.ndarray]:
    """Number the components of mixtures alike at all times."""
    from scipy.optimize import linear_sum_assignment

    matched = [parameters[0]]
    for theta in parameters[1:]:
        (m, s, _), (m_new, s_new, w_new) = components(matched[-1]), components(theta)
        m, s = m[:, np.newaxis], s[:, np.newaxis]
        distances = (m - m_new) ** 2 / (s * s_new) + np.log(s / s_new) ** 2
        order = linear_sum_assignment(distances)[1]
        matched.append(np.concatenate([m_new[order], s_new[order], w_new[order][:-1]]))
    return matched
