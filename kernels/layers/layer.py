"""Any layer as a kernel: which file computes it, and the layer alone, outside of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from kernels.devices import Board, targets
from kernels.devices.targets import Target
from kernels.layers import (
    avg_pool2d,
    batch_norm,
    conv2d,
    dense,
    flatten,
    images,
    max_pool2d,
    normalise,
    residual,
)
from kernels.layers.activations import elementwise
from kernels.layers.activations.elementwise import function_of
from kernels.layers.images import Packs, Planes
from kernels.layers.window_covariance import SharedWeights
from kernels.program.kernel import Kernel, build
from kernels.program.program import Activation, Layout, Program, Rows
from refbnn.errors import InputError
from refbnn.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Flatten,
    Layer,
    MaxPool2d,
    Normalise,
    Residual,
)
from refbnn.layers.activations.elementwise import Elementwise
from refbnn.layers.layer import Shape
from refbnn.layers.posterior import Posterior


def add_layer(
    program: Program,
    name: str,
    layer: Layer,
    posteriors: Mapping[str, Posterior],
    x: Activation,
    form: str = "variance",
) -> Activation:
    """Apply a layer.

    Parameters
    ----------
    program : Program
    name : str
        Starts the names of the blocks, by which the schedules find them.
    layer : Layer
    posteriors : mapping of str to Posterior
        The layer's weights, by name.
    x : Activation
    form : str
        A form of `kernels.layers.products`, for dense layers and convolutions.

    Raises
    ------
    InputError
        If the layer has no kernel, the form is unknown, or a weight is too large for float32.
    """
    y = _add_layer(program, name, layer, posteriors, x, form)
    return y if form == "mean" else with_shared(y, layer, posteriors, x)


def with_shared(
    y: Activation, layer: Layer, posteriors: Mapping[str, Posterior], x: Activation
) -> Activation:
    """The result y of a layer on x, with what its entries share (`SharedWeights`)."""
    if isinstance(layer, Conv2d):
        return replace(y, shared=SharedWeights(x.alone, layer, posteriors))
    entrywise = isinstance(layer, Elementwise | BatchNorm2d) and layer.entrywise
    if entrywise and x.shared is not None:
        return replace(y, shared=x.shared.behind(layer, x))
    return y


def _add_layer(
    program: Program,
    name: str,
    layer: Layer,
    posteriors: Mapping[str, Posterior],
    x: Activation,
    form: str,
) -> Activation:
    if isinstance(layer, Elementwise) and (function := function_of(layer)) is not None:
        return elementwise.add(program, name, function, x)
    match layer:
        case Dense() | Conv2d() if form == "separate":
            mean, var = (
                _add_layer(program, f"{name}_{part}", layer, posteriors, x, part)
                for part in ("mean", "spread")
            )
            return Activation(mean.layout, mean.mean, var.mean)
        case Dense():
            return dense.add(program, name, posteriors, x, form)
        case Conv2d():
            return conv2d.add(program, name, layer, posteriors, x, form)
        case MaxPool2d():
            return max_pool2d.add(program, name, layer, x)
        case AvgPool2d():
            return avg_pool2d.add(program, name, layer, x)
        case Normalise():
            return normalise.add(program, name, layer, x)
        case BatchNorm2d():
            return batch_norm.add(program, name, layer, x)
        case Flatten():
            return flatten.add(program, name, x)
        case Residual():
            add_inner = partial(add_layer, form=form)
            return residual.add(program, name, layer, posteriors, x, add_inner)
    raise InputError(
        f"layer {name.removeprefix('layer')}: {type(layer).__name__} has no kernel; expected a "
        "layer of refbnn.layers"
    )


def layout_of(shape: Shape, target: Target) -> Layout:
    """Memory layout of inputs of one shape: rows, or images as planes.

    Raises
    ------
    InputError
        If the shape has neither 1 nor 3 numbers.
    """
    match shape:
        case (features,):
            return Rows(features, target.lanes)
        case (channels, height, width):
            return Planes(channels, height, width, target.lanes)
    raise InputError(f"input_shape is {shape}; expected 1 or 3 numbers")


def layer_program(
    layer: Layer,
    posteriors: Mapping[str, Posterior],
    shape: Shape,
    batch: int,
    target: Target,
    known: bool = False,
    form: str = "variance",
) -> Program:
    """The program of one layer alone; parameters as in `build_layer`."""
    program = Program(target, batch)
    x = program.given(layout_of(shape, target), known)
    y = add_layer(program, type(layer).__name__, layer, posteriors, x, form)
    if isinstance(y.layout, Planes | Packs):
        y = images.unpacked(program, "unpacked", y)
        images.one_by_one(program, y)
    program.give(y)
    return program


def build_layer(
    layer: Layer,
    posteriors: Mapping[str, Posterior],
    shape: Shape,
    batch: int,
    target: str = "host",
    schedule: str = "hand",
    known: bool = False,
    form: str = "variance",
    device: str | Board = "local",
) -> Kernel:
    """Compile one layer alone.

    Parameters
    ----------
    layer, posteriors, form
        As in `add_layer`.
    shape : (features,) or (channels, height, width)
        Shape of one input.
    batch : int
    target, schedule, device
        As in `kernels.compile_network`.
    known : bool
        Whether inputs are known, of variance 0.

    Returns
    -------
    Kernel
        Called with mean and variance of shape (batch, *shape), or with x alone for known inputs;
        gives mean and variance of the outputs, or their values alone where they are known.
    """
    program = layer_program(layer, posteriors, shape, batch, targets.target(target), known, form)
    return build(program, schedule, device=device)
