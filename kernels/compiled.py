"""A compiled network: called like the reference, with the same checks of what goes in and out.

The checks are part of every call, and the network itself takes some microseconds: they are few
passes over arrays, and cost no more than two of them together with the copies.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kernels import kernel as kernels
from kernels.kernel import Kernel
from kernels.program import Program
from refbnn.errors import InputError
from refbnn.moments import Moments, all_finite

_SINGLE = np.dtype(np.float32)


@dataclass(frozen=True)
class CompiledNetwork:
    """A compiled network; `net.propagate(x)` in float32.

    Not for two threads at once: calls share one memory for inputs and outputs.

    Parameters
    ----------
    kernel : Kernel
    tuned, untuned : tuples of str
        Workloads whose decisions are from records of tuning, and those by hand for want of one.
        Both empty for other schedules than "tuned".
    """

    kernel: Kernel
    tuned: tuple[str, ...] = ()
    untuned: tuple[str, ...] = ()

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
        kernel = self.kernel
        (view,) = kernel.inputs
        if not isinstance(x, np.ndarray) or x.dtype.kind not in "fiu":
            what = (
                f"has dtype {x.dtype}" if isinstance(x, np.ndarray) else f"is a {type(x).__name__}"
            )
            raise InputError(f"x {what}; expected an array of real numbers")
        if x.shape != view.shape:
            raise InputError(f"x has shape {x.shape}; expected {view.shape}, (batch, features)")
        if x.dtype is _SINGLE:
            view[...] = x
        else:
            with np.errstate(over="ignore"):  # costs as much as a check
                view[...] = x
        if not all_finite(view):
            raise InputError(
                "x holds NaN, infinity or a number too large for float32; expected finite numbers"
            )
        kernel.run()
        mean, *var = kernel.outputs
        return Moments(mean.copy(), var[0].copy() if var else np.zeros_like(mean))


def compiled(program: Program, schedule: str, records: str | Path | None) -> CompiledNetwork:
    """Compile the program of a network; arguments and errors as in `compile_network`."""
    kernel = kernels.build(program, schedule, records)
    if schedule != "tuned":
        return CompiledNetwork(kernel)
    found = kernels.tuned(program, records)
    searched = {step.workload for step in program.steps if step.space}
    return CompiledNetwork(kernel, tuple(sorted(found)), tuple(sorted(searched - found.keys())))
