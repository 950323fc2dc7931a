"""From the moments of logits to the mean of their softmax, its entropy and mutual information.

Independent logits ℓ_c ~ N(m_c, v_c), as a diagonal propagation gives them: `by_quadrature` is exact
to rounding and costs less than a thousand samples; `by_sampling` shares nothing with it. Jointly
Gaussian logits: `by_table`. Closed-form approximations are in
`figures.support.softmax_closed_forms`.
"""

from refbnn.prediction.softmax.quadrature import by_quadrature
from refbnn.prediction.softmax.sampling import by_sampling
from refbnn.prediction.softmax.table import by_table

__all__ = ["by_quadrature", "by_sampling", "by_table"]
