"""Kernels of sampled weights in float32, compared with the reference in float64.

Both draw the same weights, because both make them from the same random words. Allowed errors: that
of the noise table (`refbnn.noise.word_table`) for the noise itself; for layers and networks
rounding bounds, with the noise's error added.
"""

from __future__ import annotations

import numpy as np

from kernels.devices import Board
from kernels.sampled_network import compile_sampled
from kernels.sampling import noise
from refbnn import Network
from refbnn.layers import Conv2d, Dense, Flatten, Layer, MaxPool2d, ReLU
from refbnn.layers.posterior import Posterior
from refbnn.network import counter_sampling
from refbnn.network.architectures import mlp
from refbnn.noise import Bimodal, DeviceLaw, Gaussian, HeavyTailed, Law
from refbnn.noise.word_table import SINGLE_ERROR, exact, word_table
from verification.check import Check
from verification.kernels.compare import SCHEDULES, compare
from verification.rounding import U, gamma

LAWS: dict[str, Law] = {
    "Gaussian": Gaussian(),
    "two peaks": Bimodal(),
    "two peaks far apart": Bimodal(0.98, 0.3),
    "device": DeviceLaw(-0.3, 0.2, (0.3, 0.8)),
    "device, two wells": DeviceLaw(0.0, 0.0, (0.3, 5.0)),
    "heavy tails": HeavyTailed(0.7, 0.2),
}


def check(target: str, device: str | Board, rng: np.random.Generator) -> list[Check]:
    """Check noise of several laws; dense layers, convolutions and networks of sampled weights."""
    checks = [_check_noise(label, law, target, device, rng) for label, law in LAWS.items()]
    for schedule in SCHEDULES:
        checks.append(_check_dense(target, device, schedule, rng))
        checks.append(_check_conv2d(target, device, schedule, rng))
        checks += _check_networks(target, device, schedule, rng)
    return checks


def words_of_all_octaves(rng: np.random.Generator, n: int, cuts: np.ndarray) -> np.ndarray:
    """Draw n uint32 words: a third uniform, the rest log-uniform in their distance from a cut.

    The cuts are those of a `WordTable`.
    """
    away = (2.0 ** rng.uniform(0, 31, n)).astype(np.int64) - 1
    cut, below = rng.choice(cuts, n), rng.random(n) < 0.5
    words = np.where(below, cut - 1 - away, cut + away) % 2**32
    words[::3] = rng.integers(0, 2**32, len(words[::3]))
    return words.astype(np.uint32)


def _check_noise(label: str, law: Law, target, device, rng) -> Check:
    n = 100_000
    words = words_of_all_octaves(rng, n, word_table(law).cuts)
    expected = exact(law, words)
    return compare(
        f"kernel: noise ({label})",
        f"table of cubics against the law's inverse, share of {SINGLE_ERROR:g} max(1, |z|)",
        noise.build(law, n, target, device=device)(words),
        [expected],
        [SINGLE_ERROR * np.maximum(1.0, np.abs(expected))],
    )


def _check_dense(target, device, schedule, rng) -> Check:
    batch, n_in, n_out, n_samples, seed = 7, 101, 37, 3, 12345678901  # no multiples of vectors
    weight = Posterior(rng.standard_normal((n_out, n_in)), rng.uniform(0.0, 1.0, (n_out, n_in)))
    bias = Posterior(rng.standard_normal(n_out), rng.uniform(0.0, 1.0, n_out))
    x = rng.standard_normal((batch, n_in))
    net = Network([Dense(n_in, n_out)], law=Bimodal())
    net.set_parameters({"0.weight": weight, "0.bias": bias})
    z = np.stack(
        [
            exact(Bimodal(), counter_sampling.words(seed, 0, s, n_out, n_in + 1))
            for s in range(n_samples)
        ]
    )
    expected, bound = dense_with_bound(x, weight, bias, z)
    return compare(
        f"kernel: sampled dense ({schedule})",
        f"({batch}, {n_in}) -> ({n_samples}, {batch}, {n_out}), share of the rounding bound",
        [compile_sampled(net, batch, n_samples, target, schedule, device)(x, seed)],
        [expected],
        [bound],
    )


def _check_conv2d(target, device, schedule, rng) -> Check:
    layer = Conv2d(4, 34, (3, 2), stride=(2, 1), padding=(1, 2), groups=2)
    net = Network([layer], law=Bimodal(), seed=2, input_shape=(4, 7, 9))
    x = rng.standard_normal((3, 4, 7, 9))
    return compare(
        f"kernel: sampled conv2d ({schedule})",
        "two groups, stride and padding; share of the probabilistic rounding bound",
        [compile_sampled(net, 3, 2, target, schedule, device)(x, seed=7)],
        [net.sample(x, 2, seed=7)],
        [network_bound(net, x, 2, seed=7)],
    )


def _check_networks(target, device, schedule, rng) -> list[Check]:
    images: list[Layer] = [Conv2d(1, 6, 5), ReLU(), MaxPool2d(2), Flatten(), Dense(216, 10)]
    networks = {
        "784-100-100-10": Network(mlp(10), seed=1),
        "convolution and pooling": Network(images, seed=1, input_shape=(1, 16, 16)),
    }
    checks = []
    for label, net in networks.items():
        x = rng.uniform(0.0, 1.0, (3, *(net.input_shape or ())))
        y = compile_sampled(net, len(x), 4, target, schedule, device)(x, seed=9)
        checks.append(
            compare(
                f"kernel: sampled network {label} ({schedule})",
                "4 samples, share of the probabilistic rounding bound, passed through the layers",
                [y],
                [net.sample(x, 4, seed=9)],
                [network_bound(net, x, 4, seed=9)],
            )
        )
    return checks


def dense_with_bound(
    x: np.ndarray, weight: Posterior, bias: Posterior, z: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute outputs in float64 and the kernel's worst-case errors, (S, B, out) each.

    x is (B, in); z, (S, out, in + 1), holds the noise of weights and, last, of biases.
    """
    x = np.column_stack([x, np.ones(len(x))])
    mean = np.column_stack([weight.mean, bias.mean])
    scale = np.column_stack([weight.scale, bias.scale])
    rounding = gamma(x.shape[1] + 3)
    terms = rounding * (np.abs(mean) + scale * np.abs(z))
    terms += (1.0 + rounding) * SINGLE_ERROR * scale * np.maximum(1.0, np.abs(z))
    outputs, bound = (
        np.einsum("bi,soi->sbo", a, b) for a, b in ((x, mean + scale * z), (np.abs(x), terms))
    )
    return outputs, bound


def network_bound(net: Network, x: np.ndarray, n_samples: int, seed: int) -> np.ndarray:
    """Bound the errors of a float32 network under sampled weights, (S, B, ...).

    Errors of n different weights count as independent, as in `verification.rounding`: their sum
    stays below 6 times the root of the sum of their squares except once in 10⁷ (Hoeffding 1963),
    and the rounding error of a sum below 6√n u of its terms. Layers without weights pass on the
    greatest error they read.
    """
    bounds = []
    for number in range(n_samples):
        weights, noise_ = counter_sampling.draw(net, seed, number)
        _, inputs = net.forward(x, weights)
        parameters = net.parameters()
        error = U * np.abs(x)
        for index, layer in enumerate(net.layers):
            names = [f"{index}.{name}" for name in layer.parameter_shapes()]
            if not names:
                error = layer.forward(error, {})
                continue
            theta, bias = (np.abs(weights[name]) for name in names)
            off_theta, off_bias = (
                parameters[name].scale * SINGLE_ERROR * np.maximum(1.0, np.abs(noise_[name]))
                + 3 * U * (np.abs(parameters[name].mean) + np.abs(weights[name]))
                for name in names
            )

            def layer_of(x, weight, bias, layer=layer):
                return layer.forward(x, {"weight": weight, "bias": bias})

            size, n = np.abs(inputs[index]), theta[0].size
            of_inputs = np.sqrt(layer_of(error**2, theta**2, 0.0 * bias))
            of_weights = 6.0 * np.sqrt(layer_of(size**2, off_theta**2, off_bias**2))
            of_sums = 6.0 * U * np.sqrt(n + 2) * layer_of(size, theta, bias)
            error = of_inputs + of_weights + of_sums
        bounds.append(error)
    return np.stack(bounds)
