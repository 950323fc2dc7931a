"""Kernels of KL, and of the gradients of sampled layers, against the float64 reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels.devices import Board
from kernels.gradients import conv2d as gradient_conv2d
from kernels.gradients import dense as gradient
from kernels.gradients import frames as gradient_frames
from kernels.kl import kernel as kl
from refbnn.layers import Conv2d, Dense
from refbnn.layers.posterior import Posterior
from refbnn.network.counter_sampling import words
from refbnn.noise import DeviceLaw, Gaussian, Law
from refbnn.noise.word_table import SINGLE_ERROR, exact
from refbnn.numerics.random.philox import key_of
from refbnn.prior import (
    DevicePrior,
    GaussianPrior,
    LaplacePrior,
    Prior,
    ScaleMixturePrior,
    StudentTPrior,
)
from refbnn.training.kl import kl as kl_reference
from verification.check import Check
from verification.rounding import gamma

SCHEDULES = ("default", "hand")
DEVICE = DeviceLaw(1.0, -0.5, (0.3,))

# Law, prior, and the largest scale; None where any will do.
DIVERGENCES: dict[str, tuple[Law, Prior, float | None]] = {
    "Gaussian prior": (DEVICE, GaussianPrior(0.3), None),
    "Laplace prior": (Gaussian(), LaplacePrior(0.2), None),
    "Laplace prior, device law": (DEVICE, LaplacePrior(0.2), None),
    "Student-t prior": (Gaussian(), StudentTPrior(3.0, 0.3), 0.3),
    "scale-mixture prior": (Gaussian(), ScaleMixturePrior(0.5, 1.0, 0.1), 0.08),
    "scale-mixture prior, device law": (DEVICE, ScaleMixturePrior(0.5, 1.0, 0.1), 0.2),
    "device-shaped prior": (DEVICE, DevicePrior(DEVICE, 0.1, 1.0), 0.4),
}


def divergence_terms(weights: Posterior, law: Law, prior: Prior) -> list[np.ndarray]:
    """Largest term of the value, of ∂KL/∂µ and of ∂KL/∂σ, by weight: what errors are relative to.

    Expectations of absolute values from a rule of 64 nodes: to a few per cent, for a scale.
    """
    rule = law.quadrature(64)
    mu, sigma = weights.mean[..., np.newaxis], weights.scale[..., np.newaxis]
    theta = mu + sigma * rule.nodes
    score = np.abs(prior.score(theta))
    value = np.maximum(np.abs(np.log(weights.scale)), abs(law.entropy))
    return [
        np.maximum(value, np.abs(prior.log_pdf(theta)) @ rule.weights),
        score @ rule.weights,
        np.maximum(1.0 / weights.scale, (score * np.abs(rule.nodes)) @ rule.weights),
    ]


def posteriors(law: Law, prior: Prior, widest: float | None, n: int, rng) -> Posterior:
    """Weights within what a kernel is compiled for, in numbers that float32 holds.

    A tenth as wide as may be; means to ten scales from 0, and some at 0, or from end to end of a
    device-shaped prior.
    """
    largest = widest or 3.0
    scale = largest * 10.0 ** rng.uniform(-4.0, 0.0, n)
    scale[: n // 10] = largest
    mean = scale * rng.uniform(-10.0, 10.0, n)
    mean[:: max(1, n // 7)] = 0.0
    if isinstance(prior, DevicePrior):
        (low, high), (prior_low, prior_high) = law.support, prior.support
        # A little more than the least distance of a twentieth of the length.
        room = 0.051 * (high - low) * scale + 1e-4
        first, last = prior_low + room - scale * low, prior_high - room - scale * high
        mean = first + (last - first) * rng.choice([0.0, 0.3, 0.5, 1.0], n)
    with np.errstate(under="ignore"):
        single = mean.astype(np.float32), scale.astype(np.float32)
    return Posterior(*(part.astype(float) for part in single))


@dataclass(frozen=True)
class Case:
    """A layer with all that its gradients depend on, in float64; arrays as its kernel wants them.

    Parameters
    ----------
    layer : Dense or Conv2d
    x, grad_y : (S, B, ...), or (B, ...) and (S, B, ...) for a first layer
    mean, scale : of the weights
    bias_scale : of the bias
    z, z_bias : (S, ...)
    """

    layer: Dense | Conv2d
    x: np.ndarray
    grad_y: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    bias_scale: np.ndarray
    z: np.ndarray
    z_bias: np.ndarray

    @property
    def first(self) -> bool:
        """Whether all samples share x."""
        return self.x.ndim < self.grad_y.ndim

    def expected(self) -> list[np.ndarray]:
        """By mean and scale of weights, by those of the bias, and by x unless it is shared."""
        W = self.mean + self.scale * self.z
        d_x, d = self.layer.backward(self.x, {"weight": W}, self.grad_y, not self.first)
        return self._sums(d["weight"], d["bias"], self.z, self.z_bias, d_x)

    def bounds(self, drawn: bool) -> list[np.ndarray]:
        """Errors that float32 may make, in the same order: see `kernels.gradients.dense`.

        The absolute values of all factors in place of them bound every sum of products.

        Parameters
        ----------
        drawn : bool
            Whether z comes from the table of `refbnn.noise.word_table`, with its error.
        """
        S, sums = len(self.grad_y), self.grad_y[0].size // self.grad_y.shape[2]
        fan_out = self.mean.size // self.mean.shape[1]
        z, z_bias = np.abs(self.z), np.abs(self.z_bias)
        x, g = np.abs(self.x), np.abs(self.grad_y)

        def absolute(W, z, z_bias):
            d_x, d = self.layer.backward(x, {"weight": W}, g, not self.first)
            return self._sums(d["weight"], d["bias"], z, z_bias, d_x)

        size = absolute(np.abs(self.mean) + self.scale * z, z, z_bias)
        counts = [sums + S + 2, sums + S + 4, sums + S + 2, sums + S + 4, fan_out + 6]
        bounds = [gamma(n) * part for n, part in zip(counts, size, strict=False)]
        if drawn:
            off, off_bias = (SINGLE_ERROR * np.maximum(1.0, part) for part in (z, z_bias))
            error = absolute(self.scale * off, off, off_bias)
            for index in range(1, len(bounds)):
                if index != 2:  # by the mean of the bias
                    bounds[index] = bounds[index] + (1.0 + gamma(counts[index])) * error[index]
        return bounds

    @staticmethod
    def _sums(G, g, z, z_bias, d_x):
        sums = [G.sum(0), (G * z).sum(0), g.sum(0), (g * z_bias).sum(0)]
        return sums if d_x is None else [*sums, d_x]


def case(
    layer: Dense | Conv2d,
    shape: tuple[int, ...],
    batch: int,
    samples: int,
    first: bool,
    noise: tuple[np.ndarray, np.ndarray] | None,
    rng: np.random.Generator,
) -> Case:
    """Numbers of both signs and eight orders of magnitude, as float32 holds them; so the noise.

    But for noise that is handed in. No sum of three of them overflows, and no product underflows.
    """

    def numbers(*shape):
        values = 10.0 ** rng.uniform(-4.0, 4.0, shape) * rng.choice([-1.0, 1.0], shape)
        return values.astype(np.float32).astype(float)

    shapes = layer.parameter_shapes()
    z, z_bias = noise or (numbers(samples, *shapes["weight"]), numbers(samples, *shapes["bias"]))
    x = numbers(*(() if first else (samples,)), batch, *shape)
    grad_y = numbers(samples, batch, *layer.output_shape(shape))
    scales = np.abs(numbers(*shapes["weight"])), np.abs(numbers(*shapes["bias"]))
    return Case(layer, x, grad_y, numbers(*shapes["weight"]), *scales, z, z_bias)


def drawn_noise(
    layer: Dense | Conv2d, law: Law, seed: int, index: int, samples: int
) -> tuple[np.ndarray, np.ndarray]:
    """Noise of a layer from `refbnn.network.counter_sampling`: (S, *weights) and (S, *bias)."""
    shape = layer.parameter_shapes()["weight"]
    row = int(np.prod(shape[1:])) + 1
    z = np.stack([exact(law, words(seed, index, s, shape[0], row)) for s in range(samples)])
    return z[:, :, :-1].reshape(samples, *shape), z[:, :, -1]


def check(target: str, device: str | Board, rng: np.random.Generator) -> list[Check]:
    """KL from every kind of prior, gradients of dense and convolution, each schedule."""
    checks = []
    for schedule in SCHEDULES:
        for name in DIVERGENCES:
            checks += _check_divergence(name, target, device, schedule, rng)
        checks.append(_check_gradient(Dense(37, 13), (37,), target, device, schedule, rng))
        layer = Conv2d(3, 5, 3, padding=1)
        checks.append(_check_gradient(layer, (3, 9, 11), target, device, schedule, rng))
    return checks


def _check_divergence(name, target, device, schedule, rng) -> list[Check]:
    law, prior, widest = DIVERGENCES[name]
    weights = posteriors(law, prior, widest, 203, rng)
    largest = None if widest is None else 1.001 * widest  # rounded to float32
    kernel = kl.build(weights.mean.size, law, prior, largest, target, schedule, device=device)
    value, d_mean, d_scale = kernel(weights.mean, weights.scale)
    expected = kl_reference.divergence({"w": weights}, law, prior)["w"]
    terms = divergence_terms(weights, law, prior)
    shares = [
        abs(value - expected.value.sum()) / terms[0].sum(),
        np.max(np.abs(d_mean - expected.d_mean) / terms[1]),
        np.max(np.abs(d_scale - expected.d_scale) / terms[2]),
    ]
    return [
        Check(
            name=f"kernel: KL, {name} ({schedule})",
            method="value and both derivatives, relative to the largest of their terms",
            statistic=float(np.max(shares)),
            limit=kl.RELATIVE_ERROR,
            unit="of the terms",
            n_compared=2 * weights.mean.size + 1,
            n_samples=0,
        )
    ]


def _check_gradient(layer, shape, target, device, schedule, rng) -> Check:
    seed, index, batch, samples = 2**40 + 7, 3, 5, 3
    law = Gaussian()
    noise = drawn_noise(layer, law, seed, index, samples)
    numbers = case(layer, shape, batch, samples, False, noise, rng)
    kernel = build(numbers, target, schedule, law=law, index=index, device=device)
    c = numbers
    result = kernel(c.x, c.grad_y, c.mean, c.scale, c.bias_scale, np.array(key_of(seed), np.uint32))
    triples = list(zip(result, numbers.expected(), numbers.bounds(drawn=True), strict=True))
    return Check(
        name=f"kernel: gradients of {type(layer).__name__.lower()} ({schedule})",
        method="noise drawn in the kernel; share of the rounding bound of a sum",
        statistic=float(max(np.max(np.abs(got - exact) / b) for got, exact, b in triples)),
        limit=1.0,
        unit="of allowed error",
        n_compared=sum(got.size for got, _, _ in triples),
        n_samples=0,
    )


def build(
    case: Case, target="host", schedule="hand", parameter="scale", law=None, index=0, device="local"
):
    """The kernel for a case; parameters as in `kernels.gradients.dense.build`."""
    module = gradient if isinstance(case.layer, Dense) else gradient_conv2d
    return module.build(sizes(case), target, schedule, parameter, law, index, device)


def sizes(case: Case) -> gradient.Sizes | gradient_frames.Sizes:
    """The sizes that a kernel for a case is compiled for."""
    samples, batch = case.grad_y.shape[:2]
    if isinstance(case.layer, Dense):
        n_in, n_out = case.layer.in_features, case.layer.out_features
        return gradient.Sizes(n_in, n_out, batch, samples, case.first)
    height, width = case.x.shape[-2:]
    return gradient_frames.Sizes(case.layer, (height, width), batch, samples, case.first)
