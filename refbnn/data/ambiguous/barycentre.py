"""Wasserstein barycentre of two pictures: the picture half-way along the transport between them.

    α* = argmin_α (1 - t) S_ε(p, α) + t S_ε(q, α)

p and q are pictures as distributions on the pixel grid (non-negative, sum 1), t is the weight of q,
and S_ε(p, α) = W_ε(p, α) - (W_ε(p, p) + W_ε(α, α)) / 2 is the Sinkhorn divergence: entropic
optimal transport for the squared distance in pixels, less the blur that the entropy causes. The
kernel exp(-|i - j|²/ε) is a Gaussian, K = G ⊗ G, so K a is the matrix product G a G with G of side
28: no transport plan is ever formed. From b_p = b_q = d = 1 the fixed-point iteration is

    a_p = p / K b_p,   a_q = q / K b_q
    α   = d (K a_p)^(1-t) (K a_q)^t
    b_p = α / K a_p,   b_q = α / K a_q
    d   = √(d α / K d)

Without d (d = 1) the barycentre comes out blurred, of two Gaussians of variance s² with variance
s² + ε/2; with it, as a Gaussian of variance s² at the weighted mean place, which is the exact
Wasserstein barycentre.

Accuracy: structure wider than the blur √(ε/2) of the kernel settles within some tens of iterations,
finer structure only in thousands, since the iteration has to undo that blur. Measured for 5000
digits, ε = 4 pixels² and 50 iterations: the L1 distance between a digit and its barycentre with
itself is 0.18 (median; greatest 0.43), and 0.0085 after both are blurred by the kernel (greatest
0.038; a digit moved by one pixel differs by 0.19 or more). The mass is 1 to 2e-4. Four times as
many iterations divide the median error by 2.6, sixteen times as many by 6.9.
Distances beyond about 50 pixels need a larger ε: exp(-r²/ε) must not underflow.

Sources: J. Solomon et al., "Convolutional Wasserstein Distances" (2015), algorithm 2; H. Janati,
M. Cuturi, A. Gramfort, "Debiased Sinkhorn barycenters" (2020), algorithm 1.
"""

from __future__ import annotations

import numpy as np


def barycentres(
    p: np.ndarray, q: np.ndarray, t: np.ndarray, epsilon: float, n_iterations: int
) -> np.ndarray:
    """Barycentres α of many pairs of pictures at once, (N, side, side).

    Parameters
    ----------
    p, q : (N, side, side) float64, at least 0, each picture of sum 1
    t : (N,), the weight of q, in [0, 1]
    epsilon : float
        Strength of the entropy in pixels².
    n_iterations : int, at least 1
    """
    i = np.arange(p.shape[-1])
    G = np.exp(-((i[:, None] - i) ** 2) / epsilon)
    t = t[:, None, None]
    b_p = b_q = d = np.ones_like(p)
    for _ in range(n_iterations):
        K_p, K_q = G @ (p / (G @ b_p @ G)) @ G, G @ (q / (G @ b_q @ G)) @ G
        alpha = d * K_p ** (1.0 - t) * K_q**t
        b_p, b_q = alpha / K_p, alpha / K_q
        d = np.sqrt(d * alpha / (G @ d @ G))
    return alpha
