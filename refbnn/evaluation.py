"""What a network's predictions are worth, in numbers: accuracy, log scores, out-of-distribution.

Log score: mean of −log p̄(y | x), in nats an example, where p̄ is the predictive distribution; of a
regression, the Gaussian with the predictive mean and total variance. Less is better, and it is
proper (Gneiting & Raftery 2007).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from refbnn.uncertainty import Prediction, TargetPrediction, auroc

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
    p = inside.probabilities[np.arange(len(y)), y]
    with np.errstate(divide="ignore"):  # a probability may round to 0: then the score is infinite
        log_score = -np.log(p).mean()
    measures = {"accuracy": inside.accuracy(y), "log_score_nats": float(log_score)}
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
    variance = prediction.epistemic + prediction.aleatoric
    gap = y - prediction.mean
    log_score = 0.5 * (gap**2 / variance + np.log(2.0 * np.pi * variance)).sum(axis=-1)
    return {
        "rmse": float(np.sqrt(np.mean(gap**2))),
        "log_score_nats": float(log_score.mean()),
        "epistemic_spread": float(np.sqrt(prediction.epistemic.mean())),
        "aleatoric_spread": float(np.sqrt(prediction.aleatoric.mean())),
    }
