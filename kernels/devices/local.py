"""The local machine as a device: compiled functions are called in this process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import tvm

from kernels.devices.loaded import Loaded, Memory

_ALIGNMENT = 64  # bytes, which compiled functions expect
_MEASUREMENT = 2  # milliseconds of runs: far above the clock's resolution


def load(executable: tvm.runtime.Executable, memory: Memory) -> Loaded:
    """Load a module in this process, as `kernels.devices.Device` specifies."""
    weights = [_shared(array) for array in memory.weights]
    inputs, outputs = (map(tvm.runtime.tensor, part) for part in (memory.inputs, memory.outputs))
    tensors = [*inputs, *weights, *outputs]
    views = [np.from_dlpack(tensor) for tensor in tensors]
    return Loaded(
        run=partial(executable["main"], *tensors),
        memory=memory.replaced(views),
        time=timer(executable.jit(), tvm.cpu(), tensors),
    )


def _shared(weights: np.ndarray) -> tvm.runtime.Tensor:
    """Put weights into memory; those of another kernel, which lie there already, are shared."""
    if weights.ctypes.data % _ALIGNMENT or not weights.flags.writeable:
        return tvm.runtime.tensor(weights)
    return tvm.runtime.from_dlpack(weights)


def timer(
    module: tvm.runtime.Module, device: tvm.runtime.Device, tensors: list[tvm.runtime.Tensor]
) -> Callable[[], float]:
    """Make a `Loaded.time` for a module, which may be in this process or on a board."""
    evaluate = module.time_evaluator("main", device, number=1, min_repeat_ms=_MEASUREMENT)
    return lambda: float(evaluate(*tensors).mean)
