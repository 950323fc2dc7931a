"""Layers without weights: what activations, pooling, flattening and normalisation share.

Such a layer states `output_shape` and three functions: its value, its gradient and its moments for
random inputs. This file turns them into the interface of `refbnn.layers.layer`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from refbnn.layers.layer import Arrays, Shape, short_repr
from refbnn.layers.moments import Moments, deterministic
from refbnn.layers.posterior import Posterior


@dataclass(frozen=True, repr=False)
class Weightless(ABC):
    """A layer without weights."""

    def __repr__(self) -> str:
        return short_repr(self)

    @property
    def entrywise(self) -> bool:
        """Whether each output depends on the input at its place alone, with a method `gain`."""
        return False

    @abstractmethod
    def output_shape(self, shape: Shape) -> Shape:
        """Shape of one output for one input of this shape; InputError if it does not fit."""

    @abstractmethod
    def value(self, x: np.ndarray) -> np.ndarray:
        """Outputs y for inputs x."""

    @abstractmethod
    def grad_input(self, x: np.ndarray, grad_y: np.ndarray) -> np.ndarray:
        """∂L/∂x from the inputs x and grad_y = ∂L/∂y."""

    @abstractmethod
    def propagated(self, x: Moments) -> Moments:
        """Moments of the outputs for random inputs."""

    def parameter_shapes(self) -> dict[str, Shape]:
        """No weights."""
        return {}

    def forward(self, x: np.ndarray, weights: Arrays) -> np.ndarray:
        """See `value`."""
        return self.value(x)

    def backward(
        self, x: np.ndarray, weights: Arrays, grad_y: np.ndarray, need_grad_x: bool = True
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """See `grad_input`."""
        return self.grad_input(x, grad_y), {}

    def moments(self, x: np.ndarray | Moments, posteriors: Mapping[str, Posterior]) -> Moments:
        """See `propagated`; known inputs are random ones of variance 0."""
        if not isinstance(x, Moments):
            return self.propagated(deterministic(x))
        y = self.propagated(x)
        if self.entrywise and x.shared is not None:
            return replace(y, shared=x.shared.behind(self, x))
        return y

    def linearise(
        self,
        x: np.ndarray | Moments,
        y: Moments,
        posteriors: Mapping[str, Posterior],
        J: np.ndarray,
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Linear layers have no own covariance, and G is their backward pass."""
        if not isinstance(x, Moments):
            return None, None
        return None, self.grad_input(x.mean, J)
