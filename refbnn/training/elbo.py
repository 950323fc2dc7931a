"""The loss of mean-field variational inference and its hand-written gradient.

Formulas
--------
For a minibatch of B out of N examples and one posterior sample θ = µ + σ z,

    L = (N/B)·Σ_batch −log p(y | x, θ)  +  λ·KL(q‖p):

the minibatch term is scaled up to the whole data set, the KL is counted once; with λ = 1, L
estimates the negative evidence lower bound without bias (exceptions: `loss_and_gradient`).
(Libraries that average the likelihood over the batch must divide the KL by N to agree.) λ < 1 only
while KL warms up. With
g = ∂(first term)/∂θ from the layers' backward passes, the pathwise gradients are (Kingma & Welling
2014; Blundell et al. 2015)

    ∂L/∂µ = E[g] + λ ∂KL/∂µ,      ∂L/∂σ = E[g·z] + λ ∂KL/∂σ,

averaged over the posterior samples. KL and its gradient: `refbnn.training.kl.kl`, no sampling.
Likelihoods: `refbnn.training.likelihood`. Layers whose weights are correlated: z stands for R z,
see `refbnn.network.correlated_weights`. With local reparameterisation the first term is sampled by
pre-activations, see `refbnn.training.local_reparameterisation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from refbnn.errors import InputError
from refbnn.network import correlated_weights as correlation
from refbnn.network.network import Network, Weights
from refbnn.noise.families.gaussian import Gaussian
from refbnn.training import local_reparameterisation as local
from refbnn.training.kl import kl
from refbnn.training.likelihood import Categorical, Likelihood


@dataclass(frozen=True)
class Loss:
    """The two terms of the negative evidence lower bound, in nats for the whole data set.

    Parameters
    ----------
    nll : float
        (N/B)·Σ −log p(y | x, θ), averaged over posterior samples.
    kl : float
        KL(q‖p) summed over all weights; counted in full, also while it warms up.
    """

    nll: float
    kl: float

    @property
    def total(self) -> float:
        """Negative evidence lower bound."""
        return self.nll + self.kl


@dataclass(frozen=True)
class Gradient:
    """∂L/∂µ and ∂L/∂σ of every weight array by name, ∂L/∂A of every correlated layer by index."""

    mean: Weights
    scale: Weights
    correlation: dict[int, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Objective:
    """What a training minimises, but for the data.

    Parameters
    ----------
    likelihood : Likelihood
    n_samples : int
        Posterior samples to average over, held in memory together.
    local : bool
        Local reparameterisation in place of sampled weights.
    threads : int
        Parts of a minibatch that are computed at the same time; not with `local`.

    Raises
    ------
    InputError
        If there are fewer samples than the likelihood needs.
    """

    likelihood: Likelihood = field(default_factory=Categorical)
    n_samples: int = 1
    local: bool = False
    threads: int = 1

    def __post_init__(self):
        if self.n_samples < self.likelihood.least_samples:
            raise InputError(
                f"n_samples is {self.n_samples}; expected at least "
                f"{self.likelihood.least_samples} for {type(self.likelihood).__name__}"
            )

    def check(self, net: Network) -> None:
        """InputError unless the KL, and local reparameterisation if chosen, cover the network."""
        if net.correlation:
            correlation.check(net.law, net.prior)
        if not self.local:
            return
        if not isinstance(net.law, Gaussian) or net.correlation:
            raise InputError(
                "local reparameterisation: expected the Gaussian law and no correlated layer"
            )
        local.check_layers(net.layers)


def loss_and_gradient(
    net: Network,
    x: np.ndarray,
    y: np.ndarray,
    n_data: int,
    rng: np.random.Generator,
    objective: Objective | None = None,
    *,
    kl_weight: float = 1.0,
) -> tuple[Loss, Gradient]:
    """Estimate of the loss and of its gradient from one minibatch.

    Without bias, but for two cases. With `local` and convolutions it is so for a surrogate, whose
    positions of a map have noise of their own (`refbnn.training.local_reparameterisation`), not for
    L. The energy score is no −log p: its estimate is unbiased too, but the loss is then a score
    plus KL, no evidence bound.

    Parameters
    ----------
    net : Network
    x : (B, ...)
    y : (B, ...)
        As the likelihood wants it.
    n_data : int
        N, the size of the whole data set.
    rng : numpy.random.Generator
        Source of the posterior samples.
    objective : Objective, optional
        One sample of weights, categorical likelihood.
    kl_weight : float
        λ; the loss returned has KL in full.
    """
    objective = objective or Objective()
    objective.check(net)
    layout = net.layout
    parameters = net.parameters()
    mean = layout.flatten({name: p.mean for name, p in parameters.items()})
    scale = layout.flatten({name: p.scale for name, p in parameters.items()})
    loss, grads = flat_loss_and_gradient(net, mean, scale, x, y, n_data, rng, objective, kl_weight)
    factors = {index: grads[correlation_name(index)] for index in net.correlation}
    return loss, Gradient(layout.views(grads["mean"]), layout.views(grads["scale"]), factors)


def correlation_name(index: int) -> str:
    """Name of the gradient of a layer's A among flat gradients."""
    return f"correlation.{index}"


def flat_loss_and_gradient(
    net: Network,
    mean: np.ndarray,
    scale: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    n_data: int,
    rng: np.random.Generator,
    objective: Objective,
    kl_weight: float = 1.0,
) -> tuple[Loss, dict[str, np.ndarray]]:
    """`loss_and_gradient` at means and scales (P,) that lie as `net.layout` says.

    Returns
    -------
    Loss
    dict
        "mean" and "scale": ∂L/∂µ and ∂L/∂σ, (P,); "correlation.i": ∂L/∂A of layer i.
    """
    sampled = _local_terms if objective.local else _sampled_terms
    nll, grads = sampled(net, mean, scale, x, y, n_data / len(x), rng, objective)
    total_kl = kl.add_total(mean, scale, net.law, net.prior, kl_weight, grads, net.layout)
    factor = mean.dtype.type(kl_weight)
    for index, A in net.correlation.items():
        added, d_A = correlation.divergence(A)
        total_kl += added
        grads[correlation_name(index)] += factor * d_A
    return Loss(nll, total_kl), grads


def _sampled_terms(net, mean, scale, x, y, scaling, rng, objective):
    """The first term of the loss and its gradient, from sampled weights."""
    raw = net.law.sample(rng, (objective.n_samples, net.layout.size), mean.dtype.type)
    z = net.mixed(raw)
    flat = scale * z
    flat += mean
    nll, g = _of_parts(net, net.layout.views(flat), x, y, scaling, objective)
    if objective.n_samples == 1:  # a sum over one sample would be a copy
        grads = {"mean": g[0], "scale": g[0] * z[0]}
    else:
        grads = {"mean": g.sum(axis=0), "scale": np.einsum("sp,sp->p", g, z)}
    for index, A in net.correlation.items():
        part = net.slice_of_layer(index)
        grads[correlation_name(index)] = correlation.mix_backward(
            A, raw[:, part], z[:, part], g[:, part] * scale[part]
        )
    return scaling * nll, grads


def _of_parts(net, theta, x, y, scaling, objective):
    """Sum of −log p over a minibatch and its scaled gradient (S, P), the batch in equal parts.

    One part a thread; NumPy and Numba let go of the interpreter while they compute. The parts are
    added up in their order, so that the result depends on their number alone.
    """

    def pass_over(rows: slice) -> tuple[float, np.ndarray]:
        outputs, inputs = net.forward(x[rows], theta)
        nll, grad_outputs = objective.likelihood(outputs, y[rows])
        grad_outputs *= outputs.dtype.type(scaling)
        return nll, net.layout.flatten(net.backward(inputs, theta, grad_outputs))

    size = -(-len(x) // objective.threads)
    first, *others = (slice(start, start + size) for start in range(0, len(x), size))
    pool = _pool(objective.threads)
    # A copy of the context each: NumPy keeps there what becomes of numbers that are not finite.
    pending = [pool.submit(copy_context().run, pass_over, rows) for rows in others]
    nll, g = pass_over(first)
    for future in pending:
        more_nll, more_g = future.result()
        nll += more_nll
        g += more_g
    return nll, g


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


def _local_terms(net, mean, scale, x, y, scaling, rng, objective):
    """The same by local reparameterisation."""
    layout = net.layout
    means = net.by_layer(layout.views(mean))
    variances = net.by_layer(layout.views(scale * scale))
    outputs, tapes = local.forward(net.layers, x, means, variances, objective.n_samples, rng)
    nll, grad_outputs = objective.likelihood(outputs, y)
    grad_outputs *= outputs.dtype.type(scaling)
    d_mean, d_var = local.backward(net.layers, tapes, means, variances, grad_outputs)
    return scaling * nll, {
        "mean": layout.flatten(_joined(d_mean)),
        "scale": 2 * scale * layout.flatten(_joined(d_var)),
    }


def _joined(by_layer: list[dict[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
    return {f"{i}.{name}": array for i, own in enumerate(by_layer) for name, array in own.items()}
