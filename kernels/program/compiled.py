"""A compiled network: called like the reference, with the same checks of inputs and results.

The compiled function does most of a check: a pass over an array takes a fraction of a microsecond
there, but several from Python, as long as a small network. The pass leaves the bits of the largest
number, without its sign: float32 numbers order as their bits do, and infinity, whose bits are
7F800000, is above all finite ones and below every NaN. In variances the sign stays: negative
numbers other than −0 are then above infinity.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from tvm import te, tirx

from kernels.devices import Board
from kernels.devices.instructions import InstructionCount
from kernels.program import kernel as kernels
from kernels.program.kernel import Kernel
from kernels.program.program import Program, Rows
from refbnn.errors import InputError
from refbnn.layers.moments import MEAN_NOT_FINITE, NO_VARIANCE, Moments
from refbnn.numerics.arrays import real_array
from refbnn.prediction.result import Prediction
from refbnn.prediction.softmax import by_quadrature

_SINGLE = np.dtype(np.float32)
INFINITY_BITS = 0x7F800000
NOT_FINITE = "x holds NaN, infinity or a number too large for float32; expected finite numbers"
_MESSAGES = (NOT_FINITE, MEAN_NOT_FINITE, NO_VARIANCE)  # of x, mean and variance


@dataclass(frozen=True, eq=False)
class CompiledNetwork:
    """A network compiled for one batch size by `compile_network`: `net.propagate(x)` in float32.

    All calls share one memory: do not call it from two threads at once.

    Parameters
    ----------
    kernel : Kernel
        Takes x; gives mean and variance, or the mean alone where the variance is 0.
    largest : tuple of ndarray
        Views of the bits of the largest entry of x, mean and variance, which each run leaves.
    tuned, untuned : tuples of str
        With the schedule "tuned", the workloads that use a record of tuning, and those that have
        none and are scheduled by hand. Empty for other schedules.

    Examples
    --------
    >>> import numpy as np
    >>> from refbnn import Network
    >>> from refbnn.layers import Dense, ReLU
    >>> from kernels import compile_network
    >>> fast = compile_network(Network([Dense(4, 8), ReLU(), Dense(8, 3)], seed=0), batch_size=2)
    >>> fast(np.ones((2, 4))).mean.shape
    (2, 3)
    """

    kernel: Kernel
    largest: tuple[np.ndarray, ...]
    tuned: tuple[str, ...] = ()
    untuned: tuple[str, ...] = ()

    def __call__(self, x: ArrayLike) -> Moments:
        """Moments of the output for known inputs.

        Parameters
        ----------
        x : array_like, (batch_size, *input_shape), of real numbers
            Converted to float32.

        Returns
        -------
        Moments
            Fresh float32 arrays, (batch_size, *output shape).

        Raises
        ------
        InputError
            If x has another shape or type, or holds NaN, infinity or a number too large for
            float32; or if a result is too large for float32.
        """
        kernel = self.kernel
        put(x, kernel.inputs[0])
        kernel.run()
        for bits, message in zip(self.largest, _MESSAGES, strict=False):
            if bits.item() >= INFINITY_BITS:
                raise InputError(message)
        mean, *var = kernel.outputs
        return Moments.unchecked(mean.copy(), var[0].copy() if var else np.zeros_like(mean))

    def predict(self, x: ArrayLike) -> Prediction:
        """Predict classes with their uncertainty, as `refbnn.predict` does; errors as in a call.

        InputError also if the outputs are no logits (batch, classes) of at least 2 classes.
        """
        shape = self.kernel.outputs[0].shape
        if len(shape) != 2 or shape[1] < 2:
            raise InputError(
                f"predict: outputs have shape {shape}; expected (batch, 2 or more classes)"
            )
        return by_quadrature(self(x))

    def instruction_count(self, x: ArrayLike) -> InstructionCount:
        """Count the instructions executed for these inputs: `.total`, and by class.

        Raises
        ------
        InputError
            As in a call, and if the device cannot count: only "emulated" can.
        """
        self(x)  # for its checks
        return self.kernel.instruction_count(*self.kernel.inputs)


def put(x: ArrayLike, view: np.ndarray) -> None:
    """Copy an input into a kernel's memory.

    Parameters
    ----------
    x : array_like, of real numbers
    view : ndarray of float32
        Numbers too large for float32 become infinite.

    Raises
    ------
    InputError
        If x is no array of real numbers, or not of the shape of `view`.
    """
    if type(x) is not np.ndarray or x.dtype.kind not in "fiu":
        x = real_array(x, "x")
    if x.shape != view.shape:
        raise InputError(f"x has shape {x.shape}; expected {view.shape}")
    if x.dtype is _SINGLE:
        view[...] = x
    else:
        with np.errstate(over="ignore"):  # costs as much as a check
            view[...] = x


def compiled(
    program: Program, schedule: str, records: str | Path | None, device: str | Board
) -> CompiledNetwork:
    """Compile the program of a network; arguments and errors as in `compile_network`."""
    n_outputs = add_checks(program)
    kernel = kernels.build(program, schedule, records, device)
    largest = kernel.outputs[n_outputs:]
    kernel = replace(kernel, outputs=kernel.outputs[:n_outputs])
    if schedule != "tuned":
        return CompiledNetwork(kernel, largest)
    found = kernels.tuned(program, records)
    return CompiledNetwork(kernel, largest, tuple(sorted(found)), untuned(program, records))


def untuned(program: Program, records: str | Path | None) -> tuple[str, ...]:
    """Workloads of a program that can be tuned but have no record in this folder."""
    searched = {step.workload for step in program.steps if step.space}
    return tuple(sorted(searched - kernels.tuned(program, records).keys()))


def add_checks(program: Program) -> int:
    """Add the bits of the largest entries of x, mean and variance to a network's outputs.

    Returns
    -------
    int
        Number of outputs before: mean, and variance where there is one.
    """
    arrays = [tensor for _, tensor in [*program.inputs, *program.outputs]]
    bits = [_largest(tensor, signed=index == 2) for index, tensor in enumerate(arrays)]
    n_outputs = len(program.outputs)
    program.outputs += [(Rows(1, 1), tensor) for tensor in bits]
    return n_outputs


def _largest(tensor: te.Tensor, signed: bool) -> te.Tensor:
    """Bits of the largest entry, (1, 1), as the top of the file says."""
    axes = [te.reduce_axis((0, int(n))) for n in tensor.shape]
    entry = tensor(*axes)
    bits = tirx.reinterpret("uint32", entry)
    if signed:
        bits = tirx.Select(entry == tirx.const(0.0, "float32"), tirx.const(0, "uint32"), bits)
    else:
        bits = tirx.bitwise_and(bits, tirx.const(0x7FFFFFFF, "uint32"))
    return te.compute((1, 1), lambda *_: te.max(bits, axis=axes), name=f"{tensor.op.name}_largest")
