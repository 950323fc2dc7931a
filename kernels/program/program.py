"""Programs: what a kernel computes, put together operator by operator, and how to schedule it.

An operator (`kernels.layers.dense`, `kernels.layers.activations.relu`, ...) adds itself to a
program: `add` declares its weights, says what is computed from the activation that it is given, and
appends a `Step`, which says how. One compiled function then does the whole program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Protocol

import numpy as np
import tvm
from tvm import te

from kernels.devices.targets import Target
from refbnn.errors import InputError

_MOST_NUMBERS = 2**31 - 1


class Layout(Protocol):
    """How an array of shape (batch, *shape) lies in the memory of a kernel."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example, as the reference has it."""

    def tensor_shape(self, batch: int) -> tuple[int, ...]:
        """Shape of the tensor in memory, padding included."""

    def view(self, memory: np.ndarray) -> np.ndarray:
        """Show the memory as (batch, *shape), without copying."""


@dataclass(frozen=True)
class Rows:
    """Layout of n features: rows padded with zeros to whole vectors, so that no loop has a tail.

    Parameters
    ----------
    n : int
        Features.
    lanes : int
        float32 numbers in one vector.
    """

    n: int
    lanes: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(n,)."""
        return (self.n,)

    def tensor_shape(self, batch: int) -> tuple[int, ...]:
        """(batch, n rounded up)."""
        return batch, -(-self.n // self.lanes) * self.lanes

    def view(self, memory: np.ndarray) -> np.ndarray:
        """The first n columns."""
        return memory[:, : self.n]


@dataclass(frozen=True)
class Padded:
    """Layout of an array without a batch, such as weights: its last axis padded to whole vectors.

    Parameters
    ----------
    shape : tuple of int
    lanes : int
        float32 numbers in one vector.
    """

    shape: tuple[int, ...]
    lanes: int

    def tensor_shape(self, batch: int = 1) -> tuple[int, ...]:
        """The shape, its last number rounded up."""
        return *self.shape[:-1], -(-self.shape[-1] // self.lanes) * self.lanes

    def view(self, memory: np.ndarray) -> np.ndarray:
        """The array without what was added."""
        return memory[..., : self.shape[-1]]


@dataclass(frozen=True)
class Plain:
    """Layout of an array as it is, without a batch, such as the two words of a seed.

    Parameters
    ----------
    shape : tuple of int
    """

    shape: tuple[int, ...]

    def tensor_shape(self, batch: int) -> tuple[int, ...]:
        """The shape, whatever the batch."""
        return self.shape

    def view(self, memory: np.ndarray) -> np.ndarray:
        """The memory."""
        return memory


@dataclass(frozen=True)
class Activation:
    """What operators hand on: tensors of mean and variance, both in one layout.

    Parameters
    ----------
    layout : Layout
    mean : tensor
    var : tensor or None
        None for known values.
    """

    layout: Layout
    mean: te.Tensor
    var: te.Tensor | None

    @property
    def tensors(self) -> list[te.Tensor]:
        """Mean, and variance where there is one."""
        return [self.mean] if self.var is None else [self.mean, self.var]


@dataclass(frozen=True)
class Step:
    """How one operator is scheduled.

    Parameters
    ----------
    workload : str
        What is computed, in words that are the same wherever the same is computed: the name under
        which a tuned record is kept.
    by_hand : mapping of a decision's name to its value
        Such as {"rows": 5, "packs": 2}.
    space : mapping of a decision's name to values worth a search
        Empty where there is nothing to search.
    transform : callable (schedule, decisions)
        Transforms a schedule in place; decisions as in `by_hand`.
    """

    workload: str
    by_hand: Mapping[str, int]
    space: Mapping[str, Sequence[int]]
    transform: Callable[[tvm.s_tir.Schedule, Mapping[str, int]], None]


@dataclass
class Program:
    """What one compiled function computes.

    Parameters
    ----------
    target : Target
    batch : int
        Examples in one call.
    flush : bool
        Whether subnormal numbers may count as 0 (`kernels.program.subnormals`): in networks they
        do.

    Attributes
    ----------
    inputs, outputs : lists of (Layout, tensor)
    weights : list of (tensor, values)
        Laid out ahead of time.
    steps : list of Step
    operators : list of (str, callable without arguments)
        Layers, where it is a network: what one is called, and what makes the program of it alone,
        in which it is searched and measured.

    Raises
    ------
    InputError
        If the batch is no integer of at least 1.
    """

    target: Target
    batch: int
    flush: bool = False
    inputs: list[tuple[Layout, te.Tensor]] = field(default_factory=list)
    weights: list[tuple[te.Tensor, np.ndarray]] = field(default_factory=list)
    outputs: list[tuple[Layout, te.Tensor]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    operators: list[tuple[str, Callable[[], Program]]] = field(default_factory=list)

    def __post_init__(self):
        whole = isinstance(self.batch, int | np.integer) and not isinstance(self.batch, bool)
        if not whole or self.batch < 1:
            raise InputError(f"batch_size is {self.batch!r}; expected at least 1, a whole number")

    def known(self, layout: Layout, name: str = "x") -> Activation:
        """Declare an input of known values."""
        return Activation(layout, self.array(layout, name), None)

    def random(self, layout: Layout, name: str = "x") -> Activation:
        """Declare two inputs: mean and variance."""
        mean, var = (self.array(layout, f"{name}_{part}") for part in ("mean", "var"))
        return Activation(layout, mean, var)

    def given(self, layout: Layout, known: bool) -> Activation:
        """Declare an input of known values, or of random ones."""
        return self.known(layout) if known else self.random(layout)

    def weight(self, name: str, values: np.ndarray) -> te.Tensor:
        """Declare an array that stays the same from call to call.

        In float32, numbers below the least normal one as 0: a posterior mean without influence
        decays to such a number in training, and a processor takes a hundred times as long over
        it. In a trained 784-100-100-10 every tenth one made the network eight times slower.

        Raises
        ------
        InputError
            If a number is too large for float32.
        """
        with np.errstate(over="ignore", under="ignore"):
            single = np.ascontiguousarray(values, dtype=np.float32)
        if not np.isfinite(single).all():
            raise InputError(f"{name}: a number is too large for float32, or NaN")
        single = np.where(np.abs(single) < np.finfo(np.float32).tiny, np.float32(0.0), single)
        tensor = te.placeholder(single.shape, name=name)
        self.weights.append((tensor, single))
        return tensor

    def give(self, *activations: Activation) -> None:
        """Make mean, and variance where there is one, outputs of the function."""
        for activation in activations:
            self.outputs += [(activation.layout, tensor) for tensor in activation.tensors]

    def give_arrays(self, layout: Layout, *tensors: te.Tensor) -> None:
        """Make tensors of one layout outputs of the function."""
        self.outputs += [(layout, tensor) for tensor in tensors]

    def array(self, layout: Layout, name: str) -> te.Tensor:
        """Declare an input array.

        Raises
        ------
        InputError
            If it has more numbers than TVM's indices, of 32 bits, reach.
        """
        shape = layout.tensor_shape(self.batch)
        if prod(map(int, shape)) > _MOST_NUMBERS:
            raise InputError(
                f"batch_size is {self.batch}: an input of {prod(map(int, shape))} numbers; "
                f"expected at most {_MOST_NUMBERS}"
            )
        tensor = te.placeholder(shape, name=name)
        self.inputs.append((layout, tensor))
        return tensor
