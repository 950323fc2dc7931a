"""What a network's predictions are worth: accuracy, scores, calibration, out-of-distribution.

Log score: mean of −log p̄(y | x), in nats an example, where p̄ is the predictive distribution; of a
regression, the Gaussian with the predictive mean and total variance. Less is better, and it is
proper (Gneiting & Raftery 2007). Measures of calibration: `refbnn.calibration`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from refbnn.calibration import brier, coverage, reliability
from refbnn.uncertainty import Prediction, TargetPrediction, auroc

_LEVEL = 0.9  # of the central interval whose coverage is shown

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
        Of labelled data.
    y : (B,) of int
        Their labels.
    outside : Prediction, optional
        Of out-of-distribution data, for AUROC by each of `SCORES`, with standard errors.
    """
    diagram = reliability(inside, y)
    measures = {
        "accuracy": inside.accuracy(y),
        "log_score_nats": log_score(inside, y),
        "brier_score": brier(inside, y),
        "ece": diagram.ece,
        "ece_if_calibrated": diagram.ece_if_calibrated,
    }
    for name, score in SCORES.items():
        key = name.replace(" ", "_")
        measures[f"{key}_inside_nats"] = float(score(inside).mean())
        if outside is not None:
            measures[f"{key}_outside_nats"] = float(score(outside).mean())
            area, error = auroc(score(inside), score(outside))
            measures[f"auroc_{key}"], measures[f"auroc_{key}_se"] = area, error
    return measures


def of_targets(prediction: TargetPrediction, y: np.ndarray) -> dict[str, float]:
    """Measures of a regression, in the units of y (B, D); spreads are root mean squares."""
    return {
        "rmse": float(np.sqrt(np.mean((y - prediction.mean) ** 2))),
        "log_score_nats": log_score(prediction, y),
        "epistemic_spread": float(np.sqrt(prediction.epistemic.mean())),
        "aleatoric_spread": float(np.sqrt(prediction.aleatoric.mean())),
        f"coverage_at_{_LEVEL}": float(coverage(prediction, y, np.array([_LEVEL])).share[0]),
        "coverage_deviation": coverage(prediction, y).deviation,
    }


def log_score(prediction: Prediction | TargetPrediction, y: np.ndarray) -> float:
    """Mean of −log p̄(y | x) in nats an example; for labels (B,) of int, or targets (B, D)."""
    if isinstance(prediction, Prediction):
        p = prediction.probabilities[np.arange(len(y)), y]
        with np.errstate(divide="ignore"):  # a probability may be 0: then the score is infinite
            return float(-np.log(p).mean())
    variance = prediction.epistemic + prediction.aleatoric
    square = (y - prediction.mean) ** 2 / variance
    return float(0.5 * (square + np.log(2.0 * np.pi * variance)).sum(axis=-1).mean())
