"""A batch in parts, one a thread: each core computes some of the rows.

Rows do not depend on each other, and their sums run in the same order whatever the batch, so that
the results have the bits of a whole batch. Parts are of one size, n = ⌈B/T⌉ rows for T threads; the
last begins at B − n, and what it shares with the one before it is computed twice.

All parts run the same code on the same weights. A part takes what its rows take, and a thread is
handed its part and waited for in some 20 µs: small batches are faster in one thread.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from kernels.program.compiled import CompiledNetwork, numbers
from refbnn.errors import InputError
from refbnn.layers.moments import JointMoments, Moments
from refbnn.numerics.arguments import whole_number
from refbnn.prediction.result import Prediction


def rows_of_part(batch: int, threads: int) -> int:
    """Rows n of each part.

    Raises
    ------
    InputError
        If a number is no integer of at least 1, or there are more threads than rows.
    """
    batch, threads = whole_number(batch, 1, "batch_size"), whole_number(threads, 1, "threads")
    if threads > batch:
        raise InputError(f"threads is {threads}; expected at most batch_size, {batch}")
    return -(-batch // threads)


def split(one: CompiledNetwork, batch: int, threads: int) -> SplitNetwork:
    """Let threads compute a batch by copies of a network for the rows of one part."""
    others = {field.name: getattr(one, field.name) for field in fields(one)}
    return SplitNetwork(**others, batch=batch, threads=threads)


@dataclass(frozen=True, eq=False)
class SplitNetwork(CompiledNetwork):
    """A compiled network whose batch is computed in several threads; called as one of one thread.

    Parameters
    ----------
    kernel, status and others
        Of the first part.
    batch, threads : int

    Examples
    --------
    >>> import numpy as np
    >>> from refbnn import Network
    >>> from refbnn.layers import Dense
    >>> from kernels import compile_network
    >>> net, x = Network([Dense(4, 3)], seed=0), np.ones((5, 4))
    >>> one, two = (compile_network(net, 5, threads=n) for n in (1, 2))
    >>> bool((one(x).var == two(x).var).all())
    True
    """

    batch: int = 1
    threads: int = 1

    def __call__(self, x: ArrayLike) -> Any:
        """Moments of the output, with errors and warnings as of `CompiledNetwork`."""
        rows, results = self._each(x, CompiledNetwork.__call__)
        second = "cov" if isinstance(results[0], JointMoments) else "var"
        whole = (_joined(rows, [getattr(r, name) for r in results]) for name in ("mean", second))
        return type(results[0]).unchecked(*whole)

    def predict(self, x: ArrayLike) -> Prediction:
        """Predict classes with their uncertainty, as `CompiledNetwork.predict`."""
        x = self._whole(x)
        _ = self._predictor  # compiled by this thread, unless x is refused
        rows, results = self._each(x, CompiledNetwork.predict)
        logits = Moments.unchecked(
            _joined(rows, [r.logits.mean for r in results]),
            _joined(rows, [r.logits.var for r in results]),
        )
        names = "probabilities", "aleatoric", "entropy", "mutual_information"
        return Prediction.computed(
            logits, *(_joined(rows, [getattr(r, name) for r in results]) for name in names)
        )

    def instruction_count(self, x: ArrayLike) -> NoReturn:
        """Refuse: only a network of one thread is counted."""
        raise InputError("instruction_count: expected a network of one thread")

    @cached_property
    def _others(self) -> tuple[CompiledNetwork, ...]:
        """Copies for the other parts."""
        return tuple(self.beside() for _ in range(1, self.threads))

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads - 1, "refbnn")

    def _whole(self, x: ArrayLike) -> np.ndarray:
        return numbers(x, (self.batch, *self.kernel.inputs[0].shape[1:]))

    def _each(self, x: ArrayLike, function: Callable) -> tuple[list[slice], list[Any]]:
        """Rows of each part that the one before it has not, and what a method gives for them."""
        x, n = self._whole(x), len(self.kernel.inputs[0])
        starts = [min(i * n, self.batch - n) for i in range(self.threads)]
        waiting = [
            self._pool.submit(function, part, x[start : start + n])
            for part, start in zip(self._others, starts[1:], strict=True)
        ]
        try:
            results = [function(self, x[:n])]
        finally:
            wait(waiting)  # no part computes on when this call is over
        new = [slice(i * n - start, n) for i, start in enumerate(starts)]
        return new, results + [one.result() for one in waiting]


def _joined(rows: list[slice], arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([a[new] for new, a in zip(rows, arrays, strict=True)])
