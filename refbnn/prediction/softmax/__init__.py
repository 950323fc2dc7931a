"""From the moments of logits to the mean of their softmax, its entropy and mutual information.

The logits ℓ_c ~ N(m_c, v_c) are taken as independent, which is what a diagonal propagation knows of
them. `by_quadrature` is exact to rounding and costs less than a thousand samples; `by_sampling` is
the way that shares nothing with it; the closed forms are for places without either, with errors
measured in `figures.softmax_error`.
"""

from refbnn.prediction.softmax.closed_forms import (
    delta_method,
    laplace_bridge,
    pairwise_softmax,
    scaled_softmax,
)
from refbnn.prediction.softmax.quadrature import by_quadrature
from refbnn.prediction.softmax.sampling import by_sampling

__all__ = [
    "by_quadrature",
    "by_sampling",
    "delta_method",
    "laplace_bridge",
    "pairwise_softmax",
    "scaled_softmax",
]
