"""Prediction by propagation (PFP) and by sampling (SVI): same call, same result type."""

from __future__ import annotations

import numpy as np

from refbnn.errors import InputError
from refbnn.moments import Moments
from refbnn.network import Network
from refbnn.streams import stream
from refbnn.uncertainty import Prediction, from_logit_samples

SVI_SAMPLES = 30  # forward passes, as in arXiv 2511.23440
LOGIT_SAMPLES = 1000  # draws of propagated logits: cheap, no forward pass
_BLOCK = 256  # inputs at a time, to bound the memory of their draws


def predict(
    net: Network,
    x: np.ndarray,
    *,
    method: str = "pfp",
    n_samples: int | None = None,
    seed: int = 0,
) -> Prediction:
    """Predict the classes of inputs, with their uncertainty.

    Parameters
    ----------
    net : Network
    x : (B, ...)
    method : str
        "pfp": one propagation, then `n_samples` draws of independent Gaussian logits with common
        random numbers for all inputs. "svi": `n_samples` passes with sampled weights.
    n_samples : int, optional
        Default 1000 for "pfp", 30 for "svi".
    seed : int

    Raises
    ------
    InputError
        If the method is unknown, n_samples < 2, or x does not fit the network.
    """
    if n_samples is not None and n_samples < 2:
        raise InputError(f"predict: n_samples is {n_samples}; expected at least 2")
    rng = stream(seed, "predict")
    if method == "pfp":
        return from_propagated(net.propagate(x), n_samples or LOGIT_SAMPLES, rng)
    if method == "svi":
        samples = net.sample(x, n_samples or SVI_SAMPLES, rng)
        return from_logit_samples(
            samples, Moments(samples.mean(axis=0), samples.var(axis=0, ddof=1))
        )
    raise InputError(f"predict: method {method!r}; expected 'pfp' or 'svi'")


def from_propagated(logits: Moments, n_samples: int, rng: np.random.Generator) -> Prediction:
    """Prediction from the moments (B, C) of logits taken as independent Gaussians."""
    z = rng.standard_normal((n_samples, 1, logits.shape[-1]))
    spread = np.sqrt(logits.var)
    probabilities, aleatoric = np.empty(logits.shape), np.empty(logits.shape[0])
    for start in range(0, logits.shape[0], _BLOCK):
        rows = slice(start, start + _BLOCK)
        part = Moments(logits.mean[rows], logits.var[rows])
        block = from_logit_samples(part.mean + spread[rows] * z, part)
        probabilities[rows], aleatoric[rows] = block.probabilities, block.aleatoric
    return Prediction(logits, probabilities, aleatoric)
