"""A law and a fit in words and numbers, the same on a terminal, in a report and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from refbnn.cli.report import Table
from refbnn.noise import Law, NoiseFit, cumulants
from refbnn.noise.fitting.evidence import P_FLOOR
from refbnn.noise.fitting.result import p_text
from refbnn.noise.storage import Measured, as_data

_ORDER = 6  # of the cumulants shown


def measured(found: NoiseFit, column: str) -> Measured:
    """Location and scale of a fitted law in the measurements' unit."""
    return Measured(column, found.location, found.scale)


def law_table(law: Law, place: Measured) -> Table:
    """Show a law in numbers: support, cumulants, entropy, quantiles."""
    low, high = (place.location + place.scale * edge for edge in law.support)
    kappa = cumulants(law, _ORDER)
    quantiles = place.location + place.scale * law.icdf(np.array([0.01, 0.5, 0.99]))
    rows = [
        [f"mean, {place.quantity}", f"{place.location:.6g}"],
        [f"standard deviation, {place.quantity}", f"{place.scale:.6g}"],
        [f"support, {place.quantity}", f"{low:.6g} to {high:.6g}"],
        ["skewness κ₃", f"{kappa[2]:.4f}"],
        ["excess kurtosis κ₄", f"{kappa[3]:.4f}"],
        ["κ₅, κ₆ (standardised)", f"{kappa[4]:.4g}, {kappa[5]:.4g}"],
        ["entropy of the standardised law (Gaussian: 1.4189)", f"{law.entropy:.4f} nats"],
        ["quantiles 1 %, 50 %, 99 %", ", ".join(f"{q:.5g}" for q in quantiles)],
    ]
    return Table("Law", ["quantity", "value"], rows)


def law_numbers(law: Law, place: Measured) -> dict[str, Any]:
    """Give the numbers of `law_table` for JSON; `law` is what `refbnn.noise.load_law` reads."""
    levels = np.array([0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99])
    quantiles = place.location + place.scale * law.icdf(levels)
    return {
        **as_data(law, place),
        "mean": place.location,
        "standard_deviation": place.scale,
        "support": [place.location + place.scale * edge for edge in law.support],
        "cumulants_standardised": cumulants(law, _ORDER),
        "entropy_of_standardised_law_nats": law.entropy,
        "quantiles": dict(zip(map(str, levels.tolist()), quantiles.tolist(), strict=True)),
    }


def fit_tables(found: NoiseFit) -> list[Table]:
    """Show a fit: parameters with their uncertainty, the evidence, the families compared."""
    parameters = [
        [p.name, f"{p.value:.5g}", "" if p.uncertainty is None else f"{p.uncertainty:.2g}", p.note]
        for p in found.parameters
    ]
    evidence = [
        ["verdict", found.verdict],
        ["Kolmogorov–Smirnov distance", f"{found.ks_distance:.4f}"],
        ["its p-value, for a fitted law", p_text(found.ks_p_value)],
        ["greatest distance not refuted at 1 %", f"{found.ks_critical_distance:.4f}"],
        ["KL(data ‖ fit), Vasicek's estimate", f"{found.kl_from_data:.4f} nats"],
        ["values", str(found.n_values)],
    ]
    candidates = [
        [
            c.family,
            str(c.n_parameters),
            f"{c.log_likelihood:.2f}",
            f"{c.bic:.2f}",
            "" if c.ks_p_value is None else p_text(c.ks_p_value),
            "chosen" if c.family == found.family else "",
        ]
        for c in found.candidates
    ]
    return [
        Table(
            "Parameters", ["parameter", "estimate", "standard error", "note"], parameters, (0, 3)
        ),
        Table("Evidence", ["quantity", "value"], evidence, (0, 1)),
        Table(
            "Families, least BIC first",
            ["family", "parameters", "log-likelihood (nats)", "BIC", "KS p-value", ""],
            candidates,
            (0, 5),
        ),
    ]


def fit_numbers(found: NoiseFit, column: str, source: str) -> dict[str, Any]:
    """A fit and its evidence, for JSON; `law` is what `refbnn.noise.load_law` reads."""
    kappa = cumulants(found.law, _ORDER)
    return {
        **as_data(found.law, measured(found, column)),
        "cumulants_standardised": kappa,
        "skewness": kappa[2],
        "excess_kurtosis": kappa[3],
        "entropy_nats": found.law.entropy,
        "source": source,
        "column": column,
        "n_values": found.n_values,
        "family": found.family,
        "fits": found.fits,
        "verdict": found.verdict,
        "support": found.support,
        "log_likelihood_nats": found.log_likelihood,
        "parameters": [asdict(p) for p in found.parameters],
        "candidates": [asdict(c) for c in found.candidates],
        "ks_distance": found.ks_distance,
        "ks_p_value": found.ks_p_value,
        "ks_p_value_floor": P_FLOOR,
        "ks_critical_distance": found.ks_critical_distance,
        "kl_from_data_nats": found.kl_from_data,
        "probability_cut_by_bounds": found.cut,
        "families_left_out_by_bounds": dict(found.left_out),
    }
