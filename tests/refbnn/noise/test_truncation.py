"""Laws that are cut to physical bounds, against SciPy's truncated normal law and by draws."""

import numpy as np
import pytest
from scipy.stats import norm, truncnorm

from refbnn.errors import InputError
from refbnn.noise import Bimodal, DeviceLaw, Gaussian, HeavyTailed, fit, fit_drift
from refbnn.noise.families.density import DensityLaw
from refbnn.noise.fitting.placing import Placed
from refbnn.noise.fitting.truncation import outside, truncated

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "bounds", [(0.0, np.inf), (-np.inf, 6.0), (0.0, 5.0)], ids=["below", "above", "both"]
)
def test_a_cut_gaussian_is_scipys_truncated_normal(bounds):
    location, scale = 2.5, 1.25
    placed = truncated(Placed(Gaussian(), location, scale), bounds)
    # Φ(40) rounds to 1; SciPy warns of infinite ends.
    a, b = np.clip((np.array(bounds) - location) / scale, -40.0, 40.0)
    exact = truncnorm(a, b, location, scale)
    law = placed.law
    # Bounds are moved inwards by 16 units in the last place, and an infinite one to 1e-20: both
    # are far below 1e-12, to which panels are accurate after the two roundings of standardising.
    assert placed.location == pytest.approx(exact.mean(), abs=1e-12)
    assert placed.scale == pytest.approx(exact.std(), abs=1e-12)
    u = np.linspace(0.001, 0.999, 101)
    g = exact.ppf(u)
    z = (g - placed.location) / placed.scale
    np.testing.assert_allclose(placed.location + placed.scale * law.icdf(u), g, atol=1e-11)
    np.testing.assert_allclose(law.cdf(z), u, atol=1e-12)
    density = np.exp(law.log_pdf(z)) / placed.scale
    np.testing.assert_allclose(density, exact.pdf(g), rtol=1e-10)
    assert law.entropy + np.log(placed.scale) == pytest.approx(exact.entropy(), abs=1e-10)
    rule = law.quadrature(16)
    for power in (1, 2, 3, 4):
        moment = rule.expect((placed.location + placed.scale * rule.nodes) ** power)
        assert moment == pytest.approx(exact.moment(power), rel=1e-10)


@pytest.mark.parametrize(
    "law", [Gaussian(), Bimodal(0.8), HeavyTailed(0.8, 0.3)], ids=lambda law: type(law).__name__
)
def test_draws_keep_the_bounds(law):
    placed = truncated(Placed(law, 3.0, 1.1), (0.0, np.inf))
    assert isinstance(placed.law, DensityLaw)
    draws = placed.location + placed.scale * placed.law.sample(np.random.default_rng(1), (200_000,))
    assert draws.min() >= 0.0
    ends = placed.location + placed.scale * np.array(placed.law.support)
    assert 0.0 <= ends[0] < 1e-12


def test_laws_that_keep_the_bounds_stay_as_they_are():
    for law in (Gaussian(), DeviceLaw(0.0, 0.0)):
        placed = Placed(law, 50.0, 2.0)
        assert outside(placed, (0.0, np.inf)) < 1e-100
        assert truncated(placed, (0.0, np.inf)) is placed


def test_a_fit_is_cut_left_out_or_neither():
    near = RNG.normal(3.0, 1.0, 500)
    near = near[near > 0.0]
    found = fit(near, families=["Gaussian"], bounds=(0.0, np.inf))
    assert isinstance(found.law, DensityLaw)
    assert found.family == "Gaussian"
    assert found.support[0] >= 0.0
    mean, deviation = (p.value for p in found.parameters)
    assert found.cut == pytest.approx(norm(mean, deviation).cdf(0.0), rel=1e-9)
    exact = truncnorm(-mean / deviation, np.inf, mean, deviation).logpdf(near).sum()
    assert found.log_likelihood == pytest.approx(exact, rel=1e-12)

    half = np.abs(RNG.normal(0.0, 1.0, 300)) + 0.01
    found = fit(half, bounds=(0.0, np.inf), families=["Gaussian", "device"], max_degree=0)
    assert found.family == "device, degree 0"
    assert found.left_out["Gaussian"] > 0.01
    assert found.support[0] >= 0.0
    with pytest.raises(InputError, match=r"Gaussian would leave .* outside the bounds 0 to inf"):
        fit(half, bounds=(0.0, np.inf), families=["Gaussian"])
    # Without bounds nothing is cut.
    assert fit(near, families=["Gaussian"]).law == Gaussian()


def test_values_at_a_bound_are_refused():
    values = np.append(np.abs(RNG.normal(0.0, 1.0, 100)) + 0.1, 0.0)
    with pytest.raises(InputError, match="1 values at or outside the bounds 0 to inf"):
        fit(values, bounds=(0.0, np.inf))


def test_a_drifting_law_keeps_the_bounds_at_every_time():
    groups = [RNG.normal(6.0, 1.0, 200), RNG.normal(4.0, 1.2, 200)]
    drift = fit_drift((0.0, 10.0), groups, families=["Gaussian"], bounds=(0.0, np.inf))
    for time in (0.0, 5.0, 10.0):
        law, location, scale = drift.at(time)
        assert location + scale * law.icdf(np.array(1e-12)) >= 0.0
    assert isinstance(drift.at(10.0).law, DensityLaw)
