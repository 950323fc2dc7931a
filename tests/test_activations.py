import mpmath as mp
import numpy as np
import pytest

from refbnn import InputError
from refbnn.layers import ELU, GELU, LeakyReLU, Sigmoid, Tanh

LAYERS = [LeakyReLU(), LeakyReLU(-0.5), Sigmoid(), Tanh(), GELU(), ELU(), ELU(1.7)]


def exact(layer, x):
    """y for an mpmath number x, by the definitions."""
    match layer:
        case LeakyReLU(slope=slope):
            return x if x > 0 else mp.mpf(slope) * x
        case Sigmoid():
            return 1 / (1 + mp.exp(-x))
        case Tanh():
            return mp.tanh(x)
        case GELU():
            return x * mp.erfc(-x / mp.sqrt(2)) / 2
        case ELU(alpha=alpha):
            return x if x > 0 else mp.mpf(alpha) * mp.expm1(x)


POINTS = np.concatenate([np.linspace(-30, 30, 61), [-100.0, -1e-3, 1e-3, 100.0]])
POINTS = POINTS[POINTS != 0]  # kinks


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_forward_and_backward_against_mpmath(layer):
    """Relative errors: rounding, times x² where Φ(x) and φ(x) fall as e^{−x²/2}; sums of a few."""
    y = layer.forward(POINTS, {})
    grad_x = layer.backward(POINTS, {}, np.full(POINTS.shape, 2.0))[0]
    for x, got, got_grad in zip(POINTS, y, grad_x, strict=True):
        with mp.workdps(120):
            want = exact(layer, mp.mpf(x))
            want_grad = 2 * mp.diff(lambda t: exact(layer, t), mp.mpf(x), h=mp.mpf(10) ** -40)
        # Below 1e-300 a double holds fewer digits.
        assert got == pytest.approx(float(want), rel=2e-13, abs=1e-300)
        assert got_grad == pytest.approx(float(want_grad), rel=2e-13, abs=1e-300)


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_float32_is_kept_and_nothing_warns(layer):
    x = np.array([-3e38, -1e20, -100, -1, -1e-40, 0, 1e-40, 1, 100, 1e20, 3e38], np.float32)
    y = layer.forward(x, {})
    grad_x = layer.backward(x, {}, np.ones_like(x))[0]
    assert y.dtype == grad_x.dtype == np.float32
    assert np.isfinite(y).all()
    assert np.isfinite(grad_x).all()
    # Two roundings to 24 bits and one of the function.
    np.testing.assert_allclose(y, layer.forward(x.astype(float), {}), rtol=3e-7, atol=1e-37)
    want = layer.backward(x.astype(float), {}, np.ones(x.shape))[0]
    np.testing.assert_allclose(grad_x, want, rtol=1e-6, atol=1e-37)
    assert np.isnan(layer.forward(np.array([np.nan], np.float32), {})).all()


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_shapes_and_sample_axes(layer):
    rng = np.random.default_rng(0)
    assert layer.parameter_shapes() == {}
    assert layer.output_shape((3, 4, 5)) == (3, 4, 5)
    x, g = rng.standard_normal((3, 4)), rng.standard_normal((6, 3, 4))
    got = layer.backward(x, {}, g)[0]
    for s in range(6):
        np.testing.assert_array_equal(got[s], layer.backward(x, {}, g[s])[0])


def test_at_the_kink_the_left_derivative_counts():
    zero, one = np.zeros(1), np.ones(1)
    assert LeakyReLU(0.25).backward(zero, {}, one)[0] == 0.25
    assert ELU(1.7).backward(zero, {}, one)[0] == 1.7


@pytest.mark.parametrize("layer", [LeakyReLU, ELU])
def test_bad_fields_are_refused(layer):
    for bad in (np.nan, np.inf):
        with pytest.raises(InputError, match="finite"):
            layer(bad)


def test_numpy_fields_do_not_widen():
    x = np.ones(2, np.float32)
    assert LeakyReLU(np.float64(0.1)).forward(-x, {}).dtype == np.float32
    assert ELU(np.float64(0.1)).forward(-x, {}).dtype == np.float32
