import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate

from refbnn import InputError, Moments, Posterior
from refbnn.layers import Conv2d, Dense
from refbnn.layers.images import conv2d, conv2d_loops
from tests.helpers.derivatives import complex_step

FORMS = [conv2d, conv2d_loops]

# Layer and image: strides 1 to 3, paddings 0 to 2, unequal pairs, groups, images of one pixel,
# kernels as large as the image or than the padded image alone, strides that leave edge pixels out.
CASES = [
    (Conv2d(1, 1, 1), (1, 1)),
    (Conv2d(2, 3, 3), (5, 4)),
    (Conv2d(2, 3, (4, 5)), (4, 5)),
    (Conv2d(3, 2, 3, padding=1), (1, 1)),
    (Conv2d(1, 2, 5, padding=2), (3, 6)),
    (Conv2d(2, 2, 3, stride=2), (6, 8)),
    (Conv2d(2, 3, 2, stride=3, padding=1), (7, 5)),
    (Conv2d(2, 2, 1, stride=3), (5, 6)),
    (Conv2d(3, 2, (3, 2), stride=(2, 3), padding=(0, 2)), (6, 7)),
    (Conv2d(1, 2, (1, 4), stride=(3, 1), padding=(2, 0)), (2, 5)),
    (Conv2d(4, 6, 3, padding=1, groups=2), (4, 3)),
    (Conv2d(3, 6, (2, 3), stride=(1, 2), padding=(1, 1), groups=3), (3, 5)),
    (Conv2d(3, 3, 3, stride=2, padding=2, groups=3), (4, 4)),
    (Conv2d(1, 1, 2, padding=4), (1, 2)),  # windows of nothing but padding
]
NAMES = [f"{layer} of {image}" for layer, image in CASES]
every_case = pytest.mark.parametrize(("layer", "image"), CASES, ids=NAMES)
every_form = pytest.mark.parametrize("form", FORMS, ids=["numpy", "loops"])


def some_arrays(layer, image, batch=2, samples=(), seed=0):
    """Normal numbers in the shapes of x, weight, bias and ∂L/∂y."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((*samples, batch, layer.in_channels, *image))
    weight, bias = (
        rng.standard_normal((*samples, *shape)) for shape in layer.parameter_shapes().values()
    )
    grad_y = rng.standard_normal((*samples, batch, *layer.output_shape(x.shape[-3:])))
    return x, weight, bias, grad_y


def steps(layer):
    return layer.stride, layer.padding, layer.groups


def terms(layer, image):
    """Every (o, i, j, c, h, w, channel of the kernel, k, l) with the pixel inside the image."""
    per_group = layer.in_channels // layer.groups
    n_out, rows, columns = layer.output_shape((layer.in_channels, *image))
    for o, i, j in itertools.product(range(n_out), range(rows), range(columns)):
        for c, k, m in itertools.product(range(per_group), *map(range, layer.kernel_size)):
            h = layer.stride[0] * i + k - layer.padding[0]
            w = layer.stride[1] * j + m - layer.padding[1]
            if 0 <= h < image[0] and 0 <= w < image[1]:
                group = o // (n_out // layer.groups)
                yield o, i, j, group * per_group + c, h, w, c, k, m


@every_form
@every_case
def test_forward_is_the_written_sum(layer, image, form):
    x, weight, bias, grad_y = some_arrays(layer, image)
    expected = np.empty(grad_y.shape)
    expected[:] = bias[:, np.newaxis, np.newaxis]
    for o, i, j, c, h, w, *place in terms(layer, image):
        expected[:, o, i, j] += weight[(o, *place)] * x[:, c, h, w]
    # At most 4·9 + 1 numbers of order 1 are summed: rounding below 1e-14.
    got = form.forward(x, weight, bias, *steps(layer))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13)


@every_form
def test_forward_is_that_of_scipy(form):
    layer = Conv2d(3, 4, (3, 5), stride=(2, 1), padding=(1, 2))
    x, weight, bias, _ = some_arrays(layer, (9, 8))
    got = form.forward(x, weight, bias, *steps(layer))
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (2, 2)])
    for n, o in np.ndindex(2, 4):
        expected = correlate(padded[n], weight[o], mode="valid")[0, ::2, ::1] + bias[o]
        np.testing.assert_allclose(got[n, o], expected, rtol=0, atol=1e-13)


@every_form
@every_case
def test_backward_matches_complex_step(layer, image, form):
    x, weight, bias, g = some_arrays(layer, image)
    sizes = steps(layer)
    grad_x = form.grad_input(weight, g, image, *sizes)
    grad_weight, grad_bias = form.grad_weights(x, g, layer.kernel_size, *sizes)

    def loss(x, weight, bias):
        return (g * conv2d.forward(x, weight, bias, *sizes)).sum()

    # Sums of at most 2·12·12 products of order 1: rounding below 1e-13.
    for got, expected in (
        (grad_x, complex_step(lambda v: loss(v, weight, bias), x)),
        (grad_weight, complex_step(lambda v: loss(x, v, bias), weight)),
        (grad_bias, complex_step(lambda v: loss(x, weight, v), bias)),
    ):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_both_forms_agree_for_any_sizes(data):
    few = st.integers(1, 3)
    pairs = st.tuples(few, few)
    kernel, stride = data.draw(pairs), data.draw(pairs)
    padding = data.draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    image = tuple(
        data.draw(st.integers(max(1, k - 2 * p), 9)) for k, p in zip(kernel, padding, strict=True)
    )
    groups = data.draw(few)
    layer = Conv2d(
        groups * data.draw(few), groups * data.draw(few), kernel, stride, padding, groups
    )
    batch = data.draw(st.integers(0, 3))
    samples = data.draw(st.sampled_from([(), (1,), (2,), (2, 3)]))
    x, weight, bias, g = some_arrays(layer, image, batch, samples)
    if data.draw(st.booleans()):
        x = some_arrays(layer, image, batch)[0]
    if data.draw(st.booleans()):
        weight = some_arrays(layer, image, batch)[1]
    sizes = steps(layer)
    for one, other in zip(
        (
            conv2d.forward(x, weight, bias, *sizes),
            conv2d.grad_input(weight, g, image, *sizes),
            *conv2d.grad_weights(x, g, kernel, *sizes),
        ),
        (
            conv2d_loops.forward(x, weight, bias, *sizes),
            conv2d_loops.grad_input(weight, g, image, *sizes),
            *conv2d_loops.grad_weights(x, g, kernel, *sizes),
        ),
        strict=True,
    ):
        # Sums of at most 3·13² products of order 1.
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12, strict=True)


@pytest.mark.parametrize("sampled", [("x",), ("weight", "bias"), ("bias",), ("x", "weight")])
def test_leading_sample_axes_broadcast(sampled):
    layer, image = Conv2d(2, 4, 3, stride=2, padding=1, groups=2), (5, 4)
    *arrays, g = some_arrays(layer, image, samples=(3,))
    x, weight, bias = (
        array if name in sampled else array[0]
        for name, array in zip(("x", "weight", "bias"), arrays, strict=True)
    )
    y = layer.forward(x, {"weight": weight, "bias": bias})
    grad_x, grads = layer.backward(x, {"weight": weight, "bias": bias}, g)
    assert grad_x is not None
    for s in range(3):
        own_x = x[s] if "x" in sampled else x
        own = {
            "weight": weight[s] if "weight" in sampled else weight,
            "bias": bias[s] if "bias" in sampled else bias,
        }
        np.testing.assert_array_equal(y[s], layer.forward(own_x, own))
        grad_x_s, grads_s = layer.backward(own_x, own, g[s])
        assert grad_x_s is not None
        np.testing.assert_array_equal(grad_x[s], grad_x_s)
        for name in grads:
            np.testing.assert_array_equal(grads[name][s], grads_s[name])


def test_a_kernel_as_large_as_the_image_is_a_dense_layer():
    layer, dense = Conv2d(3, 5, (4, 6)), Dense(3 * 4 * 6, 5)
    x, weight, bias, g = some_arrays(layer, (4, 6))
    flat, matrix = x.reshape(2, -1), {"weight": weight.reshape(5, -1), "bias": bias}
    y = layer.forward(x, {"weight": weight, "bias": bias})
    grad_x, grads = layer.backward(x, {"weight": weight, "bias": bias}, g)
    flat_grad_x, flat_grads = dense.backward(flat, matrix, g.reshape(2, 5))
    # Two orders of summing 72 products of order 1.
    for one, other in (
        (y, dense.forward(flat, matrix)),
        (grad_x, flat_grad_x),
        *((grads[name], flat_grads[name]) for name in grads),
    ):
        assert one is not None
        assert other is not None
        np.testing.assert_allclose(one.reshape(other.shape), other, rtol=0, atol=1e-13)


def test_float32_stays_and_is_accurate():
    layer, image = Conv2d(6, 16, 5), (14, 14)
    wide = some_arrays(layer, image)
    x, weight, bias, g = (array.astype(np.float32) for array in wide)
    grad_x, grads = layer.backward(x, {"weight": weight, "bias": bias}, g)
    got = [layer.forward(x, {"weight": weight, "bias": bias}), grad_x, *grads.values()]
    sizes = steps(layer)

    def exact(function, *arrays):
        return function(*(array.astype(float) for array in arrays), *sizes)

    def input_of(weight, g, *sizes):
        return conv2d.grad_input(weight, g, image, *sizes)

    def weights_of(x, g, *sizes):
        return conv2d.grad_weights(x, g, (5, 5), *sizes)

    expected = [exact(conv2d.forward, x, weight, bias), exact(input_of, weight, g)]
    expected += exact(weights_of, x, g)
    sizes_of_sums = [151, 400, 200, 200]
    magnitudes = [exact(conv2d.forward, abs(x), abs(weight), abs(bias))]
    magnitudes += [exact(input_of, abs(weight), abs(g)), *exact(weights_of, abs(x), abs(g))]
    # A sum of n products, in any order, is off by at most n u Σ|products|, u = 2⁻²⁴.
    for one, other, n, magnitude in zip(got, expected, sizes_of_sums, magnitudes, strict=True):
        assert one is not None
        assert one.dtype == np.float32
        assert (np.abs(one - other) <= 1.01 * n * 2.0**-24 * magnitude).all()


def test_read_only_and_strided_arrays_are_taken():
    layer = Conv2d(2, 3, 3)
    x, weight, bias, _ = some_arrays(layer, (5, 6))
    view = np.moveaxis(np.moveaxis(x, 1, 3).copy(), 3, 1)
    view.flags.writeable = False
    np.testing.assert_array_equal(
        layer.forward(view, {"weight": weight, "bias": bias}),
        layer.forward(x, {"weight": weight, "bias": bias}),
    )


def test_no_gradient_of_the_image_where_none_is_needed():
    layer = Conv2d(2, 3, 3)
    x, weight, bias, g = some_arrays(layer, (5, 6))
    assert layer.backward(x, {"weight": weight, "bias": bias}, g, need_grad_x=False)[0] is None


def some_posteriors(layer, seed=1):
    rng = np.random.default_rng(seed)
    return {
        name: Posterior(rng.standard_normal(shape), rng.uniform(0, 1, shape))
        for name, shape in layer.parameter_shapes().items()
    }


@every_case
def test_moments_are_the_written_sums(layer, image):
    rng = np.random.default_rng(2)
    posteriors = some_posteriors(layer)
    weight, bias = posteriors["weight"], posteriors["bias"]
    m = rng.standard_normal((2, layer.in_channels, *image))
    v = rng.uniform(0, 1, m.shape)
    for x, var in ((Moments(m, v), v), (m, np.zeros_like(v))):
        got = layer.moments(x, posteriors)
        mean, variance = np.empty(got.shape), np.empty(got.shape)
        mean[:] = bias.mean[:, np.newaxis, np.newaxis]
        variance[:] = bias.scale[:, np.newaxis, np.newaxis] ** 2
        for o, i, j, c, h, w, *place in terms(layer, image):
            mu, sigma = weight.mean[(o, *place)], weight.scale[(o, *place)]
            mean[:, o, i, j] += mu * m[:, c, h, w]
            variance[:, o, i, j] += (
                mu**2 * var[:, c, h, w] + sigma**2 * var[:, c, h, w] + sigma**2 * m[:, c, h, w] ** 2
            )
        np.testing.assert_allclose(got.mean, mean, rtol=0, atol=1e-13)
        np.testing.assert_allclose(got.var, variance, rtol=1e-13)


def test_moments_are_those_of_every_outcome():
    """Two pixels, two weights and a bias, of two values each: all 32 outcomes listed."""
    weight = Posterior(np.array([[[[0.7, -1.2]]]]), np.array([[[[0.3, 0.5]]]]))
    bias = Posterior(np.array([0.2]), np.array([0.8]))
    m, s = np.array([[[[1.5, -0.4]]]]), np.array([[[[0.6, 0.9]]]])
    layer = Conv2d(1, 1, (1, 2), padding=(0, 1))
    outcomes = []
    for signs in itertools.product([-1, 1], repeat=5):
        w0, w1 = (weight.mean + weight.scale * np.array(signs[:2])).ravel()
        x0, x1 = (m + s * np.array(signs[2:4])).ravel()
        b = bias.mean[0] + bias.scale[0] * signs[4]
        outcomes.append([w1 * x0 + b, w0 * x0 + w1 * x1 + b, w0 * x1 + b])
    got = layer.moments(Moments(m, s**2), {"weight": weight, "bias": bias})
    np.testing.assert_allclose(got.mean.ravel(), np.mean(outcomes, axis=0), rtol=1e-14)
    np.testing.assert_allclose(got.var.ravel(), np.var(outcomes, axis=0), rtol=1e-14)


def test_variance_survives_where_second_moments_cancel():
    """Input 1e8 with variance 1e-4 through a known weight: var' = v µ², to rounding."""
    x = Moments(np.full((1, 1, 1, 1), 1e8), np.full((1, 1, 1, 1), 1e-4))
    known = {
        "weight": Posterior(np.full((1, 1, 1, 1), 3.0), np.zeros((1, 1, 1, 1))),
        "bias": Posterior(*np.zeros((2, 1))),
    }
    assert Conv2d(1, 1, 1).moments(x, known).var.item() == pytest.approx(9e-4, rel=1e-15)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0, 1, 3), "Conv2d.*at least 1"),
        ((1, 0, 3), "Conv2d.*at least 1"),
        ((1, 1, 0), "Conv2d: kernel_size is 0; expected .* at least 1"),
        ((1, 1, (3, -1)), "Conv2d: kernel_size"),
        ((1, 1, (3, 3, 3)), "Conv2d: kernel_size"),
        ((1, 1, 2.5), "Conv2d: kernel_size is 2.5; expected a whole number"),
        ((1, 1, 3, 0), "Conv2d: stride is 0; expected .* at least 1"),
        ((1, 1, 3, 1, -1), "Conv2d: padding is -1; expected .* at least 0"),
        ((2, 2, 3, 1, 0, 0), "Conv2d: groups is 0; expected .* at least 1"),
        ((3, 4, 3, 1, 0, 2), "Conv2d.*multiples of groups"),
        ((4, 3, 3, 1, 0, 2), "Conv2d.*multiples of groups"),
    ],
)
def test_bad_sizes_are_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        Conv2d(*arguments)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((2, 4, 9), "image of 4 × 9; expected at least 5 × 3"),
        ((2, 9, 2), "image of 9 × 2; expected at least 5 × 3"),
        ((3, 9, 9), "image has 3 channels; expected 2"),
        ((9, 9), r"input has shape \(9, 9\); expected \(channels, height, width\)"),
        ((1, 2, 9, 9), "input has shape"),
    ],
)
def test_images_that_do_not_fit_are_refused(shape, words):
    layer = Conv2d(2, 3, (5, 5), padding=(0, 1))
    with pytest.raises(InputError, match=rf"Conv2d\(2, 3, 5, padding=.*{words}"):
        layer.output_shape(shape)
    x = np.zeros((4, *shape[-3:]))
    if len(shape) == 3:
        weights = {name: np.zeros(own) for name, own in layer.parameter_shapes().items()}
        with pytest.raises(InputError, match=words):
            layer.forward(x, weights)


def test_a_gradient_that_does_not_fit_is_refused():
    layer = Conv2d(2, 3, 3)
    x, weight, bias, g = some_arrays(layer, (5, 6))
    with pytest.raises(InputError, match=r"gradient has shape \(3, 3, 3\); expected \(3, 3, 4\)"):
        layer.backward(x, {"weight": weight, "bias": bias}, g[..., 1:])


def test_weights_that_do_not_fit_are_refused():
    layer = Conv2d(2, 3, 3)
    x, weight, bias, _ = some_arrays(layer, (5, 6))
    for wrong in (weight[:, :1], weight[:2], weight[..., 1:]):
        with pytest.raises(InputError, match=r"weight has shape .*; expected \(3, 2, 3, 3\)"):
            layer.forward(x, {"weight": wrong, "bias": bias})


def test_one_number_stands_for_both_directions():
    layer = Conv2d(1, 2, 3, 2, 1)
    assert layer == Conv2d(1, 2, (3, 3), (2, 2), (1, 1))
    assert (layer.kernel_size, layer.stride, layer.padding) == ((3, 3), (2, 2), (1, 1))
    assert layer.output_shape((1, 28, 28)) == (2, 14, 14)
