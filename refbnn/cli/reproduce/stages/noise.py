"""Stage 1: measured values -> fitted law, its inverse CDF and its quadrature rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from figures.pictures import law as law_picture
from refbnn.cli import describe
from refbnn.cli.report import Picture, Section
from refbnn.cli.reproduce.part import Part
from refbnn.noise import NoiseFit
from refbnn.noise.fitting import REFUTED
from verification import Check


def run(found: NoiseFit, values: np.ndarray, column: str, source: str, work: Path) -> Part:
    """Describe the law fitted to the values of one column and draw it over them."""
    place = describe.measured(found, column)
    law_picture.draw(found.law, place, work / "noise_fit.png", values)
    check = Check(
        name="noise: the fitted law is not refuted",
        method=f"Kolmogorov–Smirnov test of {found.n_values} values against the fitted law",
        statistic=float(-np.log10(max(found.ks_p_value, 1e-300))),
        limit=float(-np.log10(REFUTED)),
        unit="−log₁₀ of the p-value",
        n_compared=1,
        n_samples=0,
    )
    numbers = describe.fit_numbers(found, column, source)
    return Part(_section(found, source, column), {"noise": numbers}, [check])


def _section(found: NoiseFit, source: str, column: str) -> Section:
    place = describe.measured(found, column)
    return Section(
        "Noise",
        [
            f"{found.n_values} values of {column}: {source}. Laws of several families were fitted "
            "by maximum likelihood. The chosen law is the first, in order of the Bayesian "
            "information criterion, that a Kolmogorov–Smirnov test does not refute. Weights use "
            "its standardised form, mean 0 and variance 1. The p-value takes into account that the "
            "law was fitted to the same values: a small one refutes the fit, a large one proves "
            "nothing.",
        ],
        [describe.law_table(found.law, place), *describe.fit_tables(found)],
        [
            Picture(
                "noise_fit.png",
                "Left: the values, the fitted law, the Gaussian of equal mean and scale, and the "
                "nodes of the law's 8-node Gauss rule. Right: the inverse CDF that samples are "
                "drawn through, over the quantiles of the values.",
            )
        ],
    )
