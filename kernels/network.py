"""A network as one kernel: all layers in one compiled function.

Moments go from layer to layer as in `refbnn.Network.propagate`: known inputs up to the first
layer with weights, mean and variance after it. The computes are chained, and by hand each operator
then schedules its own blocks. Images pass their layers one by one, up to where they become rows:
a dense layer reads a weight once for several rows (`images.one_by_one`).

ReLU is a pass of its own. Merged into the pass that adds the biases of the dense layer before it,
it is no faster (within 3 % either way at batches 1 to 256 of 784-100-100-10 with AVX-512): its
inputs are still in the first cache.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

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
    residual,
)
from kernels.layers.activations import elementwise, elu, gelu, leaky_relu, relu, sigmoid, tanh
from kernels.layers.images import Packs, Planes
from kernels.layers.products import require_form
from kernels.program.compiled import CompiledNetwork, compiled
from kernels.program.program import Activation, Layout, Program, Rows
from refbnn.errors import InputError
from refbnn.layers import (
    ELU,
    GELU,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Flatten,
    Layer,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Residual,
    Sigmoid,
    Tanh,
)
from refbnn.layers.posterior import Posterior
from refbnn.network.network import Network

_KERNELS = (
    "Dense, Conv2d, MaxPool2d, AvgPool2d, BatchNorm2d, Flatten, ReLU, LeakyReLU, ELU, GELU, "
    "Sigmoid, Tanh or Residual"
)


def compile_network(
    net: Network,
    batch_size: int,
    target: str = "host",
    schedule: str = "hand",
    form: str = "variance",
    records: str | Path | None = None,
    device: str | Board = "local",
) -> CompiledNetwork:
    """Compile a network for batches of one size.

    Parameters
    ----------
    net : Network
        Its weights are copied, in float32.
    batch_size : int, at least 1
    target : str
        A name that `kernels.devices.targets.target` knows.
    schedule : {"hand", "tuned", "default"}
        The loops as scheduled by hand; by hand with decisions from records of tuning, where there
        are (`CompiledNetwork.untuned` names the others); or as TVM lowers them by itself.
    form : {"variance", "raw", "separate", "mean"}
        Of dense layers and convolutions (`kernels.layers.products`). "mean" is the deterministic
        network of the means, whose results have variance 0.
    records : path of a folder, optional
        Where `refbnn tune` left them, see `kernels.program.records`.
    device : {"local", "emulated", "rpc"} or Board
        This machine, an emulated Arm core, or a board: see `kernels.devices`.

    Raises
    ------
    InputError
        If an argument is none of these, a layer has no kernel, the layers do not fit each other,
        the network does not tell the shape of its input, a weight is too large for float32, a
        record is corrupt or does not fit, or the device cannot run kernels for the target.
    """
    whole = program(net, batch_size, targets.target(target), form)
    return compiled(whole, schedule, records, device)


def program(net: Network, batch: int, target: Target, form: str = "variance") -> Program:
    """The program of a network; parameters and errors as in `compile_network`."""
    require_form(form)
    whole = Program(target, batch, flush=True)
    x = whole.known(input_layout(net, target))
    of_layers = net.by_layer(net.propagated_parameters())
    for index, (layer, own) in enumerate(zip(net.layers, of_layers, strict=True)):
        add = partial(_add, name=f"layer{index}", layer=layer, own=own, form=form)
        whole.operators.append((f"{index} {type(layer).__name__}", partial(_alone, whole, x, add)))
        x = add(whole, x=x)
        if isinstance(layer, Flatten):
            images.one_by_one(whole, x)
    if isinstance(x.layout, Planes | Packs):
        x = images.unpacked(whole, "unpacked", x)
        images.one_by_one(whole, x)
    whole.give(x)
    return whole


def _alone(whole: Program, x: Activation, add: Callable[..., Activation]) -> Program:
    """The program of one layer, on an input like x."""
    program = Program(whole.target, whole.batch, whole.flush)
    own = program.given(x.layout, x.var is None)
    y = add(program, x=own)
    if isinstance(x.layout, Planes | Packs):
        images.one_by_one(program, y)
    program.give(y)
    return program


def _add(
    program: Program,
    name: str,
    layer: Layer,
    own: dict[str, Posterior],
    x: Activation,
    form: str,
) -> Activation:
    """Apply one layer."""
    match layer:
        case Dense():
            return dense.add(program, name, x, own["weight"], own["bias"], form)
        case Conv2d():
            return conv2d.add(program, name, x, own["weight"], own["bias"], *layer.steps, form)
        case ReLU():
            return elementwise.add(program, name, "relu", relu.value, relu.moments, x)
        case LeakyReLU():
            return leaky_relu.add(program, name, x, layer.slope)
        case ELU():
            return elu.add(program, name, x, layer.alpha)
        case GELU():
            return gelu.add(program, name, x)
        case Sigmoid():
            return sigmoid.add(program, name, x)
        case Tanh():
            return tanh.add(program, name, x)
        case MaxPool2d():
            return max_pool2d.add(program, name, x, *layer.sizes, layer.method)
        case AvgPool2d():
            return avg_pool2d.add(program, name, x, *layer.sizes)
        case BatchNorm2d():
            return batch_norm.add(program, name, x, layer)
        case Flatten():
            return flatten.add(program, name, x)
        case Residual():
            return residual.add(program, name, x, layer.layers, own, partial(_add, form=form))
    raise InputError(
        f"layer {name.removeprefix('layer')}: {type(layer).__name__} has no kernel; "
        f"expected {_KERNELS}"
    )


def input_layout(net: Network, target: Target) -> Layout:
    """How the input of a network lies in memory.

    Raises
    ------
    InputError
        If the network does not tell the shape of its input, the layers do not fit it or each
        other, or it is neither of rows nor of images.
    """
    shape = net.input_shape or (_features(net),)
    net.check_input(shape)
    match shape:
        case (features,):
            return Rows(features, target.lanes)
        case (channels, height, width):
            return Planes(channels, height, width, target.lanes)
    raise InputError(f"the network's input_shape is {shape}; expected 1 or 3 numbers")


def _features(net: Network) -> int:
    """Count the input features: the first layer with weights tells, if it is a dense one."""
    for layer in net.layers:
        if isinstance(layer, Dense):
            return layer.in_features
        if layer.parameter_shapes():
            break
    raise InputError("the network's input_shape is None; expected the shape of one input")
