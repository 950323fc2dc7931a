"""Adam, schedules of its learning rate, and clipping of gradients.

Formula of Adam (Kingma & Ba 2015, algorithm 1), for each entry and step t = 1, 2, …:

    m ← β₁m + (1 − β₁)g,      v ← β₂v + (1 − β₂)g²,
    p ← p − η · (m/(1 − β₁ᵗ)) / (√(v/(1 − β₂ᵗ)) + ε).

Schedules of η over the progress s ∈ [0, 1) of a run: constant; linear, 1 − s; cosine,
½(1 + cos πs) (Loshchilov & Hutter 2017).

Clipping (Pascanu, Mikolov & Bengio 2013): g ← g·min(1, c/|g|), |g| over all arrays together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numba import njit

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8  # the paper's defaults

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda s: 1.0,
    "linear": lambda s: 1.0 - s,
    "cosine": lambda s: 0.5 * (1.0 + math.cos(math.pi * s)),
}


class Adam:
    """Adam over named arrays, which `step` changes in place.

    Parameters
    ----------
    parameters : mapping of str to ndarray, any shape
        Starting values. The attribute of this name holds the arrays that change: these, or copies
        in C order.
    """

    def __init__(self, parameters: Mapping[str, np.ndarray]):
        # In C order, so that `reshape(-1)` in `step` is a view.
        self.parameters = {name: np.asarray(p, order="C") for name, p in parameters.items()}
        self.steps = 0
        self.m = {name: np.zeros_like(p) for name, p in self.parameters.items()}
        self.v = {name: np.zeros_like(p) for name, p in self.parameters.items()}

    def step(self, grads: Mapping[str, np.ndarray], learning_rate: float) -> None:
        """Update every array from its gradient of the same shape and type."""
        self.steps += 1
        # Both bias corrections go into two scalars, so that each array is read once.
        root = math.sqrt(1.0 - _BETA_2**self.steps)
        rate = learning_rate * root / (1.0 - _BETA_1**self.steps)
        for name, p in self.parameters.items():
            m, v, number = self.m[name], self.v[name], p.dtype.type
            _update(
                *(array.reshape(-1) for array in (p, grads[name], m, v)),
                *(number(c) for c in (rate, _EPSILON * root, 1.0 - _BETA_1, 1.0 - _BETA_2)),
                np.finfo(p.dtype).tiny,
            )


def clip(grads: Mapping[str, np.ndarray], most: float) -> dict[str, np.ndarray]:
    """Scale gradients down so that the norm of all together is at most `most`."""
    norm = math.sqrt(sum(float(np.vdot(g, g)) for g in grads.values()))
    factor = min(1.0, most / norm) if norm > 0.0 else 1.0
    return {name: g * g.dtype.type(factor) for name, g in grads.items()}


@njit(cache=True, fastmath={"contract"}, error_model="numpy")  # no branch at each division
def _update(p, g, m, v, rate, epsilon, share_1, share_2, tiny):
    # A mean that the data do not need decays towards 0, and so do its gradients. Subnormal numbers
    # are set to 0: a processor takes a hundred times as long over them.
    zero = p.dtype.type(0)
    for i in range(p.size):
        first = m[i] + share_1 * (g[i] - m[i])
        m[i] = zero if abs(first) < tiny else first
        v[i] += share_2 * (g[i] * g[i] - v[i])
        value = p[i] - rate * m[i] / (np.sqrt(v[i]) + epsilon)
        p[i] = zero if abs(value) < tiny else value
