"""Networks by name: the layers of the papers' networks, and the shape of their input.

mlp (arXiv 2511.23440), input 784:
    dense 100, 100, outputs.
lenet5 (LeCun et al. 1998, with ReLU and max pooling, as usual today), input 1×28×28:
    conv 6@5×5 padded by 2, max pool 2, conv 16@5×5, max pool 2, dense 120, 84, outputs.
vgg7 (after Simonyan & Zisserman 2015; 7 layers with weights), input 1×28×28:
    twice conv 32@3×3, max pool 2, twice conv 64, max pool 2, twice conv 128, max pool 2, dense.
narrow12, input 784:
    12 dense layers, 16 wide: deep and narrow, where the shape of the law may matter
    (arXiv 2501.05564, outlook).

ReLU between layers with weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from refbnn.errors import InputError
from refbnn.layers import Conv2d, Dense, Flatten, Layer, MaxPool2d, ReLU
from refbnn.layers.layer import Shape


@dataclass(frozen=True)
class Architecture:
    """Layers for a number of outputs, and the shape of one input."""

    input_shape: Shape
    layers: Callable[[int], list[Layer]]


def mlp(n_outputs: int) -> list[Layer]:
    """784-100-100-outputs."""
    return [Dense(784, 100), ReLU(), Dense(100, 100), ReLU(), Dense(100, n_outputs)]


def lenet5(n_outputs: int) -> list[Layer]:
    """Two convolutions, three dense layers."""
    return [
        Conv2d(1, 6, 5, padding=2),
        ReLU(),
        MaxPool2d(2),
        Conv2d(6, 16, 5),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Dense(400, 120),
        ReLU(),
        Dense(120, 84),
        ReLU(),
        Dense(84, n_outputs),
    ]


def vgg7(n_outputs: int) -> list[Layer]:
    """Six convolutions, one dense layer; 28 → 14 → 7 → 3 pixels."""
    layers: list[Layer] = []
    channels = 1
    for width in (32, 64, 128):
        for _ in range(2):
            layers += [Conv2d(channels, width, 3, padding=1), ReLU()]
            channels = width
        layers.append(MaxPool2d(2))
    return [*layers, Flatten(), Dense(channels * 3 * 3, n_outputs)]


def narrow12(n_outputs: int) -> list[Layer]:
    """784-16-…-16-outputs, 12 dense layers."""
    layers: list[Layer] = [Dense(784, 16), ReLU()]
    for _ in range(10):
        layers += [Dense(16, 16), ReLU()]
    return [*layers, Dense(16, n_outputs)]


ARCHITECTURES: dict[str, Architecture] = {
    "mlp": Architecture((784,), mlp),
    "lenet5": Architecture((1, 28, 28), lenet5),
    "vgg7": Architecture((1, 28, 28), vgg7),
    "narrow12": Architecture((784,), narrow12),
}


def architecture_named(name: str) -> Architecture:
    """The architecture of that name; InputError if there is none."""
    if name not in ARCHITECTURES:
        raise InputError(f"architecture {name!r}; expected one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]
