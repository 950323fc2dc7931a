"""Inputs that `refbnn bench` measures on: a data set's, and random numbers beside them.

`kernels.bench.inputs` says which examples of a data set these are.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from refbnn.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from refbnn.network.network import Network

DIGITS = "mnist-subset"  # where no data set is named, for networks of as many inputs
_MOST = 1000  # examples looked at


@dataclass(frozen=True, eq=False)
class Inputs:
    """Inputs of one batch size.

    Parameters
    ----------
    x : (B, ...)
    random : (B, ...) or None
        Random numbers, none of them 0, where x is of a data set.
    text : str
        Says what x is.
    """

    x: np.ndarray
    random: np.ndarray | None
    text: str


def inputs(net: Network, data: str | None, shape: tuple[int, ...], batch: int) -> Inputs:
    """Inputs of a network that takes examples of this shape.

    Raises
    ------
    InputError
        If the data set cannot be read, has fewer examples, or does not fit the network.
    """
    import numpy as np

    from kernels.bench.inputs import evenly_by_zeros
    from refbnn import data as data_sets
    from refbnn.cli.models import shaped

    random = 1.0 - np.random.default_rng(0).random((batch, *shape))  # above 0
    if data is None and prod(shape) != 28 * 28:
        return Inputs(random, None, "random numbers")
    examples = data_sets.load(DIGITS if data is None else data, "test")
    x = shaped(net, examples, _MOST)
    if len(x) < batch:
        raise InputError(f"{examples.name}: {len(x)} examples looked at; expected {batch}")
    chosen = x[evenly_by_zeros(x, batch)].reshape(random.shape)
    share = 100 * (chosen == 0.0).mean()
    return Inputs(chosen, random, f"{examples.name}, {share:.0f} % zeros")
