"""The loss of mean-field variational inference and its hand-written gradient.

Formulas
--------
For a minibatch of B out of N examples and one posterior sample θ = µ + σ z,

    L = (N/B)·Σ_batch −log p(y | x, θ)  +  λ·KL(q‖p):

the minibatch term is scaled up to the whole data set and the KL is counted once. With λ = 1, L
estimates the negative evidence lower bound without bias (exceptions: `loss_and_gradient`); λ < 1
only while KL warms up. (Libraries that average the likelihood over the batch must divide the KL by
N to agree.) With g = ∂(first term)/∂θ from the layers' backward passes, the pathwise gradients are
(Kingma & Welling 2014; Blundell et al. 2015)

    ∂L/∂µ = E[g] + λ ∂KL/∂µ,      ∂L/∂σ = E[g·z] + λ ∂KL/∂σ,

averaged over the posterior samples. KL and its gradient are computed without sampling
(`refbnn.training.kl.kl`). In layers with correlated weights z stands for R z
(`refbnn.network.correlated_weights`). Local reparameterisation samples pre-activations in the first
term (`refbnn.training.local_reparameterisation`).
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field

import numpy as np

from refbnn.errors import InputError
from refbnn.network import correlated_weights as correlation
from refbnn.network.network import Network, Weights
from refbnn.noise.families.gaussian import Gaussian
from refbnn.training import local_reparameterisation as local
from refbnn.training.kl import kl
from refbnn.training.likelihood import HomoscedasticGaussian, Likelihood, likelihood_named
from refbnn.training.options import Options


@dataclass(frozen=True)
class Loss:
    """The two terms of the negative evidence lower bound, in nats for the whole data set.

    Parameters
    ----------
    nll : float
        (N/B)·Σ −log p(y | x, θ), averaged over posterior samples.
    kl : float
        KL(q‖p) summed over all weights, in full even while it warms up.
    residual : tuple of float
        Mean of (y − m)² of each target over the minibatch and the samples, where all inputs have
        the same noise; else empty.
    """

    nll: float
    kl: float
    residual: tuple[float, ...] = ()

    @property
    def total(self) -> float:
        """Negative evidence lower bound."""
        return self.nll + self.kl


@dataclass(frozen=True, eq=False)
class Gradient:
    """∂L/∂µ and ∂L/∂σ of every weight array by name, ∂L/∂A of every correlated layer by index."""

    mean: Weights
    scale: Weights
    correlation: dict[int, np.ndarray] = field(default_factory=dict)


def check_network(net: Network, options: Options) -> None:
    """Raise InputError unless KL, and local reparameterisation if chosen, cover the network."""
    if net.correlation:
        correlation.check(net.law, net.prior)
    if not options.local:
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
    options: Options | None = None,
    *,
    kl_weight: float = 1.0,
) -> tuple[Loss, Gradient]:
    """Estimate the loss and its gradient from one minibatch.

    The estimate is unbiased, with two caveats. With `local` and convolutions it estimates a
    surrogate of L in which every position of a map has noise of its own
    (`refbnn.training.local_reparameterisation`). With the energy score, which is no −log p, the
    loss is a score plus KL and no evidence bound.

    Parameters
    ----------
    net : Network
        With the likelihood "gaussian", its `noise_sd` gives the noise where that is the same for
        all inputs.
    x, y : (B, ...)
        Examples, and targets as the likelihood takes them.
    n_data : int
        N, the size of the whole data set.
    rng : numpy.random.Generator
        Source of the posterior samples.
    options : Options, optional
        Likelihood, samples, local reparameterisation and threads; the others have no effect.
    kl_weight : float
        λ; the loss returned has KL in full.
    """
    options = options or Options()
    check_network(net, options)
    layout = net.layout
    parameters = net.parameters()
    mean = layout.flatten({name: p.mean for name, p in parameters.items()})
    scale = layout.flatten({name: p.scale for name, p in parameters.items()})
    loss, grads = flat_loss_and_gradient(net, mean, scale, x, y, n_data, rng, options, kl_weight)
    factors = {index: grads[correlation_name(index)] for index in net.correlation}
    return loss, Gradient(layout.views(grads["mean"]), layout.views(grads["scale"]), factors)


def correlation_name(index: int) -> str:
    """Name a layer's A, and its gradient, among flat arrays."""
    return f"correlation.{index}"


def flat_loss_and_gradient(
    net: Network,
    mean: np.ndarray,
    scale: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    n_data: int,
    rng: np.random.Generator,
    options: Options,
    kl_weight: float = 1.0,
) -> tuple[Loss, dict[str, np.ndarray]]:
    """Compute `loss_and_gradient` at flat means and scales (P,) in the order of `net.layout`.

    Returns
    -------
    Loss
    dict
        "mean" and "scale": ∂L/∂µ and ∂L/∂σ, (P,); "correlation.i": ∂L/∂A of layer i.
    """
    sampled = _local_terms if options.local else _sampled_terms
    nll, squares, grads = sampled(net, mean, scale, x, y, n_data / len(x), rng, options)
    total_kl = kl.add_total(mean, scale, net.law, net.prior, kl_weight, grads, net.layout)
    factor = mean.dtype.type(kl_weight)
    for index, A in net.correlation.items():
        added, d_A = correlation.divergence(A)
        total_kl += added
        grads[correlation_name(index)] += factor * d_A
    return Loss(nll, total_kl, tuple((squares / len(x)).tolist())), grads


def _sampled_terms(net, mean, scale, x, y, scaling, rng, options):
    """First term of the loss, squares of its residuals and its gradient, from sampled weights."""
    raw = net.law.sample(rng, (options.n_samples, net.layout.size), mean.dtype.type)
    z = net.mixed(raw)
    flat = scale * z
    flat += mean
    nll, squares, g = _backpropagated(net, net.layout.views(flat), x, y, scaling, options)
    if options.n_samples == 1:  # a sum over one sample would be a copy
        grads = {"mean": g[0], "scale": g[0] * z[0]}
    else:
        grads = {"mean": g.sum(axis=0), "scale": np.einsum("sp,sp->p", g, z)}
    for index, A in net.correlation.items():
        part = net.slice_of_layer(index)
        grads[correlation_name(index)] = correlation.mix_backward(
            A, raw[:, part], z[:, part], g[:, part] * scale[part]
        )
    return scaling * nll, squares, grads


def _backpropagated(net, theta, x, y, scaling, options):
    """Sum of −log p over a minibatch, squares of residuals, and its scaled gradient (S, P).

    Each thread computes an equal part of the batch: NumPy and Numba release the interpreter lock.
    The parts are added in their order, so that the result depends on their number alone.
    """
    likelihood = likelihood_named(options.likelihood, net.noise_sd)

    def pass_over(rows: slice) -> tuple[float, np.ndarray, np.ndarray]:
        outputs, inputs = net.forward(x[rows], theta)
        nll, grad_outputs = likelihood(outputs, y[rows])
        squares = _squares(likelihood, outputs, y[rows])
        grad_outputs *= outputs.dtype.type(scaling)
        return nll, squares, net.layout.flatten(net.backward(inputs, theta, grad_outputs))

    size = -(-len(x) // options.threads)
    first, *others = (slice(start, start + size) for start in range(0, len(x), size))
    if not others:
        return pass_over(first)
    # A pool for this call alone: a forked child would inherit a kept one without its threads.
    with ThreadPoolExecutor(len(others)) as pool:
        # Each part gets a copy of the context, where NumPy keeps its error state.
        pending = [pool.submit(copy_context().run, pass_over, rows) for rows in others]
        nll, squares, g = pass_over(first)
        for future in pending:
            more_nll, more_squares, more_g = future.result()
            nll += more_nll
            squares += more_squares
            g += more_g
    return nll, squares, g


def _squares(likelihood: Likelihood, outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sum of (y − m)² of each target, (D,), or (0,) where the noise is not the same everywhere."""
    if isinstance(likelihood, HomoscedasticGaussian):
        return likelihood.squares(outputs, y)
    return np.zeros(0)


def _local_terms(net, mean, scale, x, y, scaling, rng, options):
    """The same as `_sampled_terms`, by local reparameterisation."""
    layout = net.layout
    means = net.by_layer(layout.views(mean))
    variances = net.by_layer(layout.views(scale * scale))
    outputs, tapes = local.forward(net.layers, x, means, variances, options.n_samples, rng)
    likelihood = likelihood_named(options.likelihood, net.noise_sd)
    nll, grad_outputs = likelihood(outputs, y)
    squares = _squares(likelihood, outputs, y)
    grad_outputs *= outputs.dtype.type(scaling)
    d_mean, d_var = local.backward(net.layers, tapes, means, variances, grad_outputs)
    return (
        scaling * nll,
        squares,
        {
            "mean": layout.flatten(_joined(d_mean)),
            "scale": 2 * scale * layout.flatten(_joined(d_var)),
        },
    )


def _joined(by_layer: list[dict[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
    return {f"{i}.{name}": array for i, own in enumerate(by_layer) for name, array in own.items()}
