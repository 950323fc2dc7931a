"""Does the Kolmogorov–Smirnov test of a fitted law keep its level?

Hypothesis: the p-value of a fit to values of a law of the same family is uniform, so it exceeds
0.05 in 95 % of repetitions. Estimator: the share of repetitions with p > 0.05, each with n = 500
values drawn from the law. Error model: binomial; with 400 repetitions the standard error is
√(0.95·0.05/400) = 0.011. "any" lets every family compete, as `refbnn.noise.fit` does by default. It
passes more often, because the next family replaces one that fails.

Measured: 0.9425 to 0.9625 for every case, "any" included.

    python -m verification.calibration [repetitions]
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

import numpy as np

from refbnn.noise import Bimodal, DeviceLaw, Gaussian, HeavyTailed, Law, Mixture, fit
from refbnn.noise.fitting.sample import checked_sample
from refbnn.noise.fitting.selection import choose, estimates
from refbnn.numerics.random.streams import stream

LEVEL = 0.05
N_VALUES = 500

CASES: dict[str, tuple[Law, str]] = {
    "Gaussian": (Gaussian(), "Gaussian"),
    "two peaks": (Bimodal(separation=0.85, weight=0.4, ratio=1.3), "bimodal"),
    "narrow in broad": (Bimodal(separation=0.1, weight=0.6, ratio=4.0), "bimodal"),
    "three normals": (Mixture((0.3, 0.5, 0.2), (-3.0, 0.0, 4.0), (0.8, 1.0, 1.2)), "three normals"),
    "heavy tails": (HeavyTailed(steepness=0.85, asymmetry=0.2), "heavy-tailed"),
    "light tails, skewed": (HeavyTailed(steepness=0.5, asymmetry=0.3), "heavy-tailed"),
    "uniform": (DeviceLaw(0.0, 0.0), "device, degree 0"),
    "arcsine": (DeviceLaw(-0.5, -0.5), "device, degree 0"),
    "vanishing edges": (DeviceLaw(3.0, 2.0), "device, degree 0"),
    "edges at the border of regularity": (DeviceLaw(0.5, 1.0), "device, degree 0"),
    "one edge of each kind": (DeviceLaw(-0.3, 2.5, (0.4,)), "device, degree 1"),
    "curved interior": (DeviceLaw(0.0, 0.0, (0.3, 1.5)), "device, degree 2"),
}
_ANY = {f"{name}, any": (CASES[name][0], "any") for name in ("heavy tails", "uniform")}


def p_values(law: Law, family: str, repetitions: Iterable[int], n: int = N_VALUES) -> np.ndarray:
    """Compute p-values of fits of one family to n values of a law, one for each seed.

    The family is named as in `NoiseFit.family`, or "any".
    """
    found = []
    everything = (-np.inf, np.inf)
    for seed in repetitions:
        values = law.sample(stream(seed, "calibration"), (n,))
        if family == "any":
            found.append(fit(values, seed=seed).ks_p_value)
            continue
        kind, _, degree = family.partition(", degree ")
        sample = checked_sample(values, everything)
        fits = estimates(sample, (kind,), everything, int(degree or 0))
        one = [estimate for estimate in fits if estimate.family == family]
        found.append(choose(one, sample, seed).ks_p_value)
    return np.array(found)


def main(repetitions: int = 400) -> None:
    """Print the share of repetitions that pass, for every case."""
    error = np.sqrt(LEVEL * (1.0 - LEVEL) / repetitions)
    print(f"{repetitions} repetitions of {N_VALUES} values; standard error {error:.4f}")
    for name, (law, family) in (CASES | _ANY).items():
        p = p_values(law, family, range(repetitions))
        print(f"{name:36s}{family:20s}{np.mean(p > LEVEL):.4f}   mean p {p.mean():.3f}", flush=True)


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
