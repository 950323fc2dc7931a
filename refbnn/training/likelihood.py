"""Likelihoods: negative log-probability of targets given a network's outputs, and its gradient.

Each takes outputs of S posterior samples for B examples and returns the negative log-likelihood,
summed over the examples and averaged over the samples, with its gradient in the outputs.

Formulas
--------
*Categorical*, logits ℓ of C classes, label y:

    −log p = log Σ_c exp ℓ_c − ℓ_y,      gradient softmax(ℓ) − onehot(y).

*Gaussian with learned variance* (heteroscedastic; Nix & Weigend 1994). The first D of 2D outputs
are means m, the others are log variances t:

    −log p = Σ_d ½[(y − m)² e^−t + t + log 2π],
    ∂/∂m = (m − y)e^−t,    ∂/∂t = ½[1 − (y − m)² e^−t].

*Energy score* (Gneiting & Raftery 2007, section 4.2), no likelihood of one sample but a score of
all S ≥ 2 together; with outputs f_s and Euclidean norms,

    ES = (2/S) Σ_s |f_s − y|  −  1/(S(S − 1)) Σ_{s≠s'} |f_s − f_s'|.

Its mean over posterior samples and over targets y ~ P is the energy distance between the
predictive distribution and P (Székely & Rizzo 2013) plus a constant of P. The sum over pairs leaves
out s = s', so the estimate is unbiased. The score is strictly proper where means are finite.
Gradient: ∂|a − b|/∂a = (a − b)/|a − b|, and 0 where a = b.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from scipy.special import log_softmax, logsumexp

from refbnn.errors import InputError


class Likelihood(Protocol):
    """The interface of every likelihood."""

    least_samples: ClassVar[int]

    def check(self, y: np.ndarray, output_shape: tuple[int, ...]) -> None:
        """Raise InputError unless targets y fit outputs of this shape for one example."""

    def __call__(self, outputs: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
        """Return −log p(y | outputs), summed over B and averaged over S, and its gradient."""

    def predictive_score(self, outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return −log mean_s p(y | f_s) of each example, (B,); for the energy score, that score."""


@dataclass(frozen=True)
class Categorical:
    """Labels y (B,) of int in [0, C) from logits (S, B, C)."""

    least_samples: ClassVar[int] = 1

    def check(self, y: np.ndarray, output_shape: tuple[int, ...]) -> None:
        """See `Likelihood.check`."""
        if len(output_shape) != 1:
            raise InputError(f"categorical: outputs of shape {output_shape}; expected (classes,)")
        last = output_shape[0] - 1
        integers = y.ndim == 1 and y.dtype.kind in "iu"
        if not integers or (y.size and not 0 <= y.min() <= y.max() <= last):
            raise InputError(f"labels: expected integers from 0 to {last}, one an example")

    def __call__(self, outputs: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
        """See the formulas of this module."""
        _check(self, outputs, y)
        n_samples = len(outputs)
        # Log-sum-exp written out: SciPy's leaves float32, and costs more than a small network.
        shifted = outputs - outputs.max(axis=-1, keepdims=True)
        p = np.exp(shifted)
        total = p.sum(axis=-1, keepdims=True)
        p /= total
        rows = np.arange(len(y))
        nll = np.log(total[..., 0]) - shifted[:, rows, y]
        p[:, rows, y] -= 1
        return float(nll.sum(dtype=float)) / n_samples, p / outputs.dtype.type(n_samples)

    def predictive_score(self, outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
        """See `Likelihood.predictive_score`."""
        _check(self, outputs, y)
        log_p = log_softmax(outputs, axis=-1)[:, np.arange(len(y)), y]
        return np.log(len(outputs)) - logsumexp(log_p, axis=0)


@dataclass(frozen=True)
class HeteroscedasticGaussian:
    """Targets y (B, D) of float from means and log variances (S, B, 2D)."""

    least_samples: ClassVar[int] = 1

    def check(self, y: np.ndarray, output_shape: tuple[int, ...]) -> None:
        """See `Likelihood.check`."""
        if len(output_shape) != 1 or output_shape[0] % 2:
            raise InputError(
                f"gaussian: outputs of shape {output_shape}; expected a mean and a log variance "
                "for each target"
            )
        _check_targets(y, output_shape[0] // 2)

    def __call__(self, outputs: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
        """See the formulas of this module."""
        _check(self, outputs, y)
        n_samples, dims = len(outputs), outputs.shape[-1] // 2
        m, t = outputs[..., :dims], outputs[..., dims:]
        gap, precision = m - y.astype(outputs.dtype), np.exp(-t)
        square = gap * gap * precision
        nll = 0.5 * (square + t).sum(dtype=float) / n_samples + 0.5 * y.size * np.log(2.0 * np.pi)
        grad = np.concatenate([gap * precision, (1 - square) / 2], axis=-1)
        return float(nll), grad / outputs.dtype.type(n_samples)

    def predictive_score(self, outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
        """See `Likelihood.predictive_score`."""
        _check(self, outputs, y)
        dims = outputs.shape[-1] // 2
        m, t = outputs[..., :dims], outputs[..., dims:]
        log_p = -0.5 * ((y - m) ** 2 * np.exp(-t) + t + np.log(2.0 * np.pi)).sum(axis=-1)
        return np.log(len(outputs)) - logsumexp(log_p, axis=0)


@dataclass(frozen=True)
class EnergyScore:
    """Targets y (B, D) of float from outputs (S, B, D), S at least 2."""

    least_samples: ClassVar[int] = 2

    def check(self, y: np.ndarray, output_shape: tuple[int, ...]) -> None:
        """See `Likelihood.check`."""
        if len(output_shape) != 1:
            raise InputError(f"energy: outputs of shape {output_shape}; expected (targets,)")
        _check_targets(y, output_shape[0])

    def __call__(self, outputs: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
        """See the formulas of this module; S passes over (S, B, D) for the pairs."""
        scores, grad = self._scores(outputs, y)
        return float(scores.sum(dtype=float)), grad

    def predictive_score(self, outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
        """See `Likelihood.predictive_score`."""
        return self._scores(outputs, y)[0]

    def _scores(self, outputs: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        _check(self, outputs, y)
        n_samples, number = len(outputs), outputs.dtype.type
        if n_samples < self.least_samples:
            raise InputError(f"energy: {n_samples} sample; expected at least {self.least_samples}")
        distance, direction = _unit(outputs - y.astype(outputs.dtype))
        scores = number(2 / n_samples) * distance.sum(axis=0)
        grad = number(2 / n_samples) * direction
        per_pair = number(1 / (n_samples * (n_samples - 1)))
        for s in range(n_samples):
            distance, direction = _unit(outputs[s] - outputs)
            scores -= per_pair * distance.sum(axis=0)
            grad[s] -= 2 * per_pair * direction.sum(axis=0)
        return scores, grad


LIKELIHOODS: dict[str, Likelihood] = {
    "categorical": Categorical(),
    "gaussian": HeteroscedasticGaussian(),
    "energy": EnergyScore(),
}


def likelihood_named(name: str) -> Likelihood:
    """Return the likelihood of this name; raise InputError if there is none."""
    if name not in tuple(LIKELIHOODS):
        raise InputError(f"likelihood {name!r}; expected one of {', '.join(LIKELIHOODS)}")
    return LIKELIHOODS[name]


def _check(likelihood: Likelihood, outputs: np.ndarray, y: np.ndarray) -> None:
    """Raise InputError unless outputs (S, B, ...) and targets (B, ...) fit without broadcasting."""
    if outputs.shape[1:2] != y.shape[:1]:
        raise InputError(
            f"targets of shape {y.shape} for outputs of shape {outputs.shape}; "
            "expected (B, ...) and (S, B, ...)"
        )
    likelihood.check(y, outputs.shape[2:])


def _check_targets(y: np.ndarray, dims: int) -> None:
    if y.shape[1:] != (dims,) or y.dtype.kind != "f" or not np.isfinite(y).all():
        raise InputError(
            f"targets: {y.dtype} of shape {y.shape}; expected finite floats of shape (N, {dims})"
        )


def _unit(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return |a| along the last axis, and a/|a|, 0 where a is 0."""
    length = np.sqrt((a * a).sum(axis=-1))
    return length, a / np.where(length > 0, length, 1)[..., np.newaxis]
