"""The plan of `refbnn verify`: every check, grouped into steps with a random stream each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from kernels.devices import Board
from refbnn.noise import Bimodal, HeavyTailed, Law
from refbnn.numerics.random.streams import stream
from verification import (
    activations,
    conv2d,
    covariance,
    dense,
    gradient,
    kl,
    layers,
    linearised,
    linearised_networks,
    local_sampling,
    max_pool2d,
    sampling,
    shared_weights,
    softmax,
    softmax_table,
)
from verification.check import Check
from verification.kernels import activations as kernel_activations
from verification.kernels import gradients as kernel_gradients
from verification.kernels import linearised as linearised_kernels
from verification.kernels import local_sampling as kernel_local_sampling
from verification.kernels import networks, predictions
from verification.kernels import sampling as kernel_sampling

# Shapes that a fit may or may not choose.
SHAPES: dict[str, Law] = {"two peaks": Bimodal(), "heavy tails": HeavyTailed(0.7, 0.2)}


@dataclass(frozen=True)
class Step:
    """Checks that run together, with a random stream of their own.

    The name selects the random stream: a new name means new numbers.
    """

    name: str
    checks: Callable[[int, np.random.Generator], list[Check]]

    def run(self, n_samples: int, seed: int) -> list[Check]:
        """Run with random numbers that depend on the seed and on this step's name alone."""
        return self.checks(n_samples, stream(seed, self.name))


def steps(laws: Mapping[str, Law], target: str, device: str | Board) -> list[Step]:
    """List the operators' checks for every law, and the kernels' for one target on a device."""
    by_law = {
        "sampling": sampling.check,
        "kl": kl.check,
        "gradient": gradient.check,
        "dense": dense.check,
        "conv2d": conv2d.check,
        "layers": layers.check,
        "covariance": covariance.check,
        "linearised": linearised.check,
        "shared weights": shared_weights.check,
    }
    without_law = {
        "relu": activations.check_relu,
        "relu covariance": covariance.check_rectified,
        "activations": activations.check,
        "gains": activations.check_gains,
        "max_pool2d": max_pool2d.check,
        "softmax": softmax.check,
        "local sampling": local_sampling.check,
        "softmax of correlated logits": softmax_table.check,
    }
    of_kernels = {
        "kernels": networks.check,
        "linearised kernels": linearised_kernels.check,
        "kernel activations": kernel_activations.check,
        "kernel gradients": kernel_gradients.check,
        "sampling kernels": kernel_sampling.check,
        "local sampling kernels": kernel_local_sampling.check,
        "compiled predictions": predictions.check,
    }
    return [
        *(
            Step(f"{name}, {label}", partial(check, label, law))
            for label, law in laws.items()
            for name, check in by_law.items()
        ),
        *(Step(name, check) for name, check in without_law.items()),
        Step("linearised networks", partial(linearised_networks.check, laws)),
        *(
            Step(name, partial(_on_device, check, target, device))
            for name, check in of_kernels.items()
        ),
    ]


def _on_device(check, target, device, n_samples: int, rng: np.random.Generator) -> list[Check]:
    return check(target, device, rng)
