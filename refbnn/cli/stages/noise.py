"""Stage 1: measured values -> fitted law, its inverse CDF and its quadrature rule."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from figures import noise_fit
from refbnn.cli.report import Picture, Section, Table
from refbnn.noise import DeviceLaw, NoiseFit, cumulants
from refbnn.noise.fitting import REFUTED
from verification import Check


@dataclass(frozen=True)
class NoiseResult:
    """Part of the report."""

    section: Section
    numbers: dict
    checks: list[Check]


def run(found: NoiseFit, values: np.ndarray, column: str, source: str, work: Path) -> NoiseResult:
    """Describe the law fitted to the values of one column and draw it over them."""
    law = found.law
    noise_fit.draw(values, _with_unit(column), found, work / "noise_fit.png")
    check = Check(
        name="noise: the fitted law is not refuted",
        method=f"Kolmogorov–Smirnov test of {found.n_values} values against the fitted law",
        statistic=float(-np.log10(max(found.ks_p_value, 1e-300))),
        limit=float(-np.log10(REFUTED)),
        unit="−log₁₀ of the p-value",
        n_compared=1,
        n_samples=0,
    )
    kappa = cumulants(law)
    numbers = {
        "source": source,
        "column": column,
        "n_values": found.n_values,
        "law": asdict(law),
        "location": found.location,
        "scale": found.scale,
        "support": found.support,
        "skewness": kappa[2],
        "excess_kurtosis": kappa[3],
        "entropy_nats": law.entropy,
        "log_likelihood_nats": found.log_likelihood,
        "bic": found.bic,
        "ks_distance": found.ks_distance,
        "ks_p_value": found.ks_p_value,
        "kl_from_data_nats": found.kl_from_data,
    }
    return NoiseResult(_section(found, source, column, kappa), {"noise": numbers}, [check])


def _with_unit(column: str) -> str:
    """Axis label: "conductance_uS" -> "conductance (µS)"."""
    name, _, unit = column.rpartition("_")
    return f"{name} (µS)" if unit == "uS" and name else column


def _section(found: NoiseFit, source: str, column: str, kappa: list[float]) -> Section:
    law: DeviceLaw = found.law
    terms = ", ".join(f"{c:.3f}" for c in law.coefficients) or "none"
    rows = [
        ["edge exponents α, β", f"{law.alpha:.3f}, {law.beta:.3f}"],
        ["interior coefficients c₁, c₂, …", terms],
        [f"support, {column}", f"{found.support[0]:.5g} to {found.support[1]:.5g}"],
        [f"mean and standard deviation, {column}", f"{found.location:.5g}, {found.scale:.4g}"],
        ["skewness, excess kurtosis", f"{kappa[2]:.3f}, {kappa[3]:.3f}"],
        ["entropy of the standardised law (Gaussian: 1.419)", f"{law.entropy:.4f} nats"],
        [
            "Kolmogorov–Smirnov distance, p-value",
            f"{found.ks_distance:.4f}, {found.ks_p_value:.3f}",
        ],
        [
            "KL(data ‖ fit), Vasicek's estimate",
            "not seen: tied values"
            if found.kl_from_data is None
            else f"{found.kl_from_data:.4f} nats",
        ],
    ]
    degrees = [[str(degree), f"{bic:.1f}"] for degree, bic in found.bic.items()]
    return Section(
        "Noise",
        [
            f"{found.n_values} values of {column}: {source}. A bounded device law, "
            "q(y) ∝ (1 + y)^α (1 − y)^β exp(Σ c_k T_k(y)) on [−1, 1], was fitted by maximum "
            "likelihood (support, exponents and coefficients together); the degree of the "
            "interior is the one with the least Bayesian information criterion. Weights use its "
            "standardised form, mean 0 and variance 1.",
            "The p-value is that of a law known beforehand: for a fitted one it is too large, so a "
            "small value refutes the fit and a large one only fails to.",
        ],
        [
            Table("Fitted law", ["quantity", "value"], rows),
            Table("Choice of degree", ["degree", "BIC (least is best)"], degrees),
        ],
        [
            Picture(
                "noise_fit.png",
                "Left: the values, the fitted law, the Gaussian of equal mean and scale, and the "
                "nodes of the law's 8-node Gauss rule. Right: the inverse CDF that samples are "
                "drawn through, over the quantiles of the values.",
            )
        ],
    )
