"""A network as one kernel: all layers in one compiled function.

Moments go from layer to layer as in `refbnn.Network.propagate`: known inputs up to the first layer
with weights, mean and variance after it. By hand, each operator then schedules its own blocks.
Images pass their layers one by one, up to where they become rows (`images.one_by_one`): a dense
layer reads a weight once for several rows.

Layers come in the order of `refbnn.layers.images.pool_first`. Normalised inputs of a first dense
layer are one operator with it (`kernels.layers.folding`), and so is the max pooling of small
windows with the convolution before it (`kernels.layers.shared_weights`).

ReLU is a pass of its own. Merged into the pass that adds the biases of the dense layer before it,
it is no faster (within 3 % either way at batches 1 to 256 of 784-100-100-10 with AVX-512): its
inputs are still in the first cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from kernels.devices import Board, targets
from kernels.devices.targets import Target
from kernels.layers import folding, half, images, shared_weights
from kernels.layers.images import Packs, Planes
from kernels.layers.layer import add_layer, layout_of
from kernels.layers.linearised import alone
from kernels.layers.linearised import images as images_back
from kernels.layers.linearised import layer as linearised
from kernels.layers.linearised.backward import Back, back
from kernels.layers.products import require_form
from kernels.prediction import quadrature, table
from kernels.program import split
from kernels.program.compiled import CompiledNetwork, compiled
from kernels.program.program import Activation, Layout, Padded, Program
from refbnn.errors import InputError
from refbnn.layers import Conv2d, Dense, Flatten, Layer
from refbnn.layers.images.pool_first import pool_first
from refbnn.layers.posterior import Posterior
from refbnn.network.linearised import n_outputs
from refbnn.network.memory import require_moderate
from refbnn.network.network import METHODS, Network, require_network
from refbnn.numerics.arguments import require_known


def compile_network(
    net: Network,
    batch_size: int,
    target: str = "host",
    schedule: str = "hand",
    form: str = "variance",
    records: str | Path | None = None,
    device: str | Board = "local",
    method: str = "pfp",
    constant_time: bool = False,
    threads: int = 1,
    weights: str = "float32",
) -> CompiledNetwork:
    """Compile a network for batches of one size.

    Parameters
    ----------
    net : Network
        Its weights are copied, in float32.
    batch_size : int, at least 1
    target : str
        Name of a processor, see `kernels.devices.targets.target`.
    schedule : {"hand", "tuned", "default"}
        "hand": loops scheduled by hand. "tuned": by hand, with decisions from records of tuning
        where there are any; `refbnn tune` searches the method "pfp" (`CompiledNetwork.untuned`
        names what has none). "default": loops as TVM lowers them by itself.
    form : {"variance", "raw", "separate", "mean"}
        Form of sums (`kernels.layers.products`); "mean" is the network of the means alone.
    records : path of a folder, optional
        Folder in which `refbnn tune` left its records, see `kernels.program.records`.
    device : {"local", "emulated", "rpc"} or Board
        This machine, an emulated Arm core, or a board: see `kernels.devices`.
    method : {"pfp", "linearised"}
        "pfp": diagonal propagation of moments. "linearised": the result is `JointMoments` with the
        covariance of the outputs (`kernels.layers.linearised`); for the form "variance".
    constant_time : bool
        False leaves out inputs of a first dense layer that are 0 (`kernels.program.zeros`): the
        same bits in less time, which depends on the input.
    threads : int
        Threads that compute parts of the batch at once (`kernels.program.split`): the same bits.
    weights : {"float32", "variance16", "float16"}
        How weights of dense layers and convolutions are stored (`kernels.layers.half`): variances
        in half precision, or means too, for the method "pfp". Arithmetic stays in float32.

    Raises
    ------
    InputError
        If an argument is none of these, a layer has no kernel, the layers do not fit each other or
        do not tell the shape of the input, weights are correlated, a weight is too
        large for float32, a record is corrupt or does not fit, or the device cannot run kernels for
        the target.

    Examples
    --------
    >>> import numpy as np
    >>> from refbnn import Network
    >>> from refbnn.layers import Dense
    >>> net, x = Network([Dense(4, 3)], seed=0), np.ones((2, 4))
    >>> fast = compile_network(net, batch_size=2)
    >>> np.allclose(fast(x).var, net.propagate(x).var)
    True
    >>> compile_network(net, batch_size=2, method="linearised")(x).cov.shape
    (2, 3, 3)
    """
    require_network(net, "compile_network")
    options = target, schedule, form, records, device, method, constant_time, threads, weights
    rows = split.rows_of_part(batch_size, threads)
    one = compiled(
        program(net, rows, targets.target(target), form, method, constant_time, weights),
        schedule,
        records,
        device,
        net.input_range,
        partial(compile_network, net.with_noise(net.law), batch_size, *options),
        net.likelihood,
        partial((quadrature if method == "pfp" else table).add, name="predict"),
    )
    return one if threads == 1 else split.split(one, batch_size, threads)


def program(
    net: Network,
    batch: int,
    target: Target,
    form: str = "variance",
    method: str = "pfp",
    constant_time: bool = False,
    weights: str = "float32",
) -> Program:
    """The program of a network; parameters and errors as in `compile_network`."""
    require_form(form)
    require_known(method, METHODS, "method")
    half.require_storage(weights, form, method, target)
    if method == "linearised":
        return _linearised(net, batch, target, form, constant_time)
    if net.correlation and form != "mean":
        raise InputError(
            f"layers {sorted(net.correlation)} have correlated weights; expected independent ones, "
            "as propagation takes them"
        )
    whole = Program(target, batch, flush=True, constant_time=constant_time, storage=weights)
    x = whole.known(input_layout(net, target))
    of_layers = net.by_layer(net.propagated_parameters())
    in_order = pool_first(net.layers)
    for part in parts(in_order, of_layers, form):
        layers = [in_order[index] for index in part]
        name, own = f"layer{part[-1]}", _own(part, of_layers)
        if not _are_pooled(layers):
            own = half.all_rounded(own, weights, name)
        add = _adding(layers, name, own, form)
        whole.operators.append((_in_words(part, layers), partial(_alone, whole, x, add)))
        x = add(whole, x=x)
        if isinstance(layers[-1], Flatten):
            images.one_by_one(whole, x)
    if isinstance(x.layout, Planes | Packs):
        x = images.unpacked(whole, "unpacked", x)
        images.one_by_one(whole, x)
    whole.give(x)
    return whole


def parts(
    layers: Sequence[Layer],
    of_layers: Sequence[Mapping[str, Posterior]],
    form: str,
    linearised: bool = False,
) -> list[range]:
    """Ranges of indices of the layers that each operator of a network computes.

    Parameters
    ----------
    layers, of_layers
        The layers, and the weights of each by name.
    form : str
        A form of `kernels.layers.products`.
    linearised : bool
        Whether the pass back follows.
    """
    ranges = folding.parts(layers, of_layers, form)
    if form not in ("variance", "separate"):
        return ranges
    result: list[range] = []
    for one in ranges:
        if result and one.start < result[-1].stop:
            continue  # in the operator before
        pooled = shared_weights.covered(layers[one.start :], linearised)
        result.append(range(one.start, one.start + pooled) if pooled else one)
    return result


def _in_words(part: range, layers: Sequence[Layer]) -> str:
    """Name of an operator: the index of its first layer, and the kinds of all."""
    return f"{part[0]} {', '.join(type(layer).__name__ for layer in layers)}"


def _own(part: range, of_layers: Sequence[Mapping[str, Posterior]]) -> Mapping[str, Posterior]:
    """Weights of an operator: those of its only layer that has any."""
    return next((of_layers[index] for index in part if of_layers[index]), {})


def _linearised(
    net: Network, batch: int, target: Target, form: str, constant_time: bool
) -> Program:
    """The program of linearised propagation, which uses the posterior's own variances."""
    if form != "variance":
        raise InputError(f"method 'linearised': form is {form!r}; expected 'variance'")
    if net.correlation:
        raise InputError(
            f"layers {sorted(net.correlation)} have correlated weights; expected independent ones, "
            "as linearised propagation takes them"
        )
    whole = Program(target, batch, flush=True, constant_time=constant_time)
    x = whole.known(input_layout(net, target))
    k = n_outputs(net, x.layout.shape)
    of_layers = net.by_layer(net.parameters())
    tape: list[Back] = []
    in_order, of_images = pool_first(net.layers), []
    for part in parts(in_order, of_layers, form, linearised=True):
        layers, name = [in_order[index] for index in part], f"layer{part[-1]}"
        mine = [f"{name}_back"] if isinstance(x.layout, Planes | Packs) else []
        of_images += mine
        of_layer: list[Back] = []
        x = linearised.add(whole, name, layers, _own(part, of_layers), x, of_layer)
        note = partial(alone.noted, name=f"{_in_words(part, layers)}, back", of_images=mine)
        tape += [partial(note, function=function) for function in of_layer]
        if isinstance(layers[-1], Flatten):
            images.one_by_one(whole, x)
    whole.give_arrays(x.layout, x.mean)
    backward = back(whole, x, tape)
    whole.operators.append(("covariance", partial(alone.covariance, backward)))
    whole.give_arrays(Padded((batch, k, k), target.lanes), backward.covariance())
    images_back.one_by_one(whole, of_images)
    return whole


def _are_pooled(layers: list[Layer]) -> bool:
    """Whether an operator is a convolution with the max pooling behind it."""
    return len(layers) > 1 and isinstance(layers[0], Conv2d)


def _adding(
    layers: list[Layer], name: str, posteriors: Mapping[str, Posterior], form: str
) -> Callable[..., Activation]:
    """A function (program, x) that applies the layers of one operator."""
    if len(layers) == 1:
        return partial(add_layer, name=name, layer=layers[0], posteriors=posteriors, form=form)
    if _are_pooled(layers):
        return partial(_pooled, name=name, layers=layers, posteriors=posteriors)
    return partial(folding.add, name=name, layers=layers, posteriors=posteriors, form=form)


def _pooled(program: Program, name: str, layers, posteriors, x: Activation) -> Activation:
    return shared_weights.add(program, name, layers, posteriors, x)[0]


def _alone(whole: Program, x: Activation, add: Callable[..., Activation]) -> Program:
    """The program of one layer of a network, on an input like x."""
    program = Program(whole.target, whole.batch, whole.flush, whole.constant_time, whole.storage)
    y = add(program, x=program.given(x.layout, x.var is None))
    if isinstance(x.layout, Planes | Packs):
        images.one_by_one(program, y)
    program.give(y)
    return program


def input_layout(net: Network, target: Target) -> Layout:
    """Memory layout of a network's input.

    Raises
    ------
    InputError
        If the network does not tell the shape of its input, the layers do not fit it or each
        other, the input is made neither of rows nor of images, or an array takes too much memory.
    """
    shape = net.input_shape or (_features(net),)
    net.check_input(shape)
    require_moderate(net.layers, shape)
    return layout_of(shape, target)


def _features(net: Network) -> int:
    """Number of input features, which the first layer with weights tells if it is a dense one."""
    for layer in net.layers:
        if isinstance(layer, Dense):
            return layer.in_features
        if layer.parameter_shapes():
            break
    raise InputError("the network's input_shape is None; expected the shape of one input")
