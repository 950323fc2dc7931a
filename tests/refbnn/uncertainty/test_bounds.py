"""Proven bounds against exact laws of sums; those against closed forms."""

import numpy as np
import pytest
from scipy import integrate, stats

from figures.support.sum_density import standardised_sum
from refbnn import Network, Posterior
from refbnn.errors import InputError
from refbnn.layers import Conv2d, Dense, Flatten, ReLU
from refbnn.noise import Bimodal, DeviceLaw, Gaussian, HeavyTailed, cumulants
from refbnn.uncertainty.diagnostics.bounds import (
    bounds_rows,
    third_absolute_moment,
    wasserstein_from_divergence,
    wasserstein_of_sum,
)
from refbnn.uncertainty.diagnostics.diagnose import diagnose

LAWS = {
    "bimodal": Bimodal(0.9),
    "device": DeviceLaw(1.0, 3.0),
    "heavy-tailed": HeavyTailed(0.7),
    "skewed": HeavyTailed(0.7, 0.2),
}


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("n", [2, 5, 40])
def test_errors_behind_a_relu_lie_under_the_bounds(name, n):
    law = LAWS[name]
    found = standardised_sum(law, n)
    berry_esseen = third_absolute_moment(law) / np.sqrt(n)
    talagrand = wasserstein_from_divergence(1.0, found.divergence)
    assert found.wasserstein <= min(berry_esseen, talagrand)
    for a in (-2.0, -0.5, 0.0, 0.7, 2.0):
        d_mean, d_sd = found.relu_error(a)
        assert abs(d_mean) <= found.wasserstein / 2.0
        assert abs(d_sd) <= talagrand
    assert abs(found.relu_error(0.0)[0]) > 1e-4  # the bounds are not empty


def test_the_law_of_a_sum_is_that_of_normal_mixtures():
    """Sums of two-component normal mixtures are normal mixtures with binomial weights."""
    law, n = Bimodal(0.9), 6
    k = np.arange(n + 1)
    weight, mean = stats.binom.pmf(k, n, 0.5), 0.9 * (2 * k - n) / np.sqrt(n)
    sd = np.sqrt(1 - 0.9**2)
    found = standardised_sum(law, n)
    want = stats.norm.pdf(found.x[:, None], mean, sd) @ weight
    # Rounding of a transform of 8192 numbers.
    np.testing.assert_allclose(found.density, want, atol=1e-13)

    def kl(x):
        p = stats.norm.pdf(x, mean, sd) @ weight
        return p * (np.log(p) - stats.norm.logpdf(x))

    assert found.divergence == pytest.approx(integrate.quad(kl, -12, 12, limit=200)[0], rel=1e-6)

    def gap(x):
        return abs(stats.norm.cdf(x, mean, sd) @ weight - stats.norm.cdf(x))

    w1 = integrate.quad(gap, -12, 12, limit=400)[0]
    assert found.wasserstein == pytest.approx(w1, abs=5e-6)  # kinks: step²/12
    h1 = stats.norm.pdf(mean / sd) * sd + mean * stats.norm.cdf(mean / sd)
    d_mean = weight @ h1 - 1 / np.sqrt(2 * np.pi)
    assert found.relu_error(0.0)[0] == pytest.approx(
        d_mean, abs=1e-6
    )  # kink: step²/12 = 4e-6 (p−g)
    second = (mean**2 + sd**2) * stats.norm.cdf(mean / sd) + mean * sd * stats.norm.pdf(mean / sd)
    d_sd = np.sqrt(weight @ second - (weight @ h1) ** 2) - np.sqrt(0.5 - 0.5 / np.pi)
    assert found.relu_error(0.0)[1] == pytest.approx(d_sd, abs=1e-6)
    at = np.array([-1.0, 0.3])
    np.testing.assert_allclose(
        found.cdf(at), stats.norm.cdf(at[:, None], mean, sd) @ weight, atol=1e-5
    )


@pytest.mark.parametrize(("name", "slope"), [("bimodal", -2), ("device", -1), ("heavy-tailed", -2),
                                             ("skewed", -1)])  # fmt: skip
def test_divergence_falls_with_the_predicted_slope(name, slope):
    law = LAWS[name]
    kl = [standardised_sum(law, n).divergence for n in (256, 1024)]
    # The next order of Edgeworth's expansion is 1/n of it, times cumulants of size 10.
    assert np.log(kl[1] / kl[0]) / np.log(4) == pytest.approx(slope, abs=0.02)
    _, _, skewness, kurtosis = cumulants(law, 4)
    assert kl[1] == pytest.approx(skewness**2 / 12 / 1024 + kurtosis**2 / 48 / 1024**2, rel=0.02)


def test_third_absolute_moments():
    assert third_absolute_moment(Gaussian()) == pytest.approx(2 * np.sqrt(2 / np.pi), rel=1e-12)
    uniform = DeviceLaw(0.0, 0.0)
    assert third_absolute_moment(uniform) == pytest.approx(np.sqrt(27) / 4, rel=1e-12)


def test_half_the_distance_is_reached():
    """±1 at equal odds and 0: one mean, W₁ = 1, and the means behind ReLU differ by 1/2."""
    x, z = np.array([-1.0, 1.0]), np.array([0.0, 0.0])
    w1 = stats.wasserstein_distance(x, z)
    assert np.maximum(x, 0.0).mean() - np.maximum(z, 0.0).mean() == w1 / 2.0
    rng = np.random.default_rng(0)
    for _ in range(20):  # any two laws of one mean, here of 30 atoms
        x, z = rng.standard_exponential(30), rng.standard_normal(30)
        x, z = x - x.mean() + 0.3, z - z.mean() + 0.3
        gap = abs(np.maximum(x, 0.0).mean() - np.maximum(z, 0.0).mean())
        assert gap <= stats.wasserstein_distance(x, z) / 2.0 + 1e-15  # a rounding


def test_the_bound_by_divergence_is_reached_by_a_shift():
    """N(0, v) and N(µ, v): W₂ = |µ| (shift every point), KL = µ²/2v."""
    shift, var = np.array([0.3, -2.0]), np.array([0.7, 5.0])
    found = wasserstein_from_divergence(var, shift**2 / (2.0 * var))
    np.testing.assert_allclose(found, np.abs(shift), rtol=1e-15)


def test_bound_of_a_dense_layer():
    rng = np.random.default_rng(0)
    weight = Posterior(rng.standard_normal((2, 3)), rng.random((2, 3)))
    bias = Posterior(np.zeros(2), rng.random(2))
    x = rng.standard_normal((4, 3))
    found = wasserstein_of_sum(Dense(3, 2), x, {"weight": weight, "bias": bias}, LAWS["device"])
    terms = np.array([*(weight.scale[1] * np.abs(x[2])), bias.scale[1]])
    want = third_absolute_moment(LAWS["device"]) * (terms**3).sum() / (terms**2).sum()
    assert found[2, 1] == pytest.approx(want, rel=1e-12)
    none = Posterior(np.ones((1, 3)), np.zeros((1, 3)))
    known = Posterior(np.zeros(1), np.zeros(1))
    own = {"weight": none, "bias": known}
    np.testing.assert_array_equal(wasserstein_of_sum(Dense(3, 1), x, own, Gaussian()), 0.0)


def test_a_convolution_is_bounded_as_the_dense_layer_of_its_window():
    rng = np.random.default_rng(5)
    law = LAWS["skewed"]
    net = Network([Conv2d(2, 3, 2), ReLU(), Flatten(), Dense(3, 2)], input_shape=(2, 2, 2), law=law)
    own = net.by_layer(net.parameters())[0]
    x = rng.standard_normal((4, 2, 2, 2))
    rows = Posterior(own["weight"].mean.reshape(3, 8), own["weight"].scale.reshape(3, 8))
    dense = {"weight": rows, "bias": own["bias"]}
    found = wasserstein_of_sum(Conv2d(2, 3, 2), x, own, law).reshape(4, 3)
    want = wasserstein_of_sum(Dense(8, 3), x.reshape(4, 8), dense, law)
    np.testing.assert_allclose(found, want, rtol=1e-12)


def test_rows_are_of_the_first_layer_with_weights_alone():
    net = Network(
        [Flatten(), Dense(4, 3), ReLU(), Dense(3, 2)], input_shape=(1, 2, 2), law=Bimodal(0.9)
    )
    x = np.random.default_rng(6).standard_normal((5, 1, 2, 2))
    (row,) = bounds_rows(net, x)
    assert (row["layer"], row["kind"]) == (1, "Dense")
    own = net.by_layer(net.parameters())[1]
    sd = np.sqrt(Dense(4, 3).moments(x.reshape(5, 4), own).var)
    bound = wasserstein_of_sum(Dense(4, 3), x.reshape(5, 4), own, net.law) / sd
    assert row["w1_bound_in_deviations"]["max"] == pytest.approx(bound.max(), rel=1e-12)
    kl = diagnose(net, x, n_samples=0)[0].first_order.divergence
    assert row["w2_bound_in_deviations"]["median"] == pytest.approx(
        np.median(np.sqrt(2 * kl).max(axis=-1))
    )
    many = bounds_rows(net, np.concatenate([x] * 15))  # more than a block
    assert many[0]["w1_bound_in_deviations"] == pytest.approx(row["w1_bound_in_deviations"])
    assert bounds_rows(Network([ReLU()], input_shape=(3,)), np.ones((2, 3))) == []
    with pytest.raises(InputError, match="layer 1"):
        bounds_rows(net, np.ones((2, 1, 3, 3)))
