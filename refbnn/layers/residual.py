"""Residual block: y = x + f(x), f some layers in a row.

Formulas
--------
Forward x + f(x); backward ∂L/∂x = g + (∂f/∂x)ᵀ g with g = ∂L/∂y, so f's own backward pass adds to
g. Moments, where Var[x + f(x)] = v_x + v_f + 2 Cov[x, f(x)] and, for independent Gaussian x,
Cov[x_i, f_i(x)] = v_i J_i with J_i = E[∂f_i/∂x_i] (`refbnn.layers.mean_jacobian`):

    m' = m_x + m_f        v' = (1 + J)² v_x + max(v_f − J² v_x, 0),

because f is J x plus a rest that is uncorrelated with x. The variance of the rest cannot be
negative. It comes out so only where v_f has lost the covariances inside f; then it counts as 0, so
that v' ≥ 0.

J is computed where f is made of Dense, ReLU and LeakyReLU. For other layers, images above all,
J = 0 stands for the unknown: exact for known inputs, or where the means of the weights make J = 0.

Error
-----
v' is exact for f of one dense layer, any law. For more layers, J is exact for Gaussian
pre-activations, and the error of v_f remains. Measured for f = dense, ReLU, dense of n units each:
Σ v' over the sum of the variances of 6000 sampled blocks, and the root mean square of the relative
error of each v' (0.02 of it is sampling error), over four blocks; x ~ N(m, 1), m ~ N(0, 1), weights
of mean N(0, 2/n) and a scale a tenth of its spread. The second and third pair of columns add −½W₁ᵀ
or ½W₁ᵀ to the last layer's means, so that J is about ∓½. "Without J" is the sum v_x + v_f, which
leaves the covariance out:

         random means                 J ≈ −½                       J ≈ ½
    n    with J       without         with J       without         with J       without
    4    1.08, 0.33   1.11, 0.76      0.99, 0.30   1.78, 2.13      0.93, 0.18   0.67, 0.38
    16   1.00, 0.16   0.96, 0.33      0.87, 0.28   1.34, 0.57      0.94, 0.13   0.70, 0.31
    64   0.99, 0.09   1.00, 0.14      0.89, 0.16   1.35, 0.42      0.95, 0.09   0.71, 0.29

Two convolutions of 1 and 4 channels of 4×4, random means, J = 0: 1.06, 0.30 and 0.96, 0.21.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from refbnn.errors import InputError
from refbnn.layers import mean_jacobian
from refbnn.layers.images.pool_first import pool_first
from refbnn.layers.layer import Arrays, Layer, Shape, layers_in_a_row
from refbnn.layers.linearisation import linearise_in_a_row
from refbnn.layers.mean_jacobian import COVERED
from refbnn.layers.moments import Moments, deterministic, require_finite_outputs
from refbnn.layers.posterior import Posterior


@dataclass(frozen=True, repr=False)
class Residual:
    """Layers whose output is added to their input; see the formulas at the top of the file.

    Parameters
    ----------
    layers : sequence of Layer
        The layers of f, kept as a tuple. Weights are named "0.weight", "0.bias" and so on.

    Raises
    ------
    InputError
        If there is no layer, or one is none.

    Examples
    --------
    >>> from refbnn.layers import Dense, ReLU, Residual
    >>> block = Residual([Dense(3, 4), ReLU(), Dense(4, 3)])
    >>> list(block.parameter_shapes())
    ['0.weight', '0.bias', '2.weight', '2.bias']
    """

    layers: Sequence[Layer]

    def __post_init__(self):
        object.__setattr__(self, "layers", layers_in_a_row(self.layers, "Residual"))

    def __repr__(self):
        return f"Residual({list(self.layers)})"

    def parameter_shapes(self) -> dict[str, Shape]:
        """Shapes of the weights of all layers, by "index.name"."""
        return {
            f"{index}.{name}": shape
            for index, layer in enumerate(self.layers)
            for name, shape in layer.parameter_shapes().items()
        }

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of the input, which f has to keep."""
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
        """x + f(x)."""
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
        """See the formulas at the top of the file."""
        own = [self._of_layer(index, posteriors) for index in range(len(self.layers))]
        layers = pool_first(self.layers)
        of_x = x if isinstance(x, Moments) else deterministic(x)
        inputs, now = [of_x], x
        for layer, weights in zip(layers, own, strict=True):
            now = layer.moments(now, weights)
            inputs.append(now)
        of_f = inputs.pop()
        J = np.zeros_like(of_x.var)
        if isinstance(x, Moments) and all(isinstance(layer, COVERED) for layer in layers):
            J = mean_jacobian.diagonal(layers, inputs, own)
        rest = np.maximum(of_f.var - J**2 * of_x.var, 0.0)
        return Moments(of_x.mean + of_f.mean, (1.0 + J) ** 2 * of_x.var + rest)

    def linearise(
        self,
        x: np.ndarray | Moments,
        y: Moments,
        posteriors: Mapping[str, Posterior],
        J: np.ndarray,
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Own covariances of the layers of f, and J + J G of f; moments of f computed again."""
        own = [self._of_layer(index, posteriors) for index in range(len(self.layers))]
        layers = pool_first(self.layers)
        inputs: list[np.ndarray | Moments] = [x]
        for layer, weights in zip(layers, own, strict=True):
            inputs.append(layer.moments(inputs[-1], weights))
        covariance, J_f = linearise_in_a_row(layers, inputs, own, J)
        return covariance, J if J_f is None else J + J_f

    def _inputs(self, x: np.ndarray, weights: Arrays) -> list[np.ndarray]:
        """Inputs of all layers, and f(x) last."""
        inputs = [x]
        for index, layer in enumerate(self.layers):
            y = layer.forward(inputs[-1], self._of_layer(index, weights))
            require_finite_outputs(y, f"Residual, layer {index}")
            inputs.append(y)
        return inputs

    def _of_layer(self, index: int, arrays: Mapping) -> dict:
        return {name: arrays[f"{index}.{name}"] for name in self.layers[index].parameter_shapes()}
