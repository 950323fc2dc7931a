"""The interface of priors: log p of one weight and its derivative.

`refbnn.training.kl.loops` holds the same functions as scalars, for loops over millions of weights.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from refbnn.numerics.arguments import positive_number


class Prior(Protocol):
    """The interface of every prior; θ of any shape.

    Examples
    --------
    >>> from refbnn.prior import LaplacePrior
    >>> prior: Prior = LaplacePrior(0.5)
    >>> prior.score(np.array([-1.0, 0.0, 1.0]))
    array([ 2., -0., -2.])
    """

    def log_pdf(self, theta: np.ndarray) -> np.ndarray:
        """Log p(θ)."""

    def score(self, theta: np.ndarray) -> np.ndarray:
        """(log p)′(θ)."""


def make_positive(prior: Prior, *names: str) -> None:
    """Replace fields of a prior by floats; InputError if one is no finite number above 0."""
    for name in names:
        value = positive_number(getattr(prior, name), f"{type(prior).__name__}: {name}")
        object.__setattr__(prior, name, value)
