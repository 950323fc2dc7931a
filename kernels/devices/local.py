"""The machine that this program runs on: compiled functions are called in this process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import tvm

from kernels.devices.loaded import Loaded, Memory

_TURN = 2  # milliseconds of runs behind one measurement: far above the clock's resolution


def load(executable: tvm.runtime.Executable, memory: Memory) -> Loaded:
    """Load a module; as `kernels.devices.Device` says."""
    tensors = [tvm.runtime.tensor(array) for array in memory.arrays]
    views = [np.from_dlpack(tensor) for tensor in tensors]
    return Loaded(
        run=partial(executable["main"], *tensors),
        memory=memory.replaced(views),
        time=timer(executable.jit(), tvm.cpu(), tensors),
    )


def timer(
    module: tvm.runtime.Module, device: tvm.runtime.Device, tensors: list[tvm.runtime.Tensor]
) -> Callable[[], float]:
    """What measures a run of a module, as `Loaded.time`, here or wherever the module is."""
    evaluate = module.time_evaluator("main", device, number=1, min_repeat_ms=_TURN)
    return lambda: float(evaluate(*tensors).mean)
