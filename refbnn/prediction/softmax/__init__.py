"""From the moments of logits to the mean of their softmax, its entropy and mutual information.

The logits ℓ_c ~ N(m_c, v_c) are taken as independent, as a diagonal propagation gives them.
`by_quadrature` is exact to rounding and costs less than a thousand samples; `by_sampling` shares
nothing with it. Closed-form approximations are in `figures.support.softmax_closed_forms`.
"""

from refbnn.prediction.softmax.quadrature import by_quadrature
from refbnn.prediction.softmax.sampling import by_sampling

__all__ = ["by_quadrature", "by_sampling"]
