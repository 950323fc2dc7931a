"""Choose among families: the simplest law that the measurements do not refute.

Every family's most likely law has the Bayesian information criterion

    BIC = p log n − 2 log L   (Schwarz 1978),

p counting every estimated number: location and scale, shape, edges of a support. The laws take a
Kolmogorov–Smirnov test (`evidence`) in the order of increasing BIC, and the first that passes is
chosen: BIC says which law is nearest, but not that it is near. If none passes, the law of least BIC
is returned, and `NoiseFit.fits` is false. Since the test took part in the choice, the p-value of
the chosen law says "not refuted" and nothing more.

KL(data ‖ fit) = −Ĥ − mean log q, Ĥ being Vasicek's spacing estimate of entropy (1976). Values tied
by an instrument's step are first spread evenly over it, since nothing is known within a step.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from refbnn.errors import InputError, suggestion
from refbnn.noise.fitting.bounded import EDGES, MAX_DEGREE, fit_device
from refbnn.noise.fitting.estimate import Estimate
from refbnn.noise.fitting.evidence import (
    Cells,
    cells_of,
    critical_distance,
    ks_distance,
    ks_replicates,
    share_beyond,
    standard_errors,
)
from refbnn.noise.fitting.heavy import fit_heavy_tailed
from refbnn.noise.fitting.normals import fit_bimodal, fit_gaussian, fit_three_normals
from refbnn.noise.fitting.placing import FAMILIES
from refbnn.noise.fitting.result import REFUTED, Candidate, NoiseFit, Parameter
from refbnn.noise.fitting.sample import Sample, checked_sample, inside
from refbnn.noise.fitting.truncation import MOST_OUTSIDE, cut_to_bounds, outside

_SEARCHES = {
    "Gaussian": fit_gaussian,
    "bimodal": fit_bimodal,
    "three normals": fit_three_normals,
    "heavy-tailed": fit_heavy_tailed,
}


def fit(
    values: np.ndarray,
    *,
    families: Collection[str] = FAMILIES,
    bounds: tuple[float, float] = (-np.inf, np.inf),
    max_degree: int = MAX_DEGREE,
    seed: int = 0,
) -> NoiseFit:
    """Fit a law to raw measurements.

    Parameters
    ----------
    values : (n,)
        Independent measurements; any order, any unit, tied by rounding or not.
    families : collection of str
        Some of `refbnn.noise.fitting.FAMILIES`.
    bounds : (float, float)
        Physical limits, in the unit of the values. Bounded supports stay within them; laws on the
        whole line are cut there, or left out (see `refbnn.noise.fitting.truncation`).
    max_degree : int
        Greatest degree of a device law's interior to try.
    seed : int
        Seed of the replicates behind the p-value.

    Raises
    ------
    InputError
        If no family or an unknown one is named, or the values do not show a shape (see
        `refbnn.noise.fitting.sample.checked_sample`).

    Examples
    --------
    >>> values = np.random.default_rng(0).normal(50.0, 3.0, 200)
    >>> result = fit(values, families=["Gaussian"])
    >>> result.family, round(result.location, 3), round(result.scale, 3), result.fits
    ('Gaussian', 50.046, 2.884, True)
    """
    unknown = [name for name in families if name not in FAMILIES]
    if unknown or not families:
        raise InputError(
            f"fit: families {', '.join(map(repr, unknown)) or 'none'}; "
            f"expected some of {', '.join(FAMILIES)}"
            f"{suggestion(unknown[0], FAMILIES) if unknown else ''}"
        )
    sample = checked_sample(values, bounds)
    found, left_out = search(sample, families, bounds, max_degree)
    if not found:
        raise InputError(
            f"fit: {', '.join(left_out)} would leave {min(left_out.values()):.2g} or more of the "
            f"probability outside the bounds {bounds[0]:g} to {bounds[1]:g}; expected the family "
            "device, or wider bounds"
        )
    return replace(choose(found, sample, seed), left_out=left_out)


def estimates(
    sample: Sample, families: Collection[str], bounds: tuple[float, float], max_degree: int
) -> list[Estimate]:
    """Find the most likely law of every family that keeps the bounds, least BIC first."""
    return search(sample, families, bounds, max_degree)[0]


def search(
    sample: Sample, families: Collection[str], bounds: tuple[float, float], max_degree: int
) -> tuple[list[Estimate], dict[str, float]]:
    """Find what `estimates` returns, and the families left out with their probability outside."""
    found = [one_family(sample) for name, one_family in _SEARCHES.items() if name in families]
    left_out = {}
    if bounds != (-np.inf, np.inf):
        missed = {e.family: outside(e.placed, bounds) for e in found}
        left_out = {family: p for family, p in missed.items() if not p <= MOST_OUTSIDE}
        found = [cut_to_bounds(e, bounds, sample.n) for e in found if e.family not in left_out]
    if "device" in families:
        kept = inside(bounds, sample.values[0], sample.values[-1])
        found += fit_device(sample, kept, max_degree)
    return sorted(found, key=lambda estimate: estimate.bic(sample.n)), left_out


def choose(found: list[Estimate], sample: Sample, seed: int) -> NoiseFit:
    """Choose the first of the laws that passes the test, or else the first of all."""
    trials = []
    for estimate in found:
        try:
            cells = cells_of(estimate, sample)
        except InputError:  # the law is too sharp for its panels
            continue
        distance = ks_distance(cells, sample)
        replicates = ks_replicates(cells, sample.n, seed)
        p_value = share_beyond(replicates, distance)
        trials.append((estimate, cells, replicates, distance, p_value))
        if trials[-1][-1] > REFUTED:
            break
    if not trials:
        raise InputError(
            "fit: no law of the families comes near these values; expected values without far "
            "clusters or steps of rounding"
        )
    estimate, cells, replicates, distance, p_value = trials[-1 if trials[-1][-1] > REFUTED else 0]
    p_values = {trial[0].family: trial[-1] for trial in trials}
    placed = estimate.placed
    return NoiseFit(
        law=placed.law,
        location=placed.location,
        scale=placed.scale,
        family=estimate.family,
        n_values=sample.n,
        log_likelihood=estimate.log_likelihood,
        parameters=_parameters(estimate, cells, sample.n),
        candidates=tuple(
            Candidate(
                family=other.family,
                n_parameters=other.theta.size,
                log_likelihood=other.log_likelihood,
                bic=other.bic(sample.n),
                ks_p_value=p_values.get(other.family),
            )
            for other in found
        ),
        ks_distance=distance,
        ks_p_value=p_value,
        ks_critical_distance=critical_distance(replicates, REFUTED),
        kl_from_data=_divergence(estimate, sample),
        cut=estimate.cut,
    )


def _parameters(estimate: Estimate, cells: Cells, n: int) -> tuple[Parameter, ...]:
    errors = dict(zip(estimate.free, standard_errors(cells, n), strict=True))
    parameters = []
    for i, name in enumerate(estimate.names):
        value, at_bound = float(estimate.theta[i]), name in estimate.at_bound
        error = float(errors[i]) if i in errors and np.isfinite(errors[i]) else None
        note = "" if error is not None else "the measurements do not tell it from others"
        if name in estimate.irregular:
            placed = estimate.placed
            u = 1.0 / n if name == EDGES[0] else 1.0 - 1.0 / n
            quantile = placed.location + placed.scale * float(placed.law.icdf(np.array(u)))
            error = abs(quantile - value)
            note = "not regular: distance of the 1/n-quantile"
        if at_bound:
            note = f"at its bound: {estimate.at_bound[name]}" + (f"; {note}" if error else "")
        parameters.append(Parameter(name, value, error, at_bound, note))
    return tuple(parameters)


def _divergence(estimate: Estimate, sample: Sample) -> float:
    """KL(data ‖ fit)."""
    from scipy.stats import differential_entropy

    # Equal values move by (k + ½)/count − ½ of a step.
    _, first, counts = np.unique(sample.values, return_index=True, return_counts=True)
    rank = np.arange(sample.n) - np.repeat(first, counts)
    shift = (rank + 0.5) / np.repeat(counts, counts) - 0.5
    spread = np.sort(sample.values + sample.step * shift * (np.repeat(counts, counts) > 1))
    entropy = float(differential_entropy(spread, method="vasicek"))
    return -entropy - estimate.log_likelihood / sample.n
