"""Linearised propagation, layer by layer: what a layer adds to the covariance of the outputs.

Formulas
--------
Let ℓ be the K outputs of a network, and J = ∂ℓ/∂y their Jacobian by the outputs y of one layer, to
first order and in expectation (`refbnn.network.linearised`). The layer splits its outputs into a
part that is linear in its inputs and a rest that is uncorrelated with them,

    y − E[y] = G (x − E[x]) + e,    Cov[x, e] = 0,

and contributes two things:

    C += J Cov[e] Jᵀ (its *own* covariance),    J ← J G (the Jacobian by its inputs).

A layer with weights has G = µ and the noise of its weights in e. An elementwise function has
G = g = E[f′(x)] for Gaussian x (Stein 1981: Cov[x, f(x)] = v E[f′(x)]), and the own variance
r = Var f(x) − g²v ≥ 0. A linear layer without weights has e = 0.

Arrays: J is (K, B, ...), with the outputs in front as samples are elsewhere, so that the backward
pass of a layer is its product with G; covariances are (B, K, K).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Protocol

import numpy as np

from refbnn.errors import InputError
from refbnn.layers.moments import Moments
from refbnn.layers.posterior import Posterior

Rule = tuple[np.ndarray | None, np.ndarray | None]


class NoRuleError(InputError):
    """A layer has no rule of linearised propagation."""

    def __init__(self, layer: object):
        super().__init__(
            f"linearised: {layer} has no rule; expected a method linearise, as of "
            "refbnn.layers.linearisation.LinearisedLayer, or the method 'pfp' or 'svi'"
        )


class LinearisedLayer(Protocol):
    """A layer that has a rule of linearised propagation."""

    def linearise(
        self,
        x: np.ndarray | Moments,
        y: Moments,
        posteriors: Mapping[str, Posterior],
        J: np.ndarray,
    ) -> Rule:
        """The layer's own covariance of K outputs, and their Jacobian by the layer's inputs.

        Parameters
        ----------
        x : (B, ...), known, or Moments
            Inputs, as `moments` takes them.
        y : Moments
            Outputs, as `moments` returns them.
        posteriors : mapping of str to Posterior
        J : (K, B, ...)
            ∂ℓ/∂y of the K outputs ℓ of the network.

        Returns
        -------
        covariance : (B, K, K) or None
            J Cov[e] Jᵀ; None stands for 0.
        J_x : (K, B, ...) or None
            J G; may be None for known inputs.
        """


def quadratic_form(J: np.ndarray, var: np.ndarray) -> np.ndarray:
    """J diag(var) Jᵀ for each example: J (K, B, ...), var (B, ...) of at least 0 -> (B, K, K)."""
    scaled = (J * np.sqrt(var)).reshape(*J.shape[:2], prod(J.shape[2:])).swapaxes(0, 1)
    return scaled @ scaled.swapaxes(1, 2)


def own_variance(var_y: np.ndarray, gain: np.ndarray, var_x: np.ndarray) -> np.ndarray:
    """r = Var[y] − g² Var[x], at least 0: below it by rounding alone, since |Cov| ≤ sd sd."""
    return np.maximum(var_y - gain * gain * var_x, 0.0)


def linearise_in_a_row(
    layers: Sequence[Any],
    activations: Sequence[np.ndarray | Moments],
    posteriors: Sequence[Mapping[str, Posterior]],
    J: np.ndarray,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Go back through layers in a row.

    Parameters
    ----------
    layers : sequence of Layer
    activations : sequence of ndarray or Moments
        Input of the first layer and outputs of all.
    posteriors : sequence of mapping
        Each layer's weights, by name.
    J : (K, B, ...)
        Jacobian by the outputs of the last layer.

    Returns
    -------
    covariance : (B, K, K)
        Sum of the layers' own covariances.
    J_x : (K, B, ...) or None
        Jacobian by the input of the first layer; None if that is known.

    Raises
    ------
    NoRuleError
        If a layer has no rule.
    """
    covariance = np.zeros((J.shape[1], len(J), len(J)))
    J_now: np.ndarray | None = J
    for index in range(len(layers) - 1, -1, -1):
        x, y = activations[index], activations[index + 1]
        if J_now is None or not isinstance(y, Moments):
            return covariance, None  # before the first layer with weights all is known
        if not hasattr(layers[index], "linearise"):
            raise NoRuleError(layers[index])
        own, J_now = layers[index].linearise(x, y, posteriors[index], J_now)
        if own is not None:
            covariance += own
    return covariance, J_now
