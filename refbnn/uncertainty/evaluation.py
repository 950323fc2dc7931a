"""Quality of predictions: accuracy, scores, calibration, detection of out-of-distribution inputs.

The log score is the mean of −log p̄(y | x) in nats an example, where p̄ is the predictive
distribution; for a regression, the Gaussian with the predictive mean and total variance. Less is
better, and it is proper (Gneiting & Raftery 2007). For calibration see
`refbnn.uncertainty.calibration`.

Without variance the Gaussian is a point, and the score the limit of variances that fall to 0: +∞
where a target is missed, which no target that is met makes up for, and −∞ where all are met.

A key that ends in _se holds the standard error of the measure before it over the choice of examples
(not of posterior samples or training runs). For a mean of n numbers it is their sample standard
deviation over √n; it is infinite for one example, or where the mean is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from refbnn.errors import InputError
from refbnn.prediction.result import Prediction, TargetPrediction
from refbnn.uncertainty.auroc import auroc
from refbnn.uncertainty.calibration import brier, coverage, reliability

_LEVEL = 0.9  # level of the central interval whose coverage is given

SCORES: dict[str, Callable[[Prediction], np.ndarray]] = {
    "mutual information": lambda p: p.mutual_information,
    "predictive entropy": lambda p: p.entropy,
}


def of_classes(
    inside: Prediction, y: np.ndarray, outside: Prediction | None = None
) -> dict[str, float]:
    """Measures of a classifier; keys name their units.

    Parameters
    ----------
    inside : Prediction
        Prediction of labelled data.
    y : (B,) of int
        The labels.
    outside : Prediction, optional
        Prediction of out-of-distribution data, for AUROC by each of `SCORES`.

    Raises
    ------
    InputError
        If there is no input, inside or outside, the labels do not fit, or a probability is NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from refbnn import Moments
    >>> logits = Moments(np.zeros((2, 2)), np.zeros((2, 2)))
    >>> p = Prediction(logits, np.array([[0.5, 0.5], [0.1, 0.9]]), np.array([0.6, 0.2]))
    >>> measures = of_classes(p, np.array([0, 1]))
    >>> measures["accuracy"], round(measures["brier_score"], 2)
    (1.0, 0.26)
    """
    diagram = reliability(inside, y)
    if outside is not None and not len(outside.aleatoric):
        raise InputError("no input out of distribution; expected at least one")
    measures = {
        **_mean("accuracy", inside.labels == y),
        **_mean("log_score_nats", log_scores(inside, y)),
        "brier_score": brier(inside, y),
        "ece": diagram.ece,
        "ece_if_calibrated": diagram.ece_if_calibrated,
    }
    for name, score in SCORES.items():
        key = name.replace(" ", "_")
        measures |= _mean(f"{key}_inside_nats", score(inside))
        if outside is not None:
            measures |= _mean(f"{key}_outside_nats", score(outside))
            area, error = auroc(score(inside), score(outside))
            measures[f"auroc_{key}"], measures[f"auroc_{key}_se"] = area, error
    return measures


def of_targets(prediction: TargetPrediction, y: np.ndarray) -> dict[str, float]:
    """Measures of a regression, in the units of y (B, D); spreads are root mean squares.

    Raises
    ------
    InputError
        If there is no target, the shapes differ, a target or mean is not finite, or a variance NaN
        or negative.
    """
    y = np.asarray(y)
    whole = coverage(prediction, y)  # the first, for its checks
    return {
        "rmse": float(np.sqrt(np.mean((y - prediction.mean) ** 2))),
        **_mean("log_score_nats", log_scores(prediction, y)),
        "epistemic_spread": float(np.sqrt(prediction.epistemic.mean())),
        "aleatoric_spread": float(np.sqrt(prediction.aleatoric.mean())),
        f"coverage_at_{_LEVEL}": float(coverage(prediction, y, np.array([_LEVEL])).share[0]),
        "coverage_deviation": whole.deviation,
    }


def log_scores(prediction: Prediction | TargetPrediction, y: np.ndarray) -> np.ndarray:
    """−log p̄(y | x) of each example, (B,), in nats; y are labels (B,) of int or targets (B, D).

    It may be infinite, see the top of the file.
    """
    if isinstance(prediction, Prediction):
        p = prediction.probabilities[np.arange(len(y)), y]
        with np.errstate(divide="ignore"):  # a probability may be 0: then the score is infinite
            return -np.log(p)
    variance = prediction.epistemic + prediction.aleatoric
    gap = (y - prediction.mean) ** 2
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        ratio = np.divide(gap, variance, out=np.zeros_like(gap), where=gap > 0.0)  # 0/0: it is met
        terms = 0.5 * (ratio + np.log(2.0 * np.pi * variance))
    missed = ((gap > 0.0) & (variance == 0.0)).any(axis=-1)
    terms[missed] = np.inf  # or inf − inf where another target of the example is met
    return terms.sum(axis=-1)


def _mean(key: str, values: np.ndarray) -> dict[str, float]:
    """Mean of values (B,) and its standard error, under the key and key_se."""
    # A score of +∞ outweighs those of −∞: the squares grow faster than the logarithms fall.
    values = np.asarray(values, float)
    mean = np.inf if np.isposinf(values).any() else float(values.mean())
    n = len(values)
    known = n > 1 and np.isfinite(mean)
    error = float(values.std(ddof=1) / np.sqrt(n)) if known else np.inf
    return {key: mean, f"{key}_se": error}
