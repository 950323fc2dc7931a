"""A network as one kernel: all layers in one compiled function.

Moments go from layer to layer as in `refbnn.Network.propagate`: known inputs up to the first
dense layer, mean and variance after it. The computes are chained, and by hand each operator then
schedules its own blocks.

ReLU is a pass of its own. Merged into the pass that adds the biases of the dense layer before it,
it is no faster (within 3 % either way at batches 1 to 256 of 784-100-100-10 with AVX-512): its
inputs are still in the first cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels import dense, elementwise, relu, targets
from kernels.devices.instructions import InstructionCount
from kernels.kernel import Kernel, build
from kernels.program import Program, Rows
from kernels.targets import Target
from refbnn.errors import InputError
from refbnn.layers import Dense, ReLU
from refbnn.moments import Moments, all_finite
from refbnn.network import Network


@dataclass(frozen=True)
class CompiledNetwork:
    """A compiled network; `net.propagate(x)` in float32.

    Not for two threads at once: calls share one memory for inputs and outputs.

    Parameters
    ----------
    kernel : Kernel
    """

    kernel: Kernel

    def __call__(self, x: np.ndarray) -> Moments:
        """Moments of the output for known inputs.

        Parameters
        ----------
        x : ndarray, (batch, in), of real numbers

        Returns
        -------
        Moments
            Fresh float32 arrays, (batch, out).

        Raises
        ------
        InputError
            If x is no such array, or holds NaN, infinity or a number too large for float32.
        """
        self._put(x)
        self.kernel.run()
        mean, var = self.kernel.outputs
        return Moments(mean.copy(), var.copy())

    def instruction_count(self, x: np.ndarray) -> InstructionCount:
        """Instructions executed for these inputs: `.total`, and by class.

        Raises
        ------
        InputError
            As in a call, and if the kernel is on a device that cannot count.
        """
        self._put(x)
        return self.kernel.instruction_count(*self.kernel.inputs)

    def _put(self, x: np.ndarray) -> None:
        (view,) = self.kernel.inputs
        if not isinstance(x, np.ndarray) or x.dtype.kind not in "fiu":
            what = (
                f"has dtype {x.dtype}" if isinstance(x, np.ndarray) else f"is a {type(x).__name__}"
            )
            raise InputError(f"x {what}; expected an array of real numbers")
        if x.shape != view.shape:
            raise InputError(f"x has shape {x.shape}; expected {view.shape}, (batch, features)")
        if x.dtype == np.float32:
            view[...] = x
        else:
            with np.errstate(over="ignore"):  # costs a microsecond
                view[...] = x
        if not all_finite(view):
            raise InputError(
                "x holds NaN, infinity or a number too large for float32; expected finite numbers"
            )


def compile_network(
    net: Network,
    batch_size: int,
    target: str = "host",
    schedule: str = "hand",
    device: str = "local",
) -> CompiledNetwork:
    """Compile a network for batches of one size.

    Parameters
    ----------
    net : Network
        Its weights are copied, in float32.
    batch_size : int, at least 1
    target : str
        A name that `kernels.targets.target` knows.
    schedule : {"hand", "default"}
        The loops as scheduled by hand, or as TVM lowers them by itself.
    device : {"local", "emulated"}
        This machine, or an emulated Arm core: see `kernels.devices`.

    Raises
    ------
    InputError
        If an argument is none of these, a layer has no kernel, the layers do not fit each other,
        a weight is too large for float32, or the device cannot run kernels for the target.
    """
    program = _program(net, batch_size, targets.target(target))
    return CompiledNetwork(build(program, schedule, device))


def _program(net: Network, batch: int, target: Target) -> Program:
    n_in = _features(net)
    net.check_input((n_in,))
    parameters = net.propagated_parameters()
    program = Program(target, batch)
    x = program.known(Rows(n_in, target.lanes))
    for index, layer in enumerate(net.layers):
        name = f"layer{index}"
        match layer:
            case Dense():
                posteriors = parameters[f"{index}.weight"], parameters[f"{index}.bias"]
                x = dense.add(program, name, x, *posteriors)
            case ReLU():
                x = elementwise.add(program, name, "relu", relu.value, relu.moments, x)
            case _:
                raise InputError(
                    f"layer {index}: {type(layer).__name__} has no kernel; expected Dense or ReLU"
                )
    program.give(x)
    return program


def _features(net: Network) -> int:
    """Count the input features: the first dense layer tells."""
    for layer in net.layers:
        if isinstance(layer, Dense):
            return layer.in_features
    raise InputError("network without a Dense layer: its number of input features is unknown")
