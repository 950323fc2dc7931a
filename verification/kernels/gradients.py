"""Kernels of KL and of gradients of sampled layers, compared with the float64 reference.

Allowed errors: for KL and its derivatives a share of the largest of their terms; for gradients the
rounding bound of a sum, with the error of the noise table added where the kernel draws the noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels.devices import Board
from kernels.gradients import dense as gradient
from kernels.gradients import frames as gradient_frames
from kernels.gradients import kernel as gradients
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
from verification.kernels.compare import SCHEDULES, compare, single
from verification.rounding import gamma

DEVICE = DeviceLaw(1.0, -0.5, (0.3,))

# Law, prior, and the largest scale that a kernel is compiled for; None for no limit.
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
    """Largest term of KL, of ∂KL/∂µ and of ∂KL/∂σ for each weight; errors are relative to it.

    Expectations of absolute values come from a rule of 64 nodes, accurate to a few per cent.
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
    """Draw weights that a kernel is compiled for, rounded to float32.

    A tenth have the largest scale. Means lie within ten scales of 0, some at 0; under a
    device-shaped prior they spread from end to end of its support.
    """
    largest = widest or 3.0
    scale = largest * 10.0 ** rng.uniform(-4.0, 0.0, n)
    scale[: n // 10] = largest
    mean = scale * rng.uniform(-10.0, 10.0, n)
    mean[:: max(1, n // 7)] = 0.0
    if isinstance(prior, DevicePrior):
        (low, high), (prior_low, prior_high) = law.support, prior.support
        # Slightly more than the smallest distance from an end, a twentieth of the length.
        room = 0.051 * (high - low) * scale + 1e-4
        first, last = prior_low + room - scale * low, prior_high - room - scale * high
        mean = first + (last - first) * rng.choice([0.0, 0.3, 0.5, 1.0], n)
    return Posterior(single(mean), single(scale))


@dataclass(frozen=True, eq=False)
class Case:
    """A layer with everything its gradients depend on: float64 arrays in the kernel's shapes.

    x and grad_y are (S, B, ...), x of a first layer (B, ...); mean, scale and z belong to the
    weights; z and z_bias are (S, ...).
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
        """Gradients by mean and scale of weights and of the bias, and by x unless it is shared."""
        W = self.mean + self.scale * self.z
        d_x, d = self.layer.backward(self.x, {"weight": W}, self.grad_y, not self.first)
        return self._sums(d["weight"], d["bias"], self.z, self.z_bias, d_x)

    def bounds(self, drawn: bool) -> list[np.ndarray]:
        """Bound the errors of float32, in the same order (`kernels.gradients.dense` derives them).

        The sums of absolute values bound every sum of products. Noise that is drawn from the table
        of `refbnn.noise.word_table` adds its error.
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
                if index != 2:  # the gradient by the bias mean has no noise
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
    """Draw a case: float32 numbers of both signs over eight orders of magnitude.

    The noise is drawn likewise unless it is given. No product of three numbers overflows or
    underflows.
    """

    def numbers(*shape):
        return single(10.0 ** rng.uniform(-4.0, 4.0, shape) * rng.choice([-1.0, 1.0], shape))

    shapes = layer.parameter_shapes()
    z, z_bias = noise or (numbers(samples, *shapes["weight"]), numbers(samples, *shapes["bias"]))
    x = numbers(*(() if first else (samples,)), batch, *shape)
    grad_y = numbers(samples, batch, *layer.output_shape(shape))
    scales = np.abs(numbers(*shapes["weight"])), np.abs(numbers(*shapes["bias"]))
    return Case(layer, x, grad_y, numbers(*shapes["weight"]), *scales, z, z_bias)


def drawn_noise(
    layer: Dense | Conv2d, law: Law, seed: int, index: int, samples: int
) -> tuple[np.ndarray, np.ndarray]:
    """Noise that `refbnn.network.counter_sampling` draws: (S, *weights) and (S, *bias)."""
    shape = layer.parameter_shapes()["weight"]
    row = int(np.prod(shape[1:])) + 1
    z = np.stack([exact(law, words(seed, index, s, shape[0], row)) for s in range(samples)])
    return z[:, :, :-1].reshape(samples, *shape), z[:, :, -1]


def check(target: str, device: str | Board, rng: np.random.Generator) -> list[Check]:
    """Check KL from every kind of prior, and gradients of dense layer and convolution."""
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
    c = case(layer, shape, batch, samples, False, noise, rng)
    kernel = gradients.build(sizes(c), target, schedule, law=law, layer=index, device=device)
    key = np.array(key_of(seed), np.uint32)
    return compare(
        f"kernel: gradients of {type(layer).__name__.lower()} ({schedule})",
        "noise drawn in the kernel; share of the rounding bound of a sum",
        kernel(c.x, c.grad_y, c.mean, c.scale, c.bias_scale, key),
        c.expected(),
        c.bounds(drawn=True),
    )


def sizes(case: Case) -> gradients.Sizes:
    """Sizes that the kernel for a case is compiled for."""
    samples, batch = case.grad_y.shape[:2]
    if isinstance(case.layer, Dense):
        n_in, n_out = case.layer.in_features, case.layer.out_features
        return gradient.Sizes(n_in, n_out, batch, samples, case.first)
    height, width = case.x.shape[-2:]
    return gradient_frames.Sizes(case.layer, (height, width), batch, samples, case.first)
