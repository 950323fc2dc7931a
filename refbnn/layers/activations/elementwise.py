"""Elementwise layers: each output depends on one input, by the same function everywhere.

A new activation is one short file beside this one: its formulas, and a subclass of `Elementwise`
with `value`, `grad_input` and `propagated` (`refbnn.layers.weightless`), for arrays of any shape.
With `knots`, or a `gain` of its own, it has a rule of linearised propagation, and pooling behind it
knows the covariance of entries that share weights; without, pooling takes them as independent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from refbnn.layers.layer import Shape
from refbnn.layers.linearisation import NoRuleError, own_variance, quadratic_form
from refbnn.layers.moments import Moments
from refbnn.layers.posterior import Posterior
from refbnn.layers.weightless import Weightless
from refbnn.numerics.arguments import real_number
from refbnn.numerics.gaussian_expectation import shift_and_variance


@dataclass(frozen=True, repr=False)
class Elementwise(Weightless):
    """A layer that applies one function f to every entry; its fields are finite numbers."""

    def __post_init__(self):
        for field in fields(self):
            # A NumPy scalar would turn float32 activations into float64.
            value = real_number(getattr(self, field.name), f"{type(self).__name__}: {field.name}")
            object.__setattr__(self, field.name, value)

    @property
    def entrywise(self) -> bool:
        """Whether there is a gain: one of its own, or by knots."""
        return type(self).gain is not Elementwise.gain or self.knots is not None

    def output_shape(self, shape: Shape) -> Shape:
        """Any shape, kept."""
        return shape

    @property
    def monotone(self) -> bool:
        """Whether f nowhere decreases: max pooling before it is the same function."""
        return False

    def gain(self, x: Moments) -> np.ndarray:
        """E[f′(x)] of Gaussian x: by panels of f′(m + t) − f′(m), between the knots of f.

        Accurate to 1e-12 of the greatest |f′|.

        Raises
        ------
        NoRuleError
            If there are no knots.
        """
        if self.knots is None:
            raise NoRuleError(self)
        m = x.mean.astype(float)
        slope = self.grad_input(m, np.ones_like(m))

        def difference(mean, t):
            at = mean + t
            return self.grad_input(at, np.ones_like(at)) - self.grad_input(mean, np.ones_like(mean))

        return slope + shift_and_variance(m, x.var, difference, self.knots)[0]

    @property
    def knots(self) -> np.ndarray | None:
        """Inputs between which f′ is a short polynomial but for rounding, ascending; 0 is one.

        None where they are not told.
        """
        return None

    def linearise(
        self,
        x: np.ndarray | Moments,
        y: Moments,
        posteriors: Mapping[str, Posterior],
        J: np.ndarray,
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Gain and own variance, see `refbnn.layers.linearisation`."""
        if not isinstance(x, Moments):
            return None, None
        g = self.gain(x)
        return quadratic_form(J, own_variance(y.var, g, x.var)), J * g
