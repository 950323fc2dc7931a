"""Softmax statistics of Gaussian logits in closed form: approximations to compare with.

Logits ℓ_c ~ N(m_c, v_c) independent, C classes; p = softmax(m) at the means.

*Scaled softmax*. E[logistic(x)] ≈ logistic(κ(v) m) with κ(v) = (1 + πv/8)^−½, from the logistic
function's likeness to Φ(x √(π/8)), of which the mean is known (MacKay 1992); for classes,
softmax of κ(v_c) m_c (Gibbs 1997). It is not invariant to a shift of all m by a constant, unless
the v_c are equal: m is centred here, Σ_c m_c = 0.

*Pairwise softmax*. p_c = 1/Σ_j exp(ℓ_j − ℓ_c); each difference is shrunk by its own variance,

    E[p_c] ≈ 1/(1 + Σ_{j≠c} exp(−κ(v_c + v_j)(m_c − m_j))),

then normalised (Lu, Ie & Sha 2020, mean-field approximation with pairwise variances). For C = 2 it
is MacKay's form.

*Laplace bridge* (MacKay 1998; Hobbhahn, Kristiadi & Hennig 2022). A Dirichlet law, seen in the
basis of logits, has mode and curvature of N(µ, V) with µ_c = log α_c less its mean over classes,
V_cc = (1 − 2/C)/α_c + Σ_j α_j⁻¹/C²; solved for its parameters,

    α_c = (1 − 2/C + e^{µ_c} Σ_j e^{−µ_j}/C²)/V_cc.

Softmax sees logits less their mean, which have µ_c = m_c − m̄ and V_cc = (1 − 2/C)v_c + Σ_j v_j/C².
(The 2022 paper conditions on Σ_c ℓ_c = 0 instead; that depends on a shift of m.) With α₀ = Σα:
E[p_c] = α_c/α₀, SME = ψ(α₀ + 1) − Σ_c (α_c/α₀) ψ(α_c + 1). Its mean does not tend to the softmax
as v → 0 for C > 2: only the C-dimensional set α_c = 1/v_c = e^{m_c + const} has an exact inverse,
and off it logits that differ by several units make α so large that mutual information is lost.

*Delta method*: Taylor to second order in ℓ − m, with L_c = log p_c and H = −Σ p_c L_c:

    E[p_c] ≈ p_c + ½ Σ_j v_j p_c [(δ_cj − p_j)² − p_j(1 − p_j)],
    SME    ≈ H − ½ Σ_j v_j p_j [(1 − p_j) + (1 − 2p_j)(L_j + H)],
    MI     ≈ ½ Σ_j v_j p_j (1 − p_j),

the last being half the trace of variance times Fisher information. Errors O(v²): good for spreads
well below 1 only; probabilities may leave [0, 1].

Errors of all, over spread and C: `figures.softmax_error`.
"""

from __future__ import annotations

import numpy as np
from scipy.special import digamma, entr, logsumexp, softmax

from refbnn.errors import InputError
from refbnn.layers.moments import Moments
from refbnn.prediction.result import Prediction
from refbnn.prediction.softmax.logits import centred


def scaled_softmax(logits: Moments) -> np.ndarray:
    """Mean of the softmax by scaling each logit; (B, C)."""
    m, v = centred(logits)
    return softmax(_kappa(v) * (m - m.mean(axis=1, keepdims=True)), axis=1)


def pairwise_softmax(logits: Moments) -> np.ndarray:
    """Mean of the softmax by scaling each difference of logits; (B, C), B·C² numbers in memory."""
    m, v = centred(logits)
    difference = m[:, np.newaxis] - m[:, :, np.newaxis]  # [b, c, j]: m_j − m_c
    kappa = _kappa(v[:, :, np.newaxis] + v[:, np.newaxis])
    return softmax(-logsumexp(kappa * difference, axis=2), axis=1)


def laplace_bridge(logits: Moments) -> Prediction:
    """Prediction of the Dirichlet law that resembles the logits' law.

    Raises
    ------
    InputError
        If a variance is zero (α would be infinite), there is one class, or α overflows: logits
        differ by hundreds.
    """
    m, v = centred(logits)
    n_classes = m.shape[1]
    if not v.all() or n_classes == 1:
        raise InputError(
            "laplace_bridge: a variance of zero or one class; expected positive variances, C ≥ 2"
        )
    m = m - m.mean(axis=1, keepdims=True)
    variance = (1.0 - 2.0 / n_classes) * v + v.sum(axis=1, keepdims=True) / n_classes**2
    with np.errstate(over="ignore"):
        tilt = np.exp(m + logsumexp(-m, axis=1, keepdims=True))
        alpha = (1.0 - 2.0 / n_classes + tilt / n_classes**2) / variance
        alpha_0 = alpha.sum(axis=1, keepdims=True)
    if not np.isfinite(alpha_0).all():
        raise InputError("laplace_bridge: α overflows; expected logits that differ by less")
    p = alpha / alpha_0
    sme = digamma(alpha_0[:, 0] + 1.0) - (p * digamma(alpha + 1.0)).sum(axis=1)
    return Prediction(logits, p, sme)


def delta_method(logits: Moments) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Second-order E[p] (B, C), SME (B,) and MI (B,), in nats."""
    m, v = centred(logits)
    p = softmax(m, axis=1)
    H = entr(p).sum(axis=1, keepdims=True)
    # Σ_j v_j [(δ_cj − p_j)² − p_j(1 − p_j)] = v_c(1 − 2p_c) + Σ_j v_j (2p_j² − p_j)
    common = (v * p * (2.0 * p - 1.0)).sum(axis=1, keepdims=True)
    mean = p + 0.5 * p * (v * (1.0 - 2.0 * p) + common)
    slope = p * H - entr(p)  # p_j (L_j + H), 0 where p_j is
    curvature = p * (1.0 - p) + (1.0 - 2.0 * p) * slope
    sme = H[:, 0] - 0.5 * (v * curvature).sum(axis=1)
    return mean, sme, 0.5 * (v * p * (1.0 - p)).sum(axis=1)


def _kappa(v: np.ndarray) -> np.ndarray:
    return 1.0 / np.sqrt(1.0 + np.pi * v / 8.0)
