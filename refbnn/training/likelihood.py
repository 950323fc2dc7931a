"""Likelihoods: negative log-probability of targets given a network's outputs, and its gradient.

Each takes outputs of S posterior samples for B examples and returns the negative log-likelihood,
summed over the examples and averaged over the samples, with its gradient in the outputs.

Formulas
--------
*Categorical*, logits ℓ of C classes, label y:

    −log p = log Σ_c exp ℓ_c − ℓ_y,      gradient softmax(ℓ) − onehot(y).

*Bernoulli*, one logit z of two classes, label y of 0 or 1. It is the categorical likelihood of the
logits (0, z), since σ(z) = 1/(1 + e^−z) is the softmax's second entry:

    −log p = log(1 + e^a),  a = (1 − 2y) z,      gradient (1 − 2y) σ(a).

*Gaussian with one noise for all inputs* (homoscedastic). D outputs are means m of D targets:

    −log p = Σ_d ½[(y − m)²/s_d² + log 2πs_d²],      ∂/∂m = (m − y)/s².

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
from scipy.special import expit, log_softmax, logsumexp

from refbnn.errors import InputError, suggestion


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
        if output_shape == (1,):
            raise InputError(
                "categorical: the network has 1 output; expected one for each class, or the "
                "likelihood 'bernoulli' for two classes from one logit"
            )
        _check_labels(y, output_shape[0])

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
class Bernoulli:
    """Labels y (B,) of 0 or 1 from the logit of label 1, (S, B, 1)."""

    least_samples: ClassVar[int] = 1

    def check(self, y: np.ndarray, output_shape: tuple[int, ...]) -> None:
        """See `Likelihood.check`."""
        if output_shape != (1,):
            raise InputError(
                f"bernoulli: outputs of shape {output_shape}; expected (1,), the logit of label 1"
            )
        _check_labels(y, 2)

    def __call__(self, outputs: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
        """See the formulas of this module."""
        _check(self, outputs, y)
        sign, a = _signed(outputs, y)
        nll = np.logaddexp(0, a).sum(dtype=float) / len(outputs)
        grad = sign * expit(a) / outputs.dtype.type(len(outputs))
        return float(nll), grad[..., np.newaxis]

    def predictive_score(self, outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
        """See `Likelihood.predictive_score`."""
        _check(self, outputs, y)
        return np.log(len(outputs)) - logsumexp(-np.logaddexp(0, _signed(outputs, y)[1]), axis=0)


@dataclass(frozen=True)
class HomoscedasticGaussian:
    """Targets y (B, D) of float from their means (S, B, D).

    Parameters
    ----------
    noise_sd : tuple of float
        s of each of the D targets, in their unit.
    """

    noise_sd: tuple[float, ...]
    least_samples: ClassVar[int] = 1

    def check(self, y: np.ndarray, output_shape: tuple[int, ...]) -> None:
        """See `Likelihood.check`."""
        if output_shape != (len(self.noise_sd),):
            raise InputError(
                f"gaussian: outputs of shape {output_shape}; expected ({len(self.noise_sd)},), a "
                "mean for each standard deviation of the noise"
            )
        _check_targets(y, output_shape[0])

    def __call__(self, outputs: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
        """See the formulas of this module."""
        _check(self, outputs, y)
        s, n_samples = self._spread(outputs), len(outputs)
        gap = (outputs - y.astype(outputs.dtype)) / s
        nll = 0.5 * np.square(gap).sum(dtype=float) / n_samples + len(y) * self._constant
        return float(nll), gap / (s * outputs.dtype.type(n_samples))

    def predictive_score(self, outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
        """See `Likelihood.predictive_score`."""
        _check(self, outputs, y)
        squares = np.square((y - outputs) / self._spread(outputs)).sum(axis=-1)
        return self._constant + np.log(len(outputs)) - logsumexp(-0.5 * squares, axis=0)

    def squares(self, outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Σ (y − m)² over B, averaged over S, of each target: (D,) of float64."""
        s = self._spread(outputs)
        gap = np.square((outputs - y.astype(outputs.dtype)) / s).sum(axis=(0, 1), dtype=float)
        return gap * np.square(self.noise_sd) / len(outputs)

    def _spread(self, outputs: np.ndarray) -> np.ndarray:
        return np.asarray(self.noise_sd, outputs.dtype)

    @property
    def _constant(self) -> float:
        """Σ_d ½ log 2πs_d²: −log p of an example that is met."""
        return float(np.log(np.sqrt(2.0 * np.pi) * np.asarray(self.noise_sd)).sum())


@dataclass(frozen=True)
class HeteroscedasticGaussian:
    """Targets y (B, D) of float from means and log variances (S, B, 2D)."""

    least_samples: ClassVar[int] = 1

    def check(self, y: np.ndarray, output_shape: tuple[int, ...]) -> None:
        """See `Likelihood.check`."""
        if y.ndim == 1 and output_shape in ((1,), (2,)):
            _check_targets(y, 1)
        if len(output_shape) != 1 or output_shape[0] % 2:
            raise InputError(
                f"gaussian: outputs of shape {output_shape} for targets of shape {y.shape}; "
                "expected a mean for each target, or a mean and a log variance"
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
    "bernoulli": Bernoulli(),
    "gaussian": HeteroscedasticGaussian(),
    "energy": EnergyScore(),
}


def likelihood_named(name: str, noise_sd: tuple[float, ...] | None = None) -> Likelihood:
    """Return the likelihood of this name; raise InputError if there is none.

    "gaussian" takes one noise for all inputs where `noise_sd` gives its standard deviations.
    """
    if name not in tuple(LIKELIHOODS):
        known = ", ".join(LIKELIHOODS)
        raise InputError(
            f"likelihood {name!r}; expected one of {known}{suggestion(str(name), LIKELIHOODS)}"
        )
    if name == "gaussian" and noise_sd is not None:
        return HomoscedasticGaussian(noise_sd)
    return LIKELIHOODS[name]


def check_classes(y: np.ndarray, output_shape: tuple[int, ...]) -> None:
    """Raise InputError unless labels y fit a classifier's outputs: one logit a class, or one."""
    likelihood: Likelihood = Bernoulli() if output_shape == (1,) else Categorical()
    likelihood.check(y, output_shape)


def _check(likelihood: Likelihood, outputs: np.ndarray, y: np.ndarray) -> None:
    """Raise InputError unless outputs (S, B, ...) and targets (B, ...) fit without broadcasting."""
    if outputs.shape[1:2] != y.shape[:1]:
        raise InputError(
            f"targets of shape {y.shape} for outputs of shape {outputs.shape}; "
            "expected (B, ...) and (S, B, ...)"
        )
    likelihood.check(y, outputs.shape[2:])


def _check_labels(y: np.ndarray, n_classes: int) -> None:
    """Raise InputError, with what to do, unless y (N,) holds integers from 0 to n_classes − 1."""
    wanted = f"expected integers from 0 to {n_classes - 1}, one an example"
    found = f"labels: {y.dtype} of shape {y.shape}"
    if y.ndim == 2 and y.shape[1] == 1:
        raise InputError(f"{found}; {wanted}: y[:, 0]")
    if y.ndim == 2 and y.shape[1] == n_classes:
        raise InputError(f"{found}; {wanted}: y.argmax(axis=1) of one-hot rows")
    if y.ndim != 1:
        raise InputError(f"{found}; {wanted}")
    if y.dtype.kind not in "iu":
        raise InputError(f"{found}; {wanted}: y.astype(int) if these are labels")
    if y.size and not 0 <= y.min() <= y.max() < n_classes:
        raise InputError(f"labels lie in {y.min()} ... {y.max()}; {wanted}")


def _check_targets(y: np.ndarray, dims: int) -> None:
    wanted = f"expected finite floats of shape (N, {dims})"
    found = f"targets: {y.dtype} of shape {y.shape}"
    if y.ndim == 1 and dims == 1:
        raise InputError(f"{found}; {wanted}: y[:, None]")
    if y.shape[1:] == (dims,) and y.dtype.kind in "iu":
        raise InputError(f"{found}; {wanted}: y.astype(float)")
    if y.shape[1:] != (dims,) or y.dtype.kind != "f":
        raise InputError(f"{found}; {wanted}")
    if not np.isfinite(y).all():
        raise InputError(f"{found} with NaN or infinity; {wanted}")


def _signed(outputs: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return 1 − 2y (B,), and a = (1 − 2y) z of logits z, (S, B)."""
    sign = np.where(y == 1, -1, 1).astype(outputs.dtype)
    return sign, sign * outputs[..., 0]


def _unit(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return |a| along the last axis, and a/|a|, 0 where a is 0."""
    length = np.sqrt((a * a).sum(axis=-1))
    return length, a / np.where(length > 0, length, 1)[..., np.newaxis]
