import numpy as np
import pytest

from refbnn import InputError, Moments, Network
from refbnn.layers import Dense, Flatten, Normalise, ReLU
from refbnn.prediction.covariance import propagation as covariance
from tests.helpers.derivatives import complex_step

# Each with the shape of one input, and with m and s of every entry.
CASES = [
    (Normalise(0.5, 2.0), (3,), [0.5] * 3, [2.0] * 3),
    (Normalise([1.0, -2.0], [0.5, 3.0]), (2,), [1.0, -2.0], [0.5, 3.0]),
    (Normalise([1.0, -2.0], [0.5, 3.0]), (2, 1, 2), [1.0, 1.0, -2.0, -2.0], [0.5, 0.5, 3.0, 3.0]),
]


@pytest.mark.parametrize(("layer", "shape", "m", "s"), CASES)
def test_values_and_moments_entry_by_entry(layer, shape, m, s):
    rng = np.random.default_rng(0)
    x, var = rng.standard_normal((2, 4, *shape))
    result = layer.moments(Moments(x, var**2), {})
    values = layer.forward(x, {})
    assert layer.output_shape(shape) == shape
    for row in range(4):
        for entry, index in enumerate(np.ndindex(*shape)):
            at = (row, *index)
            # One difference and one division each, and a product more for the variance.
            assert values[at] == pytest.approx((x[at] - m[entry]) / s[entry], rel=4e-16)
            assert result.mean[at] == values[at]
            assert result.var[at] == pytest.approx(var[at] ** 2 / s[entry] ** 2, rel=6e-16)


@pytest.mark.parametrize(("layer", "shape", "m", "s"), CASES)
def test_the_gradient_matches_complex_step(layer, shape, m, s):
    rng = np.random.default_rng(1)
    x, g = rng.standard_normal((2, 4, *shape))
    grad_x, grads = layer.backward(x, {}, g)
    expected = complex_step(lambda v: (g * layer.forward(v, {})).sum(), x)
    assert grads == {}
    np.testing.assert_allclose(grad_x, expected, rtol=1e-15)


def test_float32_stays_float32():
    for x in (np.ones((2, 3), np.float32), np.ones((2, 3, 4, 4), np.float32)):
        assert Normalise([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]).forward(x, {}).dtype == np.float32


def test_a_network_of_normalised_inputs_equals_one_that_is_fed_them():
    rng = np.random.default_rng(2)
    m, s, x = rng.standard_normal(5), rng.uniform(0.5, 2.0, 5), rng.standard_normal((3, 5))
    bare = Network([Dense(5, 4), ReLU(), Dense(4, 2)], seed=1)
    net = Network([Normalise(m, s), *bare.layers], seed=1)
    net.set_parameters(
        {f"{int(n[0]) + 1}{n[1:]}": posterior for n, posterior in bare.parameters().items()}
    )
    fed = (x - m) / s
    for result, expected in (
        (net.propagate(x), bare.propagate(fed)),
        (covariance.propagate(net, x).marginal, covariance.propagate(bare, fed).marginal),
    ):
        np.testing.assert_array_equal(result.mean, expected.mean)
        np.testing.assert_array_equal(result.var, expected.var)
    a, b = (n.sample(v, 3, rng=np.random.default_rng(3)) for n, v in ((net, x), (bare, fed)))
    np.testing.assert_array_equal(a, b)
    assert net.input_shape == (5,)


def test_covariances_of_a_random_input_are_scaled():
    s = np.array([2.0, 0.5])
    net = Network([Normalise([1.0, 2.0], s), Dense(2, 1)], seed=0)
    cov = np.array([[[2.0, 0.7], [0.7, 1.0]]])
    x = covariance.JointMoments(np.array([[3.0, 4.0]]), cov)
    _, normalised, _ = covariance.propagate_layers(net, x)
    assert isinstance(normalised, covariance.JointMoments)
    np.testing.assert_array_equal(normalised.mean, [[1.0, 4.0]])
    np.testing.assert_allclose(normalised.cov, [[[0.5, 0.7], [0.7, 4.0]]], rtol=4e-16)


def test_known_inputs_stay_known_to_the_first_layer_with_weights():
    net = Network([Normalise(0.5, 2.0), Flatten(), Dense(4, 2)], input_shape=(1, 2, 2))
    x = np.arange(8.0).reshape(2, 1, 2, 2)
    own = net.by_layer(net.parameters())[2]
    expected = Dense(4, 2).moments(((x - 0.5) / 2.0).reshape(2, 4), own)
    np.testing.assert_array_equal(net.propagate(x).var, expected.var)


@pytest.mark.parametrize(
    ("mean", "sd", "message"),
    [
        (0.0, 0.0, "the least sd is 0.0; expected numbers above 0"),
        ([0.0, 1.0], [1.0, -1.0], "the least sd is -1.0"),
        (0.0, 1e-200, "the least sd is 1e-200"),
        ([0.0, 1.0], 1.0, r"mean has shape \(2,\) and sd \(\)"),
        (np.nan, 1.0, "mean holds NaN or infinity"),
        ([[1.0]], [[1.0]], r"mean has shape \(1, 1\)"),
        ([], [], r"mean has shape \(0,\)"),
        ("a", 1.0, "mean is of type <U1; expected real numbers"),
    ],
)
def test_what_is_refused(mean, sd, message):
    with pytest.raises(InputError, match=message):
        Normalise(mean, sd)


def test_channels_that_do_not_fit_are_refused():
    layer = Normalise([0.0, 1.0, 2.0], [1.0, 1.0, 1.0])
    for shape in ((28, 28, 3), (2,), (3, 4)):
        with pytest.raises(InputError, match=r"expected \(3, height, width\) or \(3,\)"):
            Network([layer, Flatten()], input_shape=shape)
