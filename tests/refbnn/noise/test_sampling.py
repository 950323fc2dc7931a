"""Samples of every law in single and double precision against its distribution function."""

import numpy as np
import pytest
from scipy import stats

from refbnn.noise import Bimodal, DensityLaw, DeviceLaw, Gaussian, HeavyTailed, Mixture

LAWS = {
    "Gaussian": Gaussian(),
    "two peaks": Bimodal(),
    "asymmetric": Bimodal(0.6, 0.2, 3.0),
    "three peaks": Mixture((0.3, 0.5, 0.2), (-3.0, 0.1, 4.0), (0.8, 1.0, 1.2)),
    "far peaks": Bimodal(0.999),
    "singular edges": DeviceLaw(-0.5, -0.7),
    "vanishing edges": DeviceLaw(1.5, 0.5, (0.3, 0.8)),
    "flat": DeviceLaw(0.0, 0.0),
    "heavy tails": HeavyTailed(0.8, 0.5),
    "one heavy side": HeavyTailed(0.95, -0.9),
    "triangle": DensityLaw.of(lambda x: 1.0 - np.abs(x), -1.0, 1.0),
}
BY_NAME = pytest.mark.parametrize("name", LAWS)
BY_TYPE = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@BY_TYPE
@BY_NAME
def test_samples_follow_the_law(name, dtype):
    """KS test at 10⁵ samples; mean 0 and variance 1 within 5 standard errors."""
    law, n = LAWS[name], 100_000
    x = law.sample(np.random.default_rng(3), (n // 100, 100), dtype)
    assert x.shape == (n // 100, 100)
    assert x.dtype == dtype
    x = x.ravel().astype(float)
    assert np.isfinite(x).all()
    low, high = law.support
    # A float32 may round across the end by half a unit.
    assert x.min() >= low - 1e-7 * abs(low) if np.isfinite(low) else True
    assert x.max() <= high + 1e-7 * abs(high) if np.isfinite(high) else True
    assert stats.kstest(x, law.cdf).pvalue > 1e-4
    assert abs(x.mean()) < 5 * x.std() / np.sqrt(n)
    square = x**2
    assert abs(square.mean() - 1) < 5 * square.std() / np.sqrt(n)
    # Neighbours are independent: correlation has a deviation of 1/√n.
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 5 / np.sqrt(n)


@BY_TYPE
@BY_NAME
def test_the_same_generator_gives_the_same_samples(name, dtype):
    law = LAWS[name]
    first, second = (law.sample(np.random.default_rng(1), (3, 50), dtype) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert np.unique(first).size > 100
    assert law.sample(np.random.default_rng(1), (0,), dtype).shape == (0,)


@BY_TYPE
def test_blocks_join_without_a_seam(dtype):
    """More samples than one block of 2¹⁷: none is left over, none is repeated."""
    x = Gaussian().sample(np.random.default_rng(0), (3, 50_000), dtype)
    assert np.unique(x[:, :1000]).size > 2990
    for part in x:
        assert stats.kstest(part.astype(float), stats.norm.cdf).pvalue > 1e-4


@BY_TYPE
@BY_NAME
def test_the_least_uniform_number_is_no_outlier(name, dtype):
    """0 stands for all below the next number a generator returns, 2⁻²⁴ or 2⁻⁵³: half of that.

    A generator in float32 returns 0 once in 2²⁴ draws, so what stands for it is seen in training.
    """
    law = LAWS[name]
    least = 2.0**-24 if dtype is np.float32 else 2.0**-53
    inverse = law.inverse.single if dtype is np.float32 else law.inverse
    x = np.array([0.0, 1.0 - least]).astype(dtype)
    inverse.apply(x)
    if law.bounded:  # from the end to half of the least number, but for rounding
        low, quantile = law.support[0], float(law.icdf(np.array(least / 2)))
        assert low - 1e-6 <= x[0] <= quantile + 1e-6
        return
    # In L = −log u a float32 has 1e-7 of 17; the density in L near here is of order 1.
    want = law.icdf(np.array([least / 2, 1 - least]))
    np.testing.assert_allclose(x, want, rtol=1e-5 if dtype is np.float32 else 1e-9)
