"""A check: a claim, the evidence, and the deviation at which the evidence refutes the claim.

Operators are checked by Monte Carlo. Hypothesis: each of K claimed numbers is the true mean (or
variance) of a random quantity. Estimator: the sample mean, or the unbiased sample variance, of n
independent samples; n is the option `--mc-samples` of `refbnn verify`. Error model: by the central
limit theorem an estimate is normal about the true value, with a standard error estimated from the
same samples. A check fails where the largest of the K z-scores exceeds the level that correct code
exceeds with probability 1e-4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from scipy.stats import norm
from tabulate import tabulate

from refbnn.layers import Layer
from refbnn.layers.moments import JointMoments, Moments

FALSE_ALARM = 1e-4  # probability that a check of correct code fails, for a fresh seed

Draw = Callable[[int], np.ndarray]  # number of samples S -> samples (S, ...)


@dataclass(frozen=True)
class Check:
    """A claim that holds while `statistic` ≤ `limit`.

    Parameters
    ----------
    name : str
        Operator and case, such as "relu moments".
    method : str
        What is compared with what, in one line.
    statistic : float
        Largest deviation, in `unit`.
    limit : float
    unit : str
        Such as "standard errors" or "of allowed error".
    n_compared : int
        Numbers compared.
    n_samples : int
        Monte Carlo samples behind each; 0 where nothing is sampled.
    worst : (float, float, float) or None
        Claim, estimate and standard error of the number that deviates most; None where nothing is
        sampled.
    """

    name: str
    method: str
    statistic: float
    limit: float
    unit: str
    n_compared: int
    n_samples: int
    worst: tuple[float, float, float] | None = None

    @property
    def holds(self) -> bool:
        """Whether the claim stands; false for NaN."""
        return bool(self.statistic <= self.limit)


def as_rows(checks: list[Check]) -> list[dict]:
    """Return the checks as plain data, for JSON and tables."""
    return [{**asdict(check), "holds": check.holds} for check in checks]


def as_text(rows: list[dict]) -> str:
    """Format the rows as a table for a terminal."""
    columns = {"name": "check", "statistic": "deviation", "limit": "limit", "unit": "unit"}
    return tabulate(
        [[row[key] for key in columns] + ["yes" if row["holds"] else "NO"] for row in rows],
        headers=[*columns.values(), "holds"],
        floatfmt=".3g",
    )


def against_monte_carlo(
    name: str,
    method: str,
    claimed: np.ndarray,
    estimate: np.ndarray,
    standard_error: np.ndarray,
    n_samples: int,
) -> Check:
    """Compare claimed values with Monte Carlo estimates, all of one shape.

    z = |claimed − estimate|/standard error. The limit on the largest of K z-scores is
    Φ⁻¹(1 − p/2K), Bonferroni's level for a false alarm in p = 1e-4 of fresh seeds, whatever the
    dependence between the K. An estimate without spread must equal the claim to rounding, 1e-12 of
    the largest value claimed.
    """
    claimed, estimate, error = (
        np.ravel(np.asarray(array, dtype=float)) for array in (claimed, estimate, standard_error)
    )
    error = np.maximum(error, 1e-12 * np.abs(claimed).max())
    z = np.abs(claimed - estimate) / error
    at = int(z.argmax())  # NaN counts as greatest
    return Check(
        name=name,
        method=method,
        statistic=float(z.max()),
        limit=float(norm.isf(FALSE_ALARM / (2 * z.size))),
        unit="standard errors",
        n_compared=z.size,
        n_samples=n_samples,
        worst=(float(claimed[at]), float(estimate[at]), float(error[at])),
    )


class MomentEstimate:
    """Running estimate of mean and variance of each entry of an array, with standard errors.

    Samples are shifted by a guess of the mean, so that raw power sums lose nothing to cancellation.
    """

    def __init__(self, guess: np.ndarray):
        self._guess = guess
        self._sums = np.zeros((4, *guess.shape))
        self.n_samples = 0

    def add(self, samples: np.ndarray) -> None:
        """Take in samples of shape (S, *guess.shape)."""
        t = samples - self._guess
        power = t.copy()
        for sums in self._sums:
            sums += power.sum(axis=0)
            power *= t
        self.n_samples += len(samples)

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Return estimates and standard errors, each (2, *guess.shape): mean, then variance.

        se(mean) = √(m₂/n); se(variance) = √((m₄ − m₂²)/n), leading order in 1/n.
        """
        n = self.n_samples
        r1, r2, r3, r4 = self._sums / n
        m2 = np.maximum(r2 - r1**2, 0.0)  # below 0 by rounding where all samples are equal
        m4 = r4 - 4.0 * r3 * r1 + 6.0 * r2 * r1**2 - 3.0 * r1**4
        estimate = np.stack([self._guess + r1, m2 * n / (n - 1)])
        return estimate, np.sqrt(np.stack([m2, np.maximum(m4 - m2**2, 0.0)]) / n)


class CovarianceEstimate:
    """Running estimate of the means and covariances of a vector, with standard errors.

    Products p = (y_i − m_i)(y_j − m_j) are taken about the claimed means m. Where these are right,
    the mean of p estimates Cov(y_i, y_j), with a standard error of √((E[p²] − Cov²)/n).
    """

    def __init__(self, mean: np.ndarray):
        n = mean.size
        self._mean = mean
        self._sum, self._products, self._squares = np.zeros(n), np.zeros((n, n)), np.zeros((n, n))
        self.n_samples = 0

    def add(self, samples: np.ndarray) -> None:
        """Take in samples of shape (S, n)."""
        d = samples - self._mean
        self._sum += d.sum(axis=0)
        self._products += d.T @ d
        d *= d
        self._squares += d.T @ d
        self.n_samples += len(samples)

    def check(self, name: str, method: str, pairs: tuple, claimed: np.ndarray) -> Check:
        """Compare all means, and the covariances claimed for the pairs of indices (i, j)."""
        n = self.n_samples
        cov = self._products / n
        error = np.sqrt(np.maximum(self._squares / n - cov**2, 0.0) / n)
        return against_monte_carlo(
            name,
            method,
            np.concatenate([self._mean, claimed]),
            np.concatenate([self._mean + self._sum / n, cov[pairs]]),
            np.concatenate([np.sqrt(np.diag(cov) / n), error[pairs]]),
            n,
        )


def blocks(n_samples: int, block: int = 20_000) -> list[int]:
    """Sizes of the blocks in which n_samples samples are drawn, to bound memory."""
    return [min(block, n_samples - start) for start in range(0, n_samples, block)]


def of_expectations(
    name: str, method: str, claimed: np.ndarray, draw: Draw, n_samples: int
) -> Check:
    """Compare claimed expectations with means of samples of shape (S, *claimed.shape)."""
    (mean, _), (error, _) = _estimated(claimed, draw, n_samples).result()
    return against_monte_carlo(name, method, claimed, mean, error, n_samples)


def of_moments(name: str, method: str, claim: Moments, draw: Draw, n_samples: int) -> Check:
    """Compare claimed means and variances with those of samples of shape (S, *claim.shape)."""
    return _of_estimate(name, method, claim, _estimated(claim.mean, draw, n_samples))


def of_joint_moments(
    claims: Mapping[str, JointMoments],
    what: str,
    draw: Callable[[int], Mapping[str, np.ndarray]],
    n_samples: int,
) -> list[Check]:
    """Compare claimed means and covariances, (1, n) and (1, n, n), with samples (S, n), by name."""
    estimates = {name: CovarianceEstimate(claim.mean[0]) for name, claim in claims.items()}
    for size in blocks(n_samples):
        samples = draw(size)
        for name, estimate in estimates.items():
            estimate.add(samples[name])
    method = f"means and covariances of {what} against samples"
    checks = []
    for name, claim in claims.items():
        pairs = np.triu_indices(claim.mean.shape[1])
        checks.append(estimates[name].check(name, method, pairs, claim.cov[0][pairs]))
    return checks


def of_known_and_random(
    title: str,
    claims: Mapping[str, Moments],
    x: Moments,
    outputs: Callable[[Moments, int], np.ndarray],
    n_samples: int,
) -> list[Check]:
    """Compare claims for a random input x, and then for its means as known input, with samples."""
    inputs = x, Moments(x.mean, np.zeros_like(x.var))
    method = "mean and variance of each output against sampled products, summed one by one"
    return [
        of_moments(f"{title}, {case})", method, claim, partial(outputs, x), n_samples)
        for x, (case, claim) in zip(inputs, claims.items(), strict=True)
    ]


def of_layers(
    layers: Mapping[str, Layer], x: Moments, method: str, n_samples: int, rng: np.random.Generator
) -> list[Check]:
    """Compare moments of layers without weights with outputs for samples of one Gaussian input."""
    claims = {name: layer.moments(x, {}) for name, layer in layers.items()}
    estimates = {name: MomentEstimate(claim.mean) for name, claim in claims.items()}
    for size in blocks(n_samples):
        samples = x.mean + np.sqrt(x.var) * rng.standard_normal((size, *x.shape))
        for name, layer in layers.items():
            estimates[name].add(layer.forward(samples, {}))
    return [_of_estimate(name, method, claim, estimates[name]) for name, claim in claims.items()]


def _estimated(guess: np.ndarray, draw: Draw, n_samples: int) -> MomentEstimate:
    estimate = MomentEstimate(guess)
    for size in blocks(n_samples):
        estimate.add(draw(size))
    return estimate


def _of_estimate(name: str, method: str, claim: Moments, estimate: MomentEstimate) -> Check:
    claimed = np.stack([claim.mean, claim.var])
    return against_monte_carlo(name, method, claimed, *estimate.result(), estimate.n_samples)
