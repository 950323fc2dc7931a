"""Propagation given sampled first layers: a mixture of Gaussians in place of one.

Formula
-------
Draw the weights θ₁ of the first layer with weights and of those behind it up to the next dense one,
run the network up to there, then propagate through the rest. With K draws,

    p(y | x) = E_θ₁ p(y | x, θ₁) ≈ (1/K) Σ_k N(y; m_k(x), v_k(x)).

Given θ₁ the inputs of that dense layer are known, so its outputs *are* independent. Neither the
correlation from the layers before nor the shape of their law is approximated: logits may have
several modes, as where sampled networks contradict each other, which one Gaussian cannot represent.
(Rao–Blackwell: exact integrals add nothing to the variance of the K draws.) The outputs of a
convolution share their kernel and depend on one another even for known inputs, so a second
convolution is drawn too. Without a second dense layer the draws are those of `Network.sample`.

Weights have the posterior's own variances, without a variance factor.

Cost: K times a propagation of the layers behind, with the same θ₁ for every input. Error: Monte
Carlo, ∝ 1/√K, in the part of the spread that θ₁ makes.
"""

from __future__ import annotations

import numpy as np

from refbnn.errors import InputError
from refbnn.layers import Dense
from refbnn.layers.moments import Moments, deterministic
from refbnn.network.network import Network
from refbnn.numerics.random.streams import stream
from refbnn.prediction.predict import SVI_SAMPLES
from refbnn.prediction.result import Prediction, from_logit_draws

_LOGIT_SAMPLES = 40  # a draw
_BLOCK = 256  # inputs at a time, to bound the memory of their draws


def propagate(net: Network, x: np.ndarray, n_draws: int, rng: np.random.Generator) -> Moments:
    """Moments of the outputs given each of n_draws draws of θ₁.

    Parameters
    ----------
    net : Network
    x : (B, ...)
    n_draws : int, at least 1
    rng : numpy.random.Generator

    Returns
    -------
    Moments of (n_draws, B, C)

    Raises
    ------
    InputError
        If x does not fit, n_draws is below 1, or a layer that is not drawn has correlated weights.
    """
    x = np.asarray(x, dtype=float)
    net.check_input(x.shape[1:])
    if n_draws < 1:
        raise InputError(f"n_draws is {n_draws}; expected at least 1")
    weighted = [index for index, layer in enumerate(net.layers) if layer.parameter_shapes()]
    dense = [index for index in weighted[1:] if isinstance(net.layers[index], Dense)]
    behind = dense[0] if dense else len(net.layers)
    late = [index for index in net.correlation if index >= behind]
    if late:
        raise InputError(f"layers {late} have correlated weights; expected independent ones")
    own = net.by_layer(net.parameters())
    means, variances = [], []
    for _ in range(n_draws):
        drawn = net.by_layer({name: array[0] for name, array in net.draw(rng)[0].items()})
        known = x
        for layer, weights in zip(net.layers[:behind], drawn, strict=False):
            known = layer.forward(known, weights)
        now = deterministic(known)
        for layer, posteriors in zip(net.layers[behind:], own[behind:], strict=True):
            now = layer.moments(now, posteriors)
        means.append(now.mean)
        variances.append(now.var)
    return Moments(np.stack(means), np.stack(variances))


def predict(
    net: Network, x: np.ndarray, *, n_draws: int = SVI_SAMPLES, seed: int = 0
) -> Prediction:
    """Predict classes from n_draws Gaussians an input, 40 draws of logits from each."""
    rng = stream(seed, "predict")
    given = propagate(net, x, n_draws, rng)
    # Of the mixture: E[y] = E[m_k], Var y = E[v_k] + Var m_k.
    logits = Moments(given.mean.mean(axis=0), given.var.mean(axis=0) + given.mean.var(axis=0))
    z = rng.standard_normal((_LOGIT_SAMPLES, n_draws, 1, logits.shape[1]))

    def draws(rows: slice) -> np.ndarray:
        samples = given.mean[:, rows] + np.sqrt(given.var[:, rows]) * z
        return samples.reshape(-1, *samples.shape[2:])

    return from_logit_draws(logits, draws, _BLOCK)
