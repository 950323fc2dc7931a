"""Calibration of predictions: do events of predicted probability q happen in a share q of cases?

Classes
-------
*Reliability diagram* (DeGroot & Fienberg 1983): inputs in bins by confidence, the greatest
probability; in bin b, of n_b inputs, acc_b is the share classified correctly, conf_b the mean
confidence. *Expected calibration error* (Naeini et al. 2015; Guo et al. 2017):

    ECE = Σ_b (n_b/n) |acc_b − conf_b|.

Bins are of equal width in [0, 1], or of equal mass, holding equal numbers of inputs (± 1, ties in
confidence kept together). ECE is biased twice. Upwards by chance: with a perfectly calibrated
predictor acc_b − conf_b is not 0 but has the variance Σ_{i∈b} q_i(1 − q_i)/n_b² of Bernoulli trials
with the confidences q_i, so that, for a normal sum, E|x| = √(2/π) of its deviation gives

    E[ECE | calibrated] ≈ Σ_b (n_b/n) √(2 Σ_{i∈b} q_i(1 − q_i)/π)/n_b,

here `ece_if_calibrated`: an ECE near it is no evidence of miscalibration. Downwards by binning:
what is too high in one half of a bin cancels what is too low in the other, so that ECE rises with
the number of bins (Kumar, Liang & Ma 2019).

*Brier score*: mean of Σ_c (p_c − 1[y = c])², in [0, 2]; proper (Brier 1950).

Regression
----------
*Coverage* (Kuleshov, Fenner & Ermon 2018): the share of targets inside the central interval of
level q of the predictive distribution, here the Gaussian with the predictive mean m and the total
variance v. A target y is inside from the level erf(|y − m|/√(2v)) on, so the curve is the
distribution function of these levels: the diagonal if calibrated, with the standard error
√(q(1 − q)/n), above it if the intervals are too wide. `deviation`: mean |coverage − q| over levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import erf

from refbnn.errors import InputError
from refbnn.prediction.result import Prediction, TargetPrediction

N_BINS = 15  # Guo et al. 2017
LEVELS = np.arange(1, 20) / 20.0


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram of K bins, empty ones left out.

    Parameters
    ----------
    count : (K,) of int
        Inputs in a bin, n_b ≥ 1.
    confidence, accuracy : (K,)
        conf_b and acc_b.
    variance : (K,)
        Σ_{i∈b} q_i(1 − q_i): of the number of right answers, if calibrated.
    """

    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    variance: np.ndarray

    @property
    def ece(self) -> float:
        """Expected calibration error, in [0, 1]."""
        return float(self.count @ np.abs(self.accuracy - self.confidence) / self.count.sum())

    @property
    def ece_if_calibrated(self) -> float:
        """What chance alone makes of ECE."""
        return float(np.sqrt(2.0 * self.variance / np.pi).sum() / self.count.sum())


def reliability(
    prediction: Prediction,
    y: np.ndarray,
    n_bins: int = N_BINS,
    bins: Literal["width", "mass"] = "width",
) -> Reliability:
    """Sort N ≥ 1 inputs into bins by confidence.

    Parameters
    ----------
    prediction : Prediction
    y : (N,) of int
        Labels.
    n_bins : int, at least 1
    bins : {"width", "mass"}
        Equal widths in [0, 1], or equal numbers of inputs.

    Raises
    ------
    InputError
        If the labels do not fit the prediction, a probability is NaN, or there are no such bins.
    """
    y = _labels(prediction, y)
    if bins not in ("width", "mass") or n_bins < 1:
        raise InputError(
            f"reliability: {n_bins} bins of equal {bins!r}; expected at least 1, 'width' or 'mass'"
        )
    q = np.minimum(prediction.probabilities.max(axis=1), 1.0)  # a sum may round to more
    if bins == "width":
        which = np.minimum((q * n_bins).astype(int), n_bins - 1)
    else:  # the rank of the first of equal confidences, so that they stay together
        which = np.searchsorted(np.sort(q), q, side="left") * n_bins // len(q)
    right = prediction.labels == y

    def total(values):
        return np.bincount(which, values, minlength=n_bins)

    count = np.bincount(which, minlength=n_bins)
    some = count > 0
    n = count[some]
    return Reliability(n, total(q)[some] / n, total(right)[some] / n, total(q * (1.0 - q))[some])


def brier(prediction: Prediction, y: np.ndarray) -> float:
    """Brier score, in [0, 2]; InputError as `reliability`."""
    y = _labels(prediction, y)
    wanted = np.arange(prediction.probabilities.shape[1]) == y[:, np.newaxis]
    return float(np.square(prediction.probabilities - wanted).sum(axis=1).mean())


@dataclass(frozen=True)
class Coverage:
    """Share of targets in central intervals of given levels.

    Parameters
    ----------
    level : (K,)
        Nominal, ascending in (0, 1).
    share : (K,)
        Observed.
    n_targets : int
    """

    level: np.ndarray
    share: np.ndarray
    n_targets: int

    @property
    def deviation(self) -> float:
        """Mean |share − level| over the levels."""
        return float(np.abs(self.share - self.level).mean())

    @property
    def standard_error(self) -> np.ndarray:
        """Of each share, if calibrated and targets are independent; (K,)."""
        return np.sqrt(self.level * (1.0 - self.level) / self.n_targets)


def coverage(prediction: TargetPrediction, y: np.ndarray, levels: np.ndarray = LEVELS) -> Coverage:
    """Coverage of all targets y (N, D) together, N·D ≥ 1.

    Raises
    ------
    InputError
        If the shapes differ, a target or mean is not finite, a variance NaN or negative, or a
        level not between 0 and 1.
    """
    mean, variance = prediction.mean, prediction.epistemic + prediction.aleatoric
    y = np.asarray(y, dtype=float)
    if y.shape != mean.shape or variance.shape != mean.shape or not y.size:
        raise InputError(
            f"coverage: targets of shape {y.shape}, predictions {mean.shape} and {variance.shape}; "
            "expected the same shape, and at least one"
        )
    if not (np.isfinite(y).all() and np.isfinite(mean).all() and (variance >= 0.0).all()):
        raise InputError(
            "coverage: a target or mean is not finite, or a variance NaN or negative; "
            "expected finite targets and means, variances of at least 0"
        )
    levels = np.asarray(levels, dtype=float)
    if not ((levels > 0.0) & (levels < 1.0)).all():
        raise InputError("coverage: a level lies outside (0, 1); expected levels inside")
    gap = np.abs(y - mean)
    # Without variance: a target is inside every interval if it is met, else inside none.
    z = np.divide(gap, np.sqrt(2.0 * variance), out=np.full(gap.shape, np.inf), where=variance > 0)
    inside_from = np.sort(erf(np.where(gap == 0.0, 0.0, z)).ravel())
    share = np.searchsorted(inside_from, levels, side="right") / y.size
    return Coverage(levels, share, y.size)


def _labels(prediction: Prediction, y: np.ndarray) -> np.ndarray:
    """Check labels of classes for the probabilities, and the latter."""
    y = np.asarray(y)
    n, n_classes = prediction.probabilities.shape
    if (
        y.shape != (n,)
        or not n
        or y.dtype.kind not in "iu"
        or not 0 <= y.min() <= y.max() < n_classes
    ):
        raise InputError(
            f"labels: {y.dtype} of shape {y.shape}; expected {n} integers (at least one) "
            f"from 0 to {n_classes - 1}"
        )
    if np.isnan(prediction.probabilities).any():
        raise InputError("labels: a predicted probability is NaN; expected numbers in [0, 1]")
    return y
