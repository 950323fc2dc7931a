"""Adam: gradient descent with running moments of the gradient.

Formula (Kingma & Ba 2015, algorithm 1), for each entry, step t = 1, 2, …:

    m ← β₁m + (1 − β₁)g,      v ← β₂v + (1 − β₂)g²,
    p ← p − η · (m/(1 − β₁ᵗ)) / (√(v/(1 − β₂ᵗ)) + ε).
"""

from __future__ import annotations

import numpy as np

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8  # the paper's defaults


class Adam:
    """Adam over named arrays, which `step` changes in place."""

    def __init__(self, learning_rate: float):
        self.learning_rate = learning_rate
        self._steps = 0
        self._m: dict[str, np.ndarray] = {}
        self._v: dict[str, np.ndarray] = {}

    def step(self, parameters: dict[str, np.ndarray], grads: dict[str, np.ndarray]) -> None:
        """One update of every array from its gradient of the same shape."""
        self._steps += 1
        # Both bias corrections in two scalars, so that each array is passed over few times.
        root = np.sqrt(1.0 - _BETA_2**self._steps)
        rate = self.learning_rate * root / (1.0 - _BETA_1**self._steps)
        for name, g in grads.items():
            m = self._m.setdefault(name, np.zeros_like(g))
            v = self._v.setdefault(name, np.zeros_like(g))
            m += (1.0 - _BETA_1) * (g - m)
            v += (1.0 - _BETA_2) * (g * g - v)
            parameters[name] -= rate * m / (np.sqrt(v) + _EPSILON * root)
