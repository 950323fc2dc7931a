"""Programs: what a kernel computes, operator by operator, and how to schedule it.

An operator (`kernels.layers.dense`, `kernels.layers.activations.relu`, ...) has a function `add`,
which declares the operator's weights in a program, defines its results as tensors computed from an
activation, and appends a `Step`, which schedules them. The whole program becomes one compiled
function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Protocol

import numpy as np
import tvm
from tvm import te

from kernels.devices.targets import Target
from refbnn.errors import InputError
from refbnn.numerics.arguments import whole_number

_MOST_NUMBERS = 2**31 - 1
_MOST_IN_ACTIVATION = 2**29  # 2 GB; a layer has several such arrays


class Layout(Protocol):
    """Layout of an array of shape (batch, *shape) in the memory of a kernel."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example in the reference."""

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
        Number of features.
    lanes : int
        float32 numbers in one vector.
    """

    n: int
    lanes: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example: (n,)."""
        return (self.n,)

    def tensor_shape(self, batch: int) -> tuple[int, ...]:
        """Shape in memory: (batch, n rounded up)."""
        return batch, -(-self.n // self.lanes) * self.lanes

    def view(self, memory: np.ndarray) -> np.ndarray:
        """Show the first n columns."""
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
        """Shape in memory: its last number rounded up."""
        return *self.shape[:-1], -(-self.shape[-1] // self.lanes) * self.lanes

    def view(self, memory: np.ndarray) -> np.ndarray:
        """Show the array without its padding."""
        return memory[..., : self.shape[-1]]


@dataclass(frozen=True)
class Plain:
    """Layout of an array without batch and padding, such as the two words of a seed."""

    shape: tuple[int, ...]

    def tensor_shape(self, batch: int) -> tuple[int, ...]:
        """Shape in memory, the same for any batch."""
        return self.shape

    def view(self, memory: np.ndarray) -> np.ndarray:
        """Show the memory itself."""
        return memory


@dataclass(frozen=True, eq=False)
class Activation:
    """Result of an operator: tensors of mean and variance, in one layout.

    Parameters
    ----------
    layout : Layout
    mean : tensor
    var : tensor or None
        None for known values.
    own : tensor, optional
        Own variance, the part that is uncorrelated with the operator's inputs, where linearised
        propagation asks for it (`kernels.layers.linearised`).
    gain : tensor, optional
        E[f′] of an elementwise function f, likewise.
    shared : kernels.layers.window_covariance.SharedWeights, optional
        What the outputs of a convolution have in common: pooling asks for their covariances.

    Raises
    ------
    InputError
        If a tensor would take more than 2 GB, padding included.
    """

    layout: Layout
    mean: te.Tensor
    var: te.Tensor | None
    own: te.Tensor | None = None
    gain: te.Tensor | None = None
    shared: Any = None

    def __post_init__(self):
        size = prod(map(int, self.mean.shape))
        if size > _MOST_IN_ACTIVATION:
            raise InputError(
                f"a layer of the network needs an array of {size} numbers, padding included; "
                f"expected at most {_MOST_IN_ACTIVATION}: choose a smaller batch or network"
            )

    @property
    def alone(self) -> Activation:
        """The activation without what its entries share, which would keep all before it."""
        return replace(self, shared=None)

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
        Name of the computation, under which tuned records are kept: equal for equal computations.
    by_hand : mapping of a decision's name to its value
        Decisions of the schedule by hand, such as {"rows": 5, "packs": 2}.
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
    """Computation of one compiled function.

    Parameters
    ----------
    target : Target
    batch : int
        Examples in one call.
    flush : bool
        Whether subnormal numbers count as 0 (`kernels.program.subnormals`), as in networks.
    constant_time : bool
        Whether inputs that are 0 take as long as others (`kernels.program.zeros`).
    storage : str
        Type of stored weights, see `kernels.layers.half`.

    Attributes
    ----------
    inputs, outputs : lists of (Layout, tensor)
    weights : list of (tensor, values)
        Arrays that stay the same from call to call, laid out ahead of time.
    steps : list of Step
    operators : list of (str, callable without arguments)
        Layers of a network: the name of each, and a function that makes the program of this layer
        alone, for tuning and measuring it.
    sources : list of tensors
        In the program of one operator alone: the tensors of the network that `inputs` stand for,
        where they are no activation of one layer (`kernels.layers.linearised.alone`).

    Raises
    ------
    InputError
        If the batch is no integer of at least 1.
    """

    target: Target
    batch: int
    flush: bool = False
    constant_time: bool = False
    storage: str = "float32"
    inputs: list[tuple[Layout, te.Tensor]] = field(default_factory=list)
    weights: list[tuple[te.Tensor, np.ndarray]] = field(default_factory=list)
    outputs: list[tuple[Layout, te.Tensor]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    operators: list[tuple[str, Callable[[], Program]]] = field(default_factory=list)
    sources: list[te.Tensor] = field(default_factory=list)

    def __post_init__(self):
        self.batch = whole_number(self.batch, 1, "batch_size")

    def copy(self) -> Program:
        """The same program, to be continued in another way."""
        return replace(
            self,
            inputs=list(self.inputs),
            weights=list(self.weights),
            outputs=list(self.outputs),
            steps=list(self.steps),
        )

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

    def weight(self, name: str, values: np.ndarray, dtype: str = "float32") -> te.Tensor:
        """Declare an array that stays the same from call to call, in float32 or float16.

        Subnormal numbers become 0: a posterior mean without influence decays to one in training,
        and a processor takes a hundred times as long over it. In a trained 784-100-100-10 every
        tenth mean was subnormal, which made the network eight times slower. Those of float16 stay:
        they are converted to float32, where they are normal.

        Raises
        ------
        InputError
            If a number is too large for that type.
        """
        with np.errstate(over="ignore", under="ignore"):
            narrow = np.ascontiguousarray(values, dtype=dtype)
        if not np.isfinite(narrow).all():
            raise InputError(f"{name}: a number is too large for {dtype}, or NaN")
        if narrow.dtype == np.float32:
            narrow = np.where(np.abs(narrow) < np.finfo(np.float32).tiny, np.float32(0.0), narrow)
        tensor = te.placeholder(narrow.shape, dtype, name)
        self.weights.append((tensor, narrow))
        return tensor

    def give(self, *activations: Activation) -> None:
        """Make mean, and variance where there is one, outputs of the function."""
        for activation in activations:
            self.give_arrays(activation.layout, *activation.tensors)

    def give_arrays(self, layout: Layout, *tensors: te.Tensor) -> None:
        """Make tensors of one layout outputs of the function."""
        self.outputs += [(layout, tensor) for tensor in tensors]

    def array(self, layout: Layout, name: str) -> te.Tensor:
        """Declare an input array.

        Raises
        ------
        InputError
            If the array has more numbers than TVM's indices of 32 bits can address.
        """
        shape = layout.tensor_shape(self.batch)
        size = prod(map(int, shape))
        if size > _MOST_NUMBERS:
            raise InputError(
                f"batch_size is {self.batch}: an input of {size} numbers; "
                f"expected at most {_MOST_NUMBERS}"
            )
        tensor = te.placeholder(shape, name=name)
        self.inputs.append((layout, tensor))
        return tensor
