import numpy as np
import pytest

from refbnn import Moments, Network, Posterior
from refbnn.layers import AvgPool2d, Conv2d, Dense, Flatten, MaxPool2d, ReLU
from refbnn.prediction import raw_moments


def random_moments(rng, *shape):
    return Moments(rng.standard_normal(shape), rng.uniform(0.1, 1.0, shape))


def random_posteriors(rng, layer):
    return {
        name: Posterior(rng.standard_normal(shape), rng.uniform(0.1, 1.0, shape))
        for name, shape in layer.parameter_shapes().items()
    }


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(Dense(5, 3), (4, 5)), (Conv2d(2, 4, 3, stride=2, padding=1, groups=2), (3, 2, 6, 5))],
)
@pytest.mark.parametrize("random_input", [True, False])
def test_it_is_the_same_sum(layer, shape, random_input):
    """Where nothing cancels: 1e-13 is a hundred roundings."""
    rng = np.random.default_rng(0)
    own = random_posteriors(rng, layer)
    x = random_moments(rng, *shape)
    given = x if random_input else x.mean
    got, want = raw_moments.moments(layer, given, own), layer.moments(given, own)
    np.testing.assert_allclose(got.mean, want.mean, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(got.var, want.var, rtol=1e-13)


def test_a_dense_layer_by_hand():
    x = Moments(np.array([[2.0, -1.0]]), np.array([[0.5, 0.25]]))
    own = {
        "weight": Posterior(np.array([[3.0, 0.5]]), np.array([[0.1, 0.2]])),
        "bias": Posterior(np.array([1.0]), np.array([0.3])),
    }
    got = raw_moments.moments(Dense(2, 1), x, own)
    # Σ E[x²]E[w²] − Σ (mµ)² + σ_b² = 4.5·9.01 + 1.25·0.29 − 36 − 0.25 + 0.09.
    assert got.var[0, 0] == pytest.approx(4.5 * 9.01 + 1.25 * 0.29 - 36.25 + 0.09, rel=1e-14)
    assert got.mean[0, 0] == pytest.approx(2.0 * 3.0 - 0.5 + 1.0, rel=1e-15)


def test_cancellation_never_gives_a_negative_variance():
    rng = np.random.default_rng(1)
    layer = Dense(50, 20)
    own = {
        name: Posterior((1e4 * p.mean).astype(np.float32), p.scale.astype(np.float32))
        for name, p in random_posteriors(rng, layer).items()
    }
    mean = (1e4 * rng.standard_normal((8, 50))).astype(np.float32)
    x = Moments(mean, np.ones((8, 50), np.float32))
    got = raw_moments.moments(layer, x, own)
    assert got.var.dtype == np.float32
    assert got.var.min() >= 0.0
    assert layer.moments(x, own).var.min() > 0.0


@pytest.mark.parametrize("pool", [None, MaxPool2d(2), AvgPool2d(2)])
def test_a_whole_network(pool):
    """Pooling has the covariance of its windows in both forms."""
    pools, n = ([], 48) if pool is None else ([pool], 12)
    layers = [Conv2d(1, 3, 3), ReLU(), *pools, Flatten(), Dense(n, 4)]
    net = Network(layers, input_shape=(1, 6, 6), seed=2)
    x = np.random.default_rng(3).random((5, 1, 6, 6))
    want, got = net.propagate(x), raw_moments.propagate(net, x)
    np.testing.assert_allclose(got.mean, want.mean, rtol=1e-12)
    # Deviations are a twentieth of the means here: ε·r² = 4e-14, through two layers.
    np.testing.assert_allclose(got.var, want.var, rtol=1e-11)
    assert not np.array_equal(got.var, want.var)
