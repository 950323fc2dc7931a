"""Mean and variance of the greatest of independent Gaussians, in float32.

Two (Clark 1961)
----------------
For independent X₁, X₂ with m₁ ≥ m₂, θ² = v₁ + v₂, x = (m₁ − m₂)/θ and h_n = h_n(−x), as derived in
`refbnn.maximum`:

    E = m₁ + θh₁,      Var = v₁(1 − 2h₀) + θ²(h₂ − h₁²).

All terms of the variance are positive. Where all variances are 0, E = m₁ and Var = 0 exactly, ties
included.

Range of `pairwise`: while v₁ + v₂ does not overflow, mean to 2e-6 of |E| + θh₁, variance to 2e-6
relative for x ≤ 10, and
1.5 · 2⁻¹⁴⁹ more where they are subnormal.
"""

from __future__ import annotations

from tvm import tirx

from kernels.normal import lower_rectified
from kernels.polynomials import f32, named


def pairwise(mean_1, var_1, mean_2, var_2):
    """Mean and variance of max(X₁, X₂), of one element: TVM expressions in and out.

    A mean of −∞ with variance 0 stands for an entry that is not there.
    """

    def formula(name):
        swap = mean_2 > mean_1
        high, low = tirx.max(mean_1, mean_2), tirx.min(mean_1, mean_2)
        gap, gap_rest = two_sum(name, name(high), -name(low))
        theta_squared, theta_rest = two_sum(name, var_1, var_2)
        theta, h0, h1, h2 = lower_rectified(name, gap, theta_squared, gap_rest, theta_rest)
        own = tirx.Select(swap, var_2, var_1)
        mean = high + theta * h1
        return mean, own * (f32(1.0) - f32(2.0) * h0) + theta_squared * (h2 - h1 * h1)

    return named(formula, 2)


def two_sum(name, a, b):
    """a + b rounded, and what rounding took from it, exactly (Knuth 1969; Møller 1965)."""
    total = name(a + b)
    b_part = name(total - a)
    return total, name((a - (total - b_part)) + (b - b_part))
