"""Local reparameterisation: sampled pre-activations in place of sampled weights.

Formulas
--------
For a layer y = Σ w x + b, linear in independent Gaussian weights, each output of one example is
Gaussian given the inputs (Kingma, Salimans & Welling 2015):

    y = m + √v ε,    m = layer(x; µ),    v = layer(x²; σ²),    ε ~ N(0, 1),

where layer(·; W) is the layer's own forward pass with these arrays as weights. With g = ∂L/∂y and
h = g ε/(2√v) = ∂L/∂v, the layer's own backward passes give

    ∂L/∂µ from (x, g),   ∂L/∂σ² from (x², h),
    ∂L/∂x = (from g with µ) + 2x ∘ (from h with σ²).

Each example has noise of its own, so the gradient of a minibatch varies less than with one set of
weights for all. The method is *exact* for dense layers and a Gaussian law: a loss that is a sum
over examples needs no joint distribution across them. In a convolution the positions of one map
share their weights and are correlated; here they are drawn independently (as in Molchanov, Ashukha
& Vetrov 2017), with the right marginals but without their correlation. Other laws are refused,
since a sum of a few of their weights is not Gaussian.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refbnn.errors import InputError
from refbnn.layers import Conv2d, Dense, Layer
from refbnn.layers.layer import Arrays
from refbnn.network.local_sampling import mean_and_spread


@dataclass(frozen=True, eq=False)
class Tape:
    """Arrays that the backward pass of one layer needs.

    Parameters
    ----------
    x : (..., B, ...)
        Inputs.
    noise, spread : (S, B, ...) or None
        ε and √v; None for a layer without weights.
    """

    x: np.ndarray
    noise: np.ndarray | None = None
    spread: np.ndarray | None = None


def check_layers(layers: Sequence[Layer]) -> None:
    """Raise InputError unless the formulas cover every layer with weights."""
    for index, layer in enumerate(layers):
        if layer.parameter_shapes() and not isinstance(layer, Dense | Conv2d):
            raise InputError(
                f"layer {index}: {type(layer).__name__} has no local reparameterisation; "
                "expected Dense or Conv2d, or sampled weights"
            )


def forward(
    layers: Sequence[Layer],
    x: np.ndarray,
    mean: Sequence[Arrays],
    var: Sequence[Arrays],
    n_samples: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, list[Tape]]:
    """Outputs (S, B, ...) for inputs (B, ...), from µ and σ² of each layer's weights."""
    tapes: list[Tape] = []
    lead: tuple[int, ...] = (n_samples,)
    for layer, mu, sigma2 in zip(layers, mean, var, strict=True):
        if not mu:
            tapes.append(Tape(x))
            x = layer.forward(x, {})
            continue
        m, spread = mean_and_spread(layer, x, mu, sigma2)
        noise = rng.standard_normal((*lead, *m.shape), dtype=m.dtype.type)
        tapes.append(Tape(x, noise, spread))
        x, lead = m + spread * noise, ()  # from here on the activations carry the sample axis
    return x, tapes


def backward(
    layers: Sequence[Layer],
    tapes: Sequence[Tape],
    mean: Sequence[Arrays],
    var: Sequence[Arrays],
    grad_y: np.ndarray,
) -> tuple[list[dict[str, np.ndarray]], list[dict[str, np.ndarray]]]:
    """∂L/∂µ and ∂L/∂σ² of each layer's weights, summed over samples, from ∂L/∂outputs."""
    n = len(layers)
    grad_mean: list[dict[str, np.ndarray]] = [{} for _ in range(n)]
    grad_var: list[dict[str, np.ndarray]] = [{} for _ in range(n)]
    first = next(index for index, arrays in enumerate(mean) if arrays)
    for index in range(n - 1, first - 1, -1):
        layer, tape, need = layers[index], tapes[index], index > first
        if tape.noise is None or tape.spread is None:
            grad_y = _present(layer.backward(tape.x, {}, grad_y)[0])
            continue
        # An output without spread, of zero inputs or of scales that underflow, has no noise.
        h = grad_y * tape.noise / np.where(tape.spread > 0, 2 * tape.spread, np.inf)
        grad_x, from_mean = layer.backward(tape.x, mean[index], grad_y, need)
        grad_square, from_var = layer.backward(tape.x * tape.x, var[index], h, need)
        grad_mean[index] = {name: g.sum(axis=0) for name, g in from_mean.items()}
        grad_var[index] = {name: g.sum(axis=0) for name, g in from_var.items()}
        if need:
            grad_y = _present(grad_x) + 2 * tape.x * _present(grad_square)
    return grad_mean, grad_var


def _present(grad: np.ndarray | None) -> np.ndarray:
    assert grad is not None  # it was asked for
    return grad
