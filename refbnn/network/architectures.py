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

ReLU stands between layers with weights, and after pooling where there is some. Pooling and ReLU
commute, so that known and sampled outputs are the same in both orders. But after pooling ReLU works
on a quarter of the numbers, and pooling meets Gaussian numbers, as its moments assume. The sizes
above are those for digits; other images change the first layer, and the dense one behind
convolutions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from refbnn.errors import InputError, quoted, suggestion
from refbnn.layers import Conv2d, Dense, Flatten, Layer, MaxPool2d, ReLU
from refbnn.layers.layer import Shape

DIGITS: Shape = (1, 28, 28)  # channels, height, width of an image


@dataclass(frozen=True)
class Architecture:
    """A family of networks, by their number of outputs and the shape of an image.

    Parameters
    ----------
    layers : callable (n_outputs, image) -> list of Layer
        `image` is (channels, height, width), by default that of a digit.
    flat : bool
        Whether the network takes images as rows.
    """

    layers: Callable[..., list[Layer]]
    flat: bool = False

    def input_shape(self, image: Shape = DIGITS) -> Shape:
        """Shape of one input that is made from an image."""
        return (prod(image),) if self.flat else image


def mlp(n_outputs: int, image: Shape = DIGITS) -> list[Layer]:
    """784-100-100-outputs."""
    return [Dense(prod(image), 100), ReLU(), Dense(100, 100), ReLU(), Dense(100, n_outputs)]


def lenet5(n_outputs: int, image: Shape = DIGITS) -> list[Layer]:
    """Two convolutions, three dense layers."""
    layers: list[Layer] = [Conv2d(image[0], 6, 5, padding=2), MaxPool2d(2), ReLU()]
    layers += [Conv2d(6, 16, 5), MaxPool2d(2), ReLU(), Flatten()]
    layers += [Dense(_features(layers, image), 120), ReLU()]
    return [*layers, Dense(120, 84), ReLU(), Dense(84, n_outputs)]


def vgg7(n_outputs: int, image: Shape = DIGITS) -> list[Layer]:
    """Six convolutions, one dense layer; 28 → 14 → 7 → 3 pixels."""
    layers: list[Layer] = []
    channels = image[0]
    for width in (32, 64, 128):
        layers += [Conv2d(channels, width, 3, padding=1), ReLU()]
        layers += [Conv2d(width, width, 3, padding=1), MaxPool2d(2), ReLU()]
        channels = width
    layers.append(Flatten())
    return [*layers, Dense(_features(layers, image), n_outputs)]


def narrow12(n_outputs: int, image: Shape = DIGITS) -> list[Layer]:
    """784-16-…-16-outputs, 12 dense layers."""
    layers: list[Layer] = [Dense(prod(image), 16), ReLU()]
    for _ in range(10):
        layers += [Dense(16, 16), ReLU()]
    return [*layers, Dense(16, n_outputs)]


ARCHITECTURES: dict[str, Architecture] = {
    "mlp": Architecture(mlp, flat=True),
    "lenet5": Architecture(lenet5),
    "vgg7": Architecture(vgg7),
    "narrow12": Architecture(narrow12, flat=True),
}


def architecture_named(name: str) -> Architecture:
    """The architecture of that name; InputError if there is none."""
    if name not in ARCHITECTURES:
        raise InputError(
            f"architecture {quoted(name)}; expected one of {', '.join(ARCHITECTURES)}"
            f"{suggestion(name, ARCHITECTURES)}"
        )
    return ARCHITECTURES[name]


def _features(layers: list[Layer], shape: Shape) -> int:
    """Entries of the layers' output for one input; InputError if it is too small for them."""
    for layer in layers:
        shape = layer.output_shape(shape)
    return prod(shape)
