"""KL from a Laplace prior for laws of every kind: the table of a law, and kernels that read it."""

import numpy as np
import pytest

from kernels.kl import kernel as kl
from kernels.kl import table as kl_table
from kernels.kl.table import Table
from refbnn.errors import InputError
from refbnn.layers.posterior import Posterior
from refbnn.noise import Bimodal, DensityLaw, DeviceLaw, Gaussian, HeavyTailed, Mixture
from refbnn.numerics.softplus import inverse_softplus, softplus_and_slope
from refbnn.prior import LaplacePrior
from refbnn.training.kl import kl as reference
from verification.kernels.gradients import DEVICE, divergence_terms

SCHEDULES = pytest.mark.parametrize("schedule", ["hand", "default"])
PRIOR = LaplacePrior(0.3)
UNIFORM = DeviceLaw(0.0, 0.0)
LAWS = {
    "normal": Gaussian(),
    "two peaks": Bimodal(0.9, 0.3, 0.5),
    "mixture": Mixture([0.5, 0.3, 0.2], [-1.0, 0.5, 2.0], [0.1, 0.5, 0.3]),
    "heavy": HeavyTailed(0.9, 0.2),
    "device": DEVICE,
    "arcsine": DeviceLaw(-0.5, -0.5),
    "triangle": DensityLaw.of(lambda x: 1.0 - np.abs(x), -1.0, 1.0),
    "jump": DensityLaw.of(lambda x: np.where(x < 0.3, 1.0, 3.0), 0.0, 1.0),
}
# Laws that tables find hard: spikes, the longest tails and the most singular ends that there are.
EXTREME = {
    "two spikes": Bimodal(0.999, 0.5),
    "a rare spike": Bimodal(0.999, 0.001, 1000.0),
    "a narrow peak": Bimodal(0.0, 0.5, 1000.0),
    "long tails": HeavyTailed(0.995, 0.99),
    "nearly normal": HeavyTailed(0.01, 0.0),
    "probability at the ends": DeviceLaw(-0.95, -0.9, (0.5,)),
    "far from one end": DeviceLaw(100.0, 3.0),
    "a gap": DensityLaw.of(lambda x: (np.abs(x) > 0.5) * (1.0 - x * x), -1.0, 1.0),
}


def read(table: Table, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """B and S as tabulated, by arithmetic instead of bits, in float64."""
    cut = np.argmin(np.abs(t[:, np.newaxis] - table.cuts), axis=1)
    e = t - table.cuts[cut]
    key = np.minimum(np.abs(e) + table.h, table.last).astype(np.float32).astype(float)
    fraction, exponent = np.frexp(key / table.h)  # fraction from ½
    octave, within = exponent - 1, (2.0 * fraction - 1.0) * 2.0**table.m
    part = (octave * 2.0**table.m + np.floor(within)).astype(int)
    rows = table.coefficients[(2 * cut + (e < 0.0)) * table.entries + part].astype(float)
    tau = (within - np.floor(within)) * 2.0**-table.m
    powers = tau[:, np.newaxis] ** np.arange(4)
    return np.sum(rows[:, :4] * powers, axis=1), np.sum(rows[:, 4:] * powers, axis=1)


@pytest.mark.parametrize("name", [*LAWS, *EXTREME])
def test_tables_are_as_accurate_as_stated(name):
    law = (LAWS | EXTREME)[name]
    table = kl_table.table(law)
    rng = np.random.default_rng(5)
    near = 2.0 ** np.arange(-60.0, 0.0)
    beside = np.add.outer(table.cuts, np.concatenate([-near, [0.0], near])).ravel()
    at_random = rng.uniform(*law.reach, 4000), law.icdf(rng.uniform(0.0, 1.0, 4000))
    t = np.concatenate([*at_random, beside, [-1e30, 0.0, 1e30]])
    balance, spread = read(table, t)
    size = -2.0 * law.partial_mean(np.array(0.0))
    limit = kl_table.ERROR + 2e-7  # float32 coefficients
    assert np.max(np.abs(balance - (1.0 - 2.0 * law.cdf(t)))) <= limit
    assert np.max(np.abs(spread + 2.0 * law.partial_mean(t))) <= limit * size
    assert np.array_equal(balance[[-3, -1]], [1.0, -1.0])
    assert np.array_equal(spread[[-3, -1]], [0.0, 0.0])


def edges(law) -> np.ndarray:
    """Where the law ends or is narrow: −µ/σ is set there."""
    return kl_table.table(law).cuts


def posteriors(law, n: int, rng) -> Posterior:
    """Scales 1e-4 to 10 and means to ±10; of a third −µ/σ inside the law, of another at its edges.

    At the edges to rounding, on either side; every eleventh mean 0 exactly.
    """
    scale = (10.0 ** rng.uniform(-4.0, 1.0, n)).astype(np.float32)
    mean = rng.uniform(-10.0, 10.0, n)
    inside = law.icdf(rng.uniform(0.0, 1.0, n))
    mean[::3] = (-inside * scale)[::3]
    step = rng.choice([-1e-3, -1e-6, -1e-7, 0.0, 1e-7, 1e-6, 1e-3], n)
    mean[1::3] = (-rng.choice(edges(law), n) * (1.0 + step) * scale)[1::3]
    mean[::11] = 0.0
    mean = np.clip(mean, -10.0, 10.0).astype(np.float32)
    return Posterior(mean.astype(float), scale.astype(float))


def shares(result, weights, law, slope=1.0):
    """Errors of value, ∂µ and ∂σ (times a slope), relative to the largest of their terms."""
    value, d_mean, d_scale = result
    expected = reference.divergence({"w": weights}, law, PRIOR)["w"]
    terms = divergence_terms(weights, law, PRIOR)
    return [
        abs(value - expected.value.sum()) / terms[0].sum(),
        np.max(np.abs(d_mean - expected.d_mean) / terms[1]),
        np.max(np.abs(d_scale - slope * expected.d_scale) / (slope * terms[2])),
    ]


@pytest.mark.parametrize("name", LAWS)
def test_kl_from_a_laplace_prior(name):
    law = LAWS[name]
    weights = posteriors(law, 997, np.random.default_rng(6))
    result = kl.build(997, law, PRIOR)(weights.mean, weights.scale)
    assert max(shares(result, weights, law)) <= 2e-6  # of the 1e-5 that are stated


def test_the_value_of_each_weight():
    # Of a sum, errors of single weights may hide in the others.
    law = LAWS["arcsine"]
    drawn = posteriors(law, 60, np.random.default_rng(7))
    kernel = kl.build(1, law, PRIOR)
    for mean, scale in zip(drawn.mean[:, np.newaxis], drawn.scale[:, np.newaxis], strict=True):
        assert max(shares(kernel(mean, scale), Posterior(mean, scale), law)) <= 2e-6


@SCHEDULES
def test_a_uniform_law_by_hand(schedule):
    # θ uniform on µ ± r, r = √3 σ: E|θ| = (µ² + r²)/2r within, |µ| beyond; KL = E|θ|/b + log(b/r).
    scale = np.repeat([1e-4, 0.5, 10.0], 5).astype(np.float32).astype(float)
    r = np.sqrt(3.0) * scale
    mean = np.tile([0.0, 0.3, -0.99, 1.01, -1e6], 3) * r
    mean = mean.astype(np.float32).astype(float)
    across = np.abs(mean) < r
    size = np.where(across, (mean**2 + r**2) / (2.0 * r), np.abs(mean))
    by_mean = np.where(across, mean / r, np.sign(mean))
    by_scale = np.where(across, (1.0 - (mean / r) ** 2) * np.sqrt(3.0) / 2.0, 0.0)
    kernel = kl.build(15, UNIFORM, PRIOR, schedule=schedule)
    value, d_mean, d_scale = kernel(mean, scale)
    b = PRIOR.scale
    exact = size / b + np.log(b / r)
    assert abs(value - exact.sum()) <= 1e-6 * np.abs(exact).sum()
    assert np.max(np.abs(d_mean - by_mean / b)) <= 1e-6 / b
    assert np.max(np.abs(d_scale - (by_scale / b - 1.0 / scale)) * b) <= 1e-6 * (1.0 + b / 1e-4)
    beyond = np.abs(mean) > 1e3 * r
    assert np.array_equal(d_mean[beyond], np.sign(mean[beyond]).astype(np.float32) / np.float32(b))


@SCHEDULES
def test_by_rho(schedule):
    law = LAWS["mixture"]
    drawn = posteriors(law, 70, np.random.default_rng(8))
    rho = inverse_softplus(drawn.scale).astype(np.float32)
    scale, slope = softplus_and_slope(rho.astype(float))
    kernel = kl.build(70, law, PRIOR, schedule=schedule, parameter="rho")
    result = kernel(drawn.mean, rho)
    assert max(shares(result, Posterior(drawn.mean, scale), law, slope)) <= kl.RELATIVE_ERROR


def test_extreme_means_and_scales():
    # −µ/σ from 1e-76 to 1e76, as float64 holds them; E|θ| within float32.
    least, most = float(np.finfo(np.float32).tiny), 1e37
    mean = np.array([0.0, most, -most, least, -most, 1.0])
    scale = np.array([least, least, least, most, most, 1e-30]).astype(np.float32).astype(float)
    weights = Posterior(mean.astype(np.float32).astype(float), scale)
    for law in (LAWS["heavy"], LAWS["jump"]):
        result = kl.build(6, law, PRIOR)(weights.mean, weights.scale)
        assert max(shares(result, weights, law)) <= 2e-6


def test_bad_input():
    kernel = kl.build(3, DEVICE, PRIOR)
    scale = np.full(3, 0.1)
    for bad in (np.nan, np.inf, -np.inf, 1e60):
        with pytest.raises(InputError, match="KL overflows"):
            kernel(np.array([0.0, bad, 0.0]), scale)
    with pytest.raises(InputError, match=r"scales from 0 to 0\.1"):
        kernel(np.zeros(3), np.array([0.1, 0.0, 0.1]))
    assert all(np.isfinite(part).all() for part in kernel(np.zeros(3), scale))


def test_a_law_of_too_many_jumps_is_refused():
    law = DensityLaw.of(lambda x: np.where(np.sin(12.0 * np.pi * x) > 0.0, 1.0, 0.2), 0.0, 2.0)
    with pytest.raises(InputError, match="expected at most 16 ends, spikes and jumps") as caught:
        kl.build(3, law, PRIOR)
    assert "\n" not in str(caught.value)
