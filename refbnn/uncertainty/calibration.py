"""Calibration: whether events of predicted probability q happen in a share q of cases.

Classes
-------
*Reliability diagram* (DeGroot & Fienberg 1983): inputs are sorted into bins by confidence, their
greatest probability. Bin b has n_b inputs, mean confidence conf_b, and a share acc_b classified
correctly. *Expected calibration error* (Naeini et al. 2015; Guo et al. 2017):

    ECE = Σ_b (n_b/n) |acc_b − conf_b|.

Bins have equal widths in [0, 1], or equal mass: equal numbers of inputs (± 1, equal confidences
stay together). ECE has two biases. Chance raises it: with a perfectly calibrated predictor
acc_b − conf_b has the variance Σ_{i∈b} q_i(1 − q_i)/n_b² of Bernoulli trials with the confidences
q_i, and for a normal sum E|x| = √(2/π) of its deviation gives

    E[ECE | calibrated] ≈ Σ_b (n_b/n) √(2 Σ_{i∈b} q_i(1 − q_i)/π)/n_b,

here `ece_if_calibrated`: an ECE near it is no evidence of miscalibration. Binning lowers it: errors
of opposite sign in one bin cancel, so ECE rises with the number of bins (Kumar, Liang & Ma 2019).

*Brier score*: mean of Σ_c (p_c − 1[y = c])², in [0, 2]; proper (Brier 1950).

Regression
----------
*Coverage* (Kuleshov, Fenner & Ermon 2018): the share of targets inside the central interval of
level q of the predictive distribution, here the Gaussian with the predictive mean m and the total
variance v. A target y is inside from the level erf(|y − m|/√(2v)) on, so the curve is the
distribution function of these levels: the diagonal if calibrated, with standard error
√(q(1 − q)/n); above it if the intervals are too wide.
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


@dataclass(frozen=True, eq=False)
class Reliability:
    """A reliability diagram: n_b ≥ 1, conf_b, acc_b and Σ_{i∈b} q_i(1 − q_i), (K,) for K bins."""

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
        """ECE to expect from chance alone."""
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
    """Brier score, in [0, 2]; raises InputError where `reliability` does."""
    y = _labels(prediction, y)
    wanted = np.arange(prediction.probabilities.shape[1]) == y[:, np.newaxis]
    return float(np.square(prediction.probabilities - wanted).sum(axis=1).mean())


@dataclass(frozen=True, eq=False)
class Coverage:
    """Observed share of targets in central intervals of K nominal levels, (K,) each."""

    level: np.ndarray
    share: np.ndarray
    n_targets: int

    @property
    def deviation(self) -> float:
        """Mean |share − level| over the levels."""
        return float(np.abs(self.share - self.level).mean())

    @property
    def standard_error(self) -> np.ndarray:
        """Standard error of each share if calibrated and targets are independent; (K,)."""
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
    """Check that labels fit the probabilities, and that these are no NaN."""
    y = np.asarray(y)
    n, n_classes = prediction.probabilities.shape
    integers = n and y.shape == (n,) and y.dtype.kind in "iu"
    if not integers or not 0 <= y.min() <= y.max() < n_classes:
        raise InputError(
            f"labels: {y.dtype} of shape {y.shape}; expected {n} integers (at least one) "
            f"from 0 to {n_classes - 1}"
        )
    if np.isnan(prediction.probabilities).any():
        raise InputError("labels: a predicted probability is NaN; expected numbers in [0, 1]")
    return y
