"""What a device does: it takes a compiled module and the memory of a kernel, and runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import tvm

from kernels.devices.instructions import Blocks, InstructionCount


@dataclass(frozen=True)
class Memory:
    """The arrays that a kernel works on, in the order of its arguments, padding included.

    Parameters
    ----------
    inputs, weights, outputs : sequences of ndarray
    """

    inputs: Sequence[np.ndarray]
    weights: Sequence[np.ndarray]
    outputs: Sequence[np.ndarray]

    @property
    def arrays(self) -> list[np.ndarray]:
        """All of them."""
        return [*self.inputs, *self.weights, *self.outputs]

    def replaced(self, arrays: Sequence[np.ndarray]) -> Memory:
        """Other arrays in their places."""
        n, m = len(self.inputs), len(self.inputs) + len(self.weights)
        return Memory(arrays[:n], arrays[n:m], arrays[m:])


@dataclass(frozen=True)
class Loaded:
    """A kernel on a device.

    Parameters
    ----------
    run : callable without arguments
        Runs on the inputs in `memory` as they stand, and leaves the results in its outputs.
    memory : Memory
        Where the kernel finds its inputs and leaves its results.
    count : callable without arguments, or None
        Runs as `run` does, and counts instructions; None where they cannot be counted.
    blocks : callable without arguments, or None
        Runs as `run` does, and tells which code was executed how often; None as for `count`.
    time : callable without arguments, or None
        Runs it again and again for some milliseconds, on the inputs in `memory`; seconds of one
        run, by the device's own clock and without the call from Python. None on the emulated core.
    """

    run: Callable[[], object]
    memory: Memory
    count: Callable[[], InstructionCount] | None = None
    blocks: Callable[[], Blocks] | None = None
    time: Callable[[], float] | None = None


class Device(Protocol):
    """Somewhere to run kernels."""

    def __call__(self, executable: tvm.runtime.Executable, memory: Memory) -> Loaded:
        """Load a module whose function is called `main`, its memory holding these values."""
