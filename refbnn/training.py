"""Training: minibatch Adam on means and unconstrained scales, σ = softplus(ρ)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from refbnn.elbo import Loss, check_labels, loss_and_gradient
from refbnn.errors import InputError
from refbnn.network import Network
from refbnn.optimise import Adam
from refbnn.posterior import Posterior
from refbnn.streams import stream


@dataclass(frozen=True)
class Epoch:
    """What one pass over the data cost: means over its minibatches, in nats."""

    number: int
    loss: Loss


def train(
    net: Network,
    x: np.ndarray,
    y: np.ndarray,
    *,
    likelihood: str = "categorical",
    epochs: int = 20,
    batch_size: int = 128,
    learning_rate: float = 2e-3,
    n_samples: int = 1,
    seed: int = 0,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> list[Epoch]:
    """Train a network in place by mean-field variational inference.

    Parameters
    ----------
    net : Network
        Its means and scales are replaced; law and prior stay.
    x : (N, ...)
    y : (N,) of int
    likelihood : str
        "categorical".
    epochs, batch_size, n_samples : int
        Passes over the data; examples a step (a last smaller batch is kept); posterior samples a
        step.
    learning_rate : float
        Of Adam, falling to zero over the run along half a cosine (Loshchilov & Hutter 2017).
    seed : int
        Of the order of examples and of the posterior samples.
    on_epoch : callable, optional
        Called after each epoch, to show progress.

    Returns
    -------
    list of Epoch

    Raises
    ------
    InputError
        If the arrays do not fit the network or each other, hold NaN, or an option is out of range.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y)
    _check(net, x, y, likelihood)
    for name, value in (("epochs", epochs), ("batch_size", batch_size), ("n_samples", n_samples)):
        if value < 1:
            raise InputError(f"train: {name} is {value}; expected at least 1")
    if not (np.isfinite(learning_rate) and learning_rate > 0.0):
        raise InputError(f"train: learning_rate is {learning_rate}; expected a number above 0")

    rng = stream(seed, "train")
    means = {name: p.mean.copy() for name, p in net.parameters().items()}
    rhos = {name: inverse_softplus(p.scale) for name, p in net.parameters().items()}
    adam_mean, adam_rho = Adam(learning_rate), Adam(learning_rate)
    starts = range(0, len(x), batch_size)
    history = []
    for epoch in range(epochs):
        order = rng.permutation(len(x))
        nll = kl = 0.0
        for step, start in enumerate(starts):
            progress = (epoch + step / len(starts)) / epochs
            rate = 0.5 * learning_rate * (1.0 + np.cos(np.pi * progress))
            adam_mean.learning_rate = adam_rho.learning_rate = rate
            batch = order[start : start + batch_size]
            loss, grad = loss_and_gradient(net, x[batch], y[batch], len(x), rng, n_samples)
            if not np.isfinite(loss.total):
                raise InputError(
                    f"train: loss is {loss.total} in epoch {epoch + 1}; expected "
                    "finite, try a smaller learning_rate"
                )
            adam_mean.step(means, grad.mean)
            adam_rho.step(rhos, {name: g * logistic(rhos[name]) for name, g in grad.scale.items()})
            net.set_parameters({n: Posterior(means[n].copy(), softplus(rhos[n])) for n in means})
            nll += loss.nll / len(starts)
            kl += loss.kl / len(starts)
        history.append(Epoch(epoch + 1, Loss(nll, kl)))
        if on_epoch is not None:
            on_epoch(history[-1])
    return history


def softplus(rho: np.ndarray) -> np.ndarray:
    """σ = log(1 + e^ρ), without overflow."""
    return np.logaddexp(0.0, rho)


def inverse_softplus(sigma: np.ndarray) -> np.ndarray:
    """ρ = log(e^σ − 1) = σ + log(1 − e^−σ)."""
    return sigma + np.log(-np.expm1(-sigma))


def logistic(rho: np.ndarray) -> np.ndarray:
    """dσ/dρ = 1/(1 + e^−ρ)."""
    return 0.5 * (1.0 + np.tanh(0.5 * rho))


def _check(net: Network, x: np.ndarray, y: np.ndarray, likelihood: str) -> None:
    if likelihood != "categorical":
        raise InputError(f"train: likelihood {likelihood!r}; expected 'categorical'")
    if x.ndim < 2 or y.shape != x.shape[:1] or not len(x):
        raise InputError(
            f"train: x has shape {x.shape} and y {y.shape}; expected (N, ...) and (N,), N > 0"
        )
    if not np.isfinite(x).all():
        raise InputError("train: x holds NaN or infinity; expected finite numbers")
    check_labels(y, n_classes=net.check_input(x.shape[1:])[-1])
