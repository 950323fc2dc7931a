"""Residual block, y = x + f(x), backward: J + J G of the branch f."""

from __future__ import annotations

from kernels.layers import images
from kernels.layers.images import Packs, Planes
from kernels.layers.linearised.backward import Back, Backward, Jacobian, go_back
from kernels.program.program import Activation


def back(
    backward: Backward, J: Jacobian, name: str, x: Activation, tape: list[Back]
) -> Jacobian | None:
    """Go back through the block; `tape` is that of the branch."""
    backward.settle(name, J)
    rows = backward.scaled(name, J)
    of_branch = go_back(backward, Jacobian(J.layout, rows), tape)
    if x.var is None:
        return None
    if isinstance(x.layout, Planes | Packs) and x.layout != J.layout:  # the block copies x
        of_outputs = Activation(J.layout, rows, None)
        rows = images.copied(backward.program, f"{name}_skip", of_outputs, x.layout).mean
    if of_branch is None:
        return Jacobian(x.layout, rows)
    backward.settle(f"{name}_branch", of_branch)
    other = backward.scaled(f"{name}_branch", of_branch)
    return Jacobian(x.layout, backward.sum(f"{name}_sum", rows, other))
