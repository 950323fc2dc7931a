"""The loss of mean-field variational inference and its hand-written gradient.

Formulas
--------
For a minibatch of B out of N examples and one posterior sample θ = µ + σ z,

    L = (N/B)·Σ_batch −log p(y | x, θ)  +  KL(q‖p):

the minibatch term is scaled up to the whole data set, the KL is counted once; L estimates the
negative evidence lower bound without bias. (Libraries that average the likelihood over the batch
must divide the KL by N to agree.) With g = ∂(first term)/∂θ from the layers' backward passes, the
pathwise gradients are (Kingma & Welling 2014; Blundell et al. 2015)

    ∂L/∂µ = E[g] + ∂KL/∂µ,      ∂L/∂σ = E[g·z] + ∂KL/∂σ,

averaged over the posterior samples. KL and its gradient: `refbnn.kl`, no sampling.

Categorical likelihood of logits ℓ: −log p = log Σ_c exp ℓ_c − ℓ_y, gradient softmax(ℓ) − onehot(y).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from refbnn import kl
from refbnn.errors import InputError
from refbnn.network import Network, Weights


@dataclass(frozen=True)
class Loss:
    """The two terms of the negative evidence lower bound, in nats for the whole data set.

    Parameters
    ----------
    nll : float
        (N/B)·Σ −log p(y | x, θ), averaged over posterior samples.
    kl : float
        KL(q‖p) summed over all weights.
    """

    nll: float
    kl: float

    @property
    def total(self) -> float:
        """Negative evidence lower bound."""
        return self.nll + self.kl


@dataclass(frozen=True)
class Gradient:
    """∂L/∂µ and ∂L/∂σ of every weight array, by name."""

    mean: Weights
    scale: Weights


def check_labels(y: np.ndarray, n_classes: int) -> None:
    """Raise InputError unless y holds integers in [0, n_classes)."""
    if y.dtype.kind not in "iu" or (y.size and not 0 <= y.min() <= y.max() < n_classes):
        raise InputError(f"labels: expected integers from 0 to {n_classes - 1}")


def categorical(logits: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Sum of −log p(y | logits) over batch and samples, and its gradient.

    Parameters
    ----------
    logits : (..., B, C)
    y : (B,) of int in [0, C)

    Returns
    -------
    nll : float
    grad : (..., B, C)

    Raises
    ------
    InputError
        If a label is not an integer in [0, C).
    """
    n_classes = logits.shape[-1]
    check_labels(y, n_classes)
    is_label = np.arange(n_classes) == y[:, np.newaxis]
    log_p = logits - logsumexp(logits, axis=-1, keepdims=True)
    return -float(log_p[..., is_label].sum()), np.exp(log_p) - is_label


def loss_and_gradient(
    net: Network,
    x: np.ndarray,
    y: np.ndarray,
    n_data: int,
    rng: np.random.Generator,
    n_samples: int = 1,
) -> tuple[Loss, Gradient]:
    """Unbiased estimate of the loss and of its gradient from one minibatch.

    Parameters
    ----------
    net : Network
    x : (B, ...)
    y : (B,) of int
    n_data : int
        N, the size of the whole data set.
    rng : numpy.random.Generator
        Source of the posterior samples.
    n_samples : int
        Posterior samples to average over, held in memory together.
    """
    theta, z = net.draw(rng, n_samples)
    logits, inputs = net.forward(x, theta)
    nll, grad_logits = categorical(logits, y)
    scaling = n_data / (len(x) * n_samples)
    g = net.backward(inputs, theta, scaling * grad_logits)
    divergences = kl.divergence(net.parameters(), net.law, net.prior)
    return (
        Loss(scaling * nll, sum(float(d.value.sum()) for d in divergences.values())),
        Gradient(
            {name: g[name].sum(axis=0) + d.d_mean for name, d in divergences.items()},
            {name: (g[name] * z[name]).sum(axis=0) + d.d_scale for name, d in divergences.items()},
        ),
    )
