"""A network as one kernel: all layers in one compiled function.

Moments go from layer to layer as in `refbnn.Network.propagate`: known inputs up to the first
dense layer, mean and variance after it. The computes are chained, and by hand each operator then
schedules its own blocks.

ReLU is a pass of its own. Merged into the pass that adds the biases of the dense layer before it,
it is no faster (within 3 % either way at batches 1 to 256 of 784-100-100-10 with AVX-512): its
inputs are still in the first cache.
"""

from __future__ import annotations

from pathlib import Path

from kernels import dense, elementwise, relu, targets
from kernels.compiled import CompiledNetwork, compiled
from kernels.program import Program, Rows
from kernels.targets import Target
from refbnn.errors import InputError
from refbnn.layers import Dense, ReLU
from refbnn.network import Network


def compile_network(
    net: Network,
    batch_size: int,
    target: str = "host",
    schedule: str = "hand",
    records: str | Path | None = None,
) -> CompiledNetwork:
    """Compile a network for batches of one size.

    Parameters
    ----------
    net : Network
        Its weights are copied, in float32.
    batch_size : int, at least 1
    target : str
        A name that `kernels.targets.target` knows.
    schedule : {"hand", "tuned", "default"}
        The loops as scheduled by hand; by hand with decisions from records of tuning, where there
        are (`CompiledNetwork.untuned` names the others); or as TVM lowers them by itself.
    records : path of a folder, optional
        Where `refbnn tune` left them, see `kernels.records`.

    Raises
    ------
    InputError
        If an argument is none of these, a layer has no kernel, the layers do not fit each other,
        a weight is too large for float32, or a record is corrupt or does not fit.
    """
    return compiled(program(net, batch_size, targets.target(target)), schedule, records)


def program(net: Network, batch: int, target: Target, form: str = "variance") -> Program:
    """Make the program of a network; `form` as in `kernels.products`, errors as above."""
    n_in = _features(net)
    net.check_input((n_in,))
    parameters = net.propagated_parameters()
    whole = Program(target, batch)
    x = whole.known(Rows(n_in, target.lanes))
    for index, layer in enumerate(net.layers):
        name = f"layer{index}"
        match layer:
            case Dense():
                posteriors = parameters[f"{index}.weight"], parameters[f"{index}.bias"]
                x = dense.add(whole, name, x, *posteriors, form)
            case ReLU():
                x = elementwise.add(whole, name, "relu", relu.value, relu.moments, x)
            case _:
                raise InputError(
                    f"layer {index}: {type(layer).__name__} has no kernel; expected Dense or ReLU"
                )
    whole.give(x)
    return whole


def _features(net: Network) -> int:
    """Count the input features: the first dense layer tells."""
    for layer in net.layers:
        if isinstance(layer, Dense):
            return layer.in_features
    raise InputError("network without a Dense layer: its number of input features is unknown")
