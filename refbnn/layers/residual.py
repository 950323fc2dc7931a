"""Residual block: y = x + f(x), f some layers in a row.

Formulas
--------
Forward x + f(x); backward ∂L/∂x = g + (∂f/∂x)ᵀ g with g = ∂L/∂y, so f's own backward pass adds to
g. Moments, where Var[x + f(x)] = v_x + v_f + 2 Cov[x, f(x)]:

    m' = m_x + m_f        v' = v_x + v_f

The covariance is left out, so the variance is exact only where it is zero: for known inputs, or an
f that does not depend on x. For weights of mean zero in f's last layer it is zero as well. Else the
variance may be too small or too large: for f(x) = w x, by 2 µ_w v_x.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from refbnn.errors import InputError
from refbnn.layers.layer import Arrays, Layer, Shape
from refbnn.moments import Moments, deterministic
from refbnn.posterior import Posterior


@dataclass(frozen=True)
class Residual:
    """Layers whose output is added to their input; see the formulas at the top of the file.

    Parameters
    ----------
    layers : sequence of Layer
        f, kept as a tuple. Its weights are named "0.weight", "0.bias" and so on, by layer.

    Raises
    ------
    InputError
        If there is no layer.
    """

    layers: tuple[Layer, ...]

    def __post_init__(self):
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers:
            raise InputError("Residual: no layers; expected at least one")

    def parameter_shapes(self) -> dict[str, Shape]:
        """Shapes of the weights of all layers, by "index.name"."""
        return {
            f"{index}.{name}": shape
            for index, layer in enumerate(self.layers)
            for name, shape in layer.parameter_shapes().items()
        }

    def output_shape(self, shape: Shape) -> Shape:
        """The shape of the input, which f has to keep."""
        inner = shape
        for index, layer in enumerate(self.layers):
            try:
                inner = layer.output_shape(inner)
            except InputError as error:
                raise InputError(f"Residual, layer {index}: {error}") from None
        if inner != shape:
            raise InputError(
                f"Residual: the layers make shape {inner} of {shape}; expected the same shape"
            )
        return shape

    def forward(self, x: np.ndarray, weights: Arrays) -> np.ndarray:
        """The sum x + f(x)."""
        return x + self._inputs(x, weights)[-1]

    def backward(
        self, x: np.ndarray, weights: Arrays, grad_y: np.ndarray, need_grad_x: bool = True
    ) -> tuple[np.ndarray | None, dict[str, np.ndarray]]:
        """g + (∂f/∂x)ᵀ g and the gradients of f's weights; f is computed again for its inputs."""
        inputs = self._inputs(x, weights)
        grad: np.ndarray | None = grad_y
        grads: dict[str, np.ndarray] = {}
        for index in range(len(self.layers) - 1, -1, -1):
            assert grad is not None  # asked of every layer but the first
            grad, grads_own = self.layers[index].backward(
                inputs[index], self._of_layer(index, weights), grad, need_grad_x or index > 0
            )
            grads |= {f"{index}.{name}": array for name, array in grads_own.items()}
        if not need_grad_x:
            return None, grads
        return grad_y + grad, grads

    def moments(self, x: np.ndarray | Moments, posteriors: Mapping[str, Posterior]) -> Moments:
        """m_x + m_f and v_x + v_f, without the covariance of x and f(x)."""
        of_f = x
        for index, layer in enumerate(self.layers):
            of_f = layer.moments(of_f, self._of_layer(index, posteriors))
        assert isinstance(of_f, Moments)  # there is at least one layer
        of_x = x if isinstance(x, Moments) else deterministic(x)
        return Moments(of_x.mean + of_f.mean, of_x.var + of_f.var)

    def _inputs(self, x: np.ndarray, weights: Arrays) -> list[np.ndarray]:
        """The input of every layer, and f(x) last."""
        inputs = [x]
        for index, layer in enumerate(self.layers):
            inputs.append(layer.forward(inputs[-1], self._of_layer(index, weights)))
        return inputs

    def _of_layer(self, index: int, arrays: Mapping) -> dict:
        return {name: arrays[f"{index}.{name}"] for name in self.layers[index].parameter_shapes()}
