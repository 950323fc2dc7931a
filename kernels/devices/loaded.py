"""Interface of devices: each loads a compiled module with its memory, and gives a way to run it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import tvm

from kernels.devices.instructions import Blocks


@dataclass(frozen=True, eq=False)
class Memory:
    """Arrays that a kernel works on, in the order of its arguments, padding included.

    Parameters
    ----------
    inputs, weights, outputs : sequences of ndarray
    """

    inputs: Sequence[np.ndarray]
    weights: Sequence[np.ndarray]
    outputs: Sequence[np.ndarray]

    @property
    def arrays(self) -> list[np.ndarray]:
        """Inputs, weights and outputs."""
        return [*self.inputs, *self.weights, *self.outputs]

    def replaced(self, arrays: Sequence[np.ndarray]) -> Memory:
        """The same roles for other arrays, in the order of `arrays`."""
        n, m = len(self.inputs), len(self.inputs) + len(self.weights)
        return Memory(arrays[:n], arrays[n:m], arrays[m:])


@dataclass(frozen=True, eq=False)
class Loaded:
    """A kernel on a device.

    Parameters
    ----------
    run : callable without arguments
        Computes the outputs in `memory` from the inputs there.
    memory : Memory
        Arrays to write inputs to and to read outputs from.
    blocks : callable without arguments, or None
        Runs, and counts how often each basic block of code was executed; None unless emulated.
    time : callable without arguments, or None
        Measures the seconds of one run by the device's own clock, without the call from Python:
        runs again and again for some milliseconds. None on the emulated core.
    """

    run: Callable[[], object]
    memory: Memory
    blocks: Callable[[], Blocks] | None = None
    time: Callable[[], float] | None = None


class Device(Protocol):
    """A place to run kernels, such as `kernels.devices.local.load`."""

    def __call__(self, executable: tvm.runtime.Executable, memory: Memory) -> Loaded:
        """Load a module whose function is called `main`, with a copy of this memory."""
