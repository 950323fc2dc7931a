"""Uncertainty of a classifier from samples of its logits, and of a regression from its outputs.

Formulas
--------
With p_s = softmax(ℓ_s) for samples s = 1 … S of the logits of one input, p̄ = mean_s p_s and
H(p) = −Σ_c p_c log p_c (Depeweg et al. 2018):

    predictive entropy H(p̄)  =  aleatoric (mean softmax entropy, SME) mean_s H(p_s)
                               +  epistemic (mutual information, MI) H(p̄) − mean_s H(p_s).

MI from S samples is too low. With the deviations δ_c = p_s,c − E p_c, to second order in δ:
MI = ½ Σ_c Var p_c/E p_c. The entropy is concave and p̄ still varies, Var p̄_c = Var p_c/S, so

    E[H(p̄)] = H(E p) − (1/2S) Σ_c Var p_c/E p_c,      E[MI_S] ≈ (1 − 1/S) MI,

while mean_s H(p_s) has no bias. For 30 samples that is 3 %; it is not corrected here.

AUROC of a score between in- and out-of-distribution inputs is P(score_out > score_in), ties
counted half: the Mann–Whitney statistic over the number of pairs (Hanley & McNeil 1982, with the
standard error of their equation 1).

Regression with learned variance (`refbnn.training.likelihood`), means m_s and log variances t_s of
samples:

    total variance  =  aleatoric mean_s exp t_s  +  epistemic Var_s m_s   (law of total variance).

From moments of Gaussian m and t the same are E[e^t] = exp(E[t] + ½Var t) and Var m. Outputs without
log variances (energy score) have no aleatoric part of their own: it is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import entr, softmax

from refbnn.layers.moments import Moments


@dataclass(frozen=True)
class Prediction:
    """What a network says of B inputs with C classes, however it was computed.

    Parameters
    ----------
    logits : Moments of shape (B, C)
    probabilities : (B, C)
        p̄.
    aleatoric : (B,)
        Mean softmax entropy, nats.
    """

    logits: Moments
    probabilities: np.ndarray
    aleatoric: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """Most probable class, shape (B,)."""
        return self.probabilities.argmax(axis=-1)

    @property
    def entropy(self) -> np.ndarray:
        """Predictive entropy H(p̄) in nats, shape (B,)."""
        return entr(self.probabilities).sum(axis=-1)

    @property
    def mutual_information(self) -> np.ndarray:
        """Epistemic part in nats, shape (B,); at least 0 but for rounding (Jensen)."""
        return np.maximum(self.entropy - self.aleatoric, 0.0)

    def accuracy(self, y: np.ndarray) -> float:
        """Share of inputs whose label is y, in [0, 1]."""
        return float(np.mean(self.labels == y))


@dataclass(frozen=True)
class TargetPrediction:
    """What a network says of D targets of B inputs; variances in the square of their unit.

    Parameters
    ----------
    mean, epistemic, aleatoric : (B, D)
        Predictive mean, and the two parts of the predictive variance.
    """

    mean: np.ndarray
    epistemic: np.ndarray
    aleatoric: np.ndarray


def from_output_moments(outputs: Moments, n_targets: int) -> TargetPrediction:
    """Prediction of targets from moments of outputs (B, D or 2D) taken as Gaussian."""
    mean, var = outputs.mean[:, :n_targets], outputs.var[:, :n_targets]
    t, t_var = outputs.mean[:, n_targets:], outputs.var[:, n_targets:]
    aleatoric = np.exp(t + 0.5 * t_var) if t.size else np.zeros_like(mean)
    return TargetPrediction(mean, var, aleatoric)


def from_logit_samples(samples: np.ndarray, logits: Moments) -> Prediction:
    """Prediction from samples of logits (S, B, C) and their moments (B, C)."""
    p, entropies = softmax_sums(samples)
    return Prediction(logits, p / len(samples), entropies / len(samples))


def softmax_sums(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Σ_s p_s, (B, C), and Σ_s H(p_s), (B,), of samples of logits (S, B, C)."""
    p = softmax(samples, axis=-1)
    return p.sum(axis=0), entr(p).sum(axis=-1).sum(axis=0)


def auroc(inside: np.ndarray, outside: np.ndarray) -> tuple[float, float]:
    """Area under the ROC curve for telling `outside` by its greater score, and standard error.

    Parameters
    ----------
    inside, outside : (n,), (m,)
        Scores of in- and out-of-distribution inputs.
    """
    from scipy.stats import mannwhitneyu

    n, m = len(inside), len(outside)
    a = float(mannwhitneyu(outside, inside).statistic) / (n * m)
    q1, q2 = a / (2.0 - a), 2.0 * a**2 / (1.0 + a)
    variance = (a * (1.0 - a) + (m - 1) * (q1 - a**2) + (n - 1) * (q2 - a**2)) / (n * m)
    return a, float(np.sqrt(variance))
