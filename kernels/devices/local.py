"""The machine that this program runs on: compiled functions are called in this process."""

from __future__ import annotations

from functools import partial

import numpy as np
import tvm

from kernels.devices import Loaded, Memory


def load(executable: tvm.runtime.Executable, memory: Memory) -> Loaded:
    """Load a module; as `kernels.devices.Device` says."""
    tensors = [tvm.runtime.tensor(array) for array in memory.arrays]
    views = [np.from_dlpack(tensor) for tensor in tensors]
    return Loaded(partial(executable["main"], *tensors), memory.replaced(views))
