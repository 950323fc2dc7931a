import numpy as np
import pytest

from refbnn import InputError
from refbnn.layers import MaxPool2d, max_pool2d

CASES = [
    # kernel, stride, padding, image
    ((2, 2), (2, 2), (0, 0), (6, 8)),
    ((2, 2), (2, 2), (0, 0), (7, 5)),  # a row and a column are left over
    ((3, 3), (2, 2), (1, 1), (7, 7)),  # overlapping, partly in the padding
    ((3, 2), (1, 3), (1, 0), (4, 9)),
    ((5, 4), (2, 1), (2, 2), (3, 2)),  # larger than the image
    ((1, 1), (2, 3), (0, 0), (5, 5)),
]


def written_out(x, kernel, stride, padding):
    """Value and place of every window's first maximum, by Python loops over one image."""
    height, width = x.shape
    found = []
    for top in range(-padding[0], height + padding[0] - kernel[0] + 1, stride[0]):
        for left in range(-padding[1], width + padding[1] - kernel[1] + 1, stride[1]):
            inside = [
                (r, c)
                for r in range(top, top + kernel[0])
                for c in range(left, left + kernel[1])
                if 0 <= r < height and 0 <= c < width
            ]
            place = max(inside, key=lambda at: x[at])  # the first of equals
            found.append((x[place], place))
    return found


def images(rng, shape, dtype=float):
    """Few values, so that many windows hold ties."""
    return rng.integers(-2, 3, shape).astype(dtype)


@pytest.mark.parametrize(("kernel", "stride", "padding", "image"), CASES)
def test_three_ways_agree_exactly(kernel, stride, padding, image):
    rng = np.random.default_rng(0)
    x = images(rng, (2, 3, *image))
    layer = MaxPool2d(kernel, stride, padding)
    y = layer.forward(x, {})
    assert y.shape == (2, *layer.output_shape(x.shape[1:]))
    g = images(rng, y.shape)  # whole numbers add up exactly in any order
    grad_x = layer.backward(x, {}, g)[0]
    np.testing.assert_array_equal(max_pool2d.forward(x, kernel, stride, padding), y)
    np.testing.assert_array_equal(max_pool2d.backward(x, g, kernel, stride, padding), grad_x)
    for n in range(2):
        for channel in range(3):
            found = written_out(x[n, channel], kernel, stride, padding)
            want = np.zeros(image)
            for (value, place), got, grad in zip(
                found, y[n, channel].ravel(), g[n, channel].ravel(), strict=True
            ):
                assert got == value
                want[place] += grad
            np.testing.assert_array_equal(grad_x[n, channel], want)


@pytest.mark.parametrize(("kernel", "stride", "padding", "image"), CASES)
def test_backward_matches_central_differences(kernel, stride, padding, image):
    """Distinct entries, 1 apart: a step of 0.25 changes no maximum, so differences are exact."""
    rng = np.random.default_rng(1)
    x = rng.permutation(np.arange(2.0 * np.prod(image))).reshape(1, 2, *image)
    layer = MaxPool2d(kernel, stride, padding)
    g = images(rng, layer.forward(x, {}).shape)
    grad_x = layer.backward(x, {}, g)[0]
    for index in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[index] = 0.25
        change = (g * (layer.forward(x + step, {}) - layer.forward(x - step, {}))).sum()
        assert grad_x[index] == change / 0.5


def test_infinite_entries_keep_their_place():
    """A window of nothing but −∞ still has a first entry."""
    x = np.full((1, 1, 3, 3), -np.inf)
    layer = MaxPool2d(3, 2, 1)
    y = layer.forward(x, {})
    np.testing.assert_array_equal(y, -np.inf)
    grad_x = layer.backward(x, {}, np.array([[[[1.0, 2.0], [3.0, 4.0]]]]))[0]
    np.testing.assert_array_equal(grad_x[0, 0], [[1, 2, 0], [3, 4, 0], [0, 0, 0]])
    want = max_pool2d.backward(x, np.ones((1, 1, 2, 2)), (2, 2), (1, 1), (0, 0))
    got = MaxPool2d(2, 1).backward(x, {}, np.ones((1, 1, 2, 2)))[0]
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("place", range(4))
def test_nan_is_let_through_and_takes_the_gradient(place):
    x = np.array([3.0, np.inf, -np.inf, 3.0])
    x[place] = np.nan
    x = x.reshape(1, 1, 2, 2)
    assert np.isnan(MaxPool2d(2).forward(x, {})).all()
    assert np.isnan(max_pool2d.forward(x, (2, 2), (2, 2), (0, 0))).all()
    g = np.full((1, 1, 1, 1), 5.0)
    want = np.where(np.isnan(x), 5.0, 0.0)
    np.testing.assert_array_equal(MaxPool2d(2).backward(x, {}, g)[0], want)
    np.testing.assert_array_equal(max_pool2d.backward(x, g, (2, 2), (2, 2), (0, 0)), want)


def test_sample_axes_types_and_strides_of_arrays():
    rng = np.random.default_rng(2)
    x = images(rng, (4, 2, 3, 6, 6), np.float32)
    layer = MaxPool2d(3, 2, 1)
    y = layer.forward(x, {})
    g = images(rng, y.shape, np.float32)
    grad_x = layer.backward(x, {}, g)[0]
    assert y.dtype == grad_x.dtype == np.float32
    for s in range(4):
        np.testing.assert_array_equal(layer.forward(x[s], {}), y[s])
        np.testing.assert_array_equal(layer.backward(x[s], {}, g[s])[0], grad_x[s])
        # One input for all samples of what follows.
        shared = layer.backward(x[0], {}, g)[0]
        np.testing.assert_array_equal(layer.backward(x[0], {}, g[s])[0], shared[s])
    turned = np.swapaxes(x, -1, -2)  # not contiguous
    np.testing.assert_array_equal(layer.forward(turned, {}), np.swapaxes(y, -1, -2))


def test_sizes():
    assert MaxPool2d(2) == MaxPool2d((2, 2), (2, 2), (0, 0))
    assert MaxPool2d(3, 2, 1).output_shape((6, 28, 28)) == (6, 14, 14)
    assert MaxPool2d((2, 3), (1, 2)).output_shape((1, 5, 7)) == (1, 4, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0,), "kernel size 0"),
        (((2, 2, 2),), "one or two"),
        ((2.0,), "whole numbers"),
        ((True,), "whole numbers"),
        ((2, 0), "stride 0"),
        ((2, 1, -1), "padding -1"),
        ((3, 1, 2), "at most half"),
        (((2, 1), 1, (1, 1)), "at most half"),
    ],
)
def test_bad_sizes_are_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        MaxPool2d(*arguments)


@pytest.mark.parametrize("shape", [(3, 3), (1, 1, 3), (2, 1, 4, 4)])
def test_bad_inputs_are_refused(shape):
    with pytest.raises(InputError, match="input has shape"):
        MaxPool2d(2).output_shape(shape)
