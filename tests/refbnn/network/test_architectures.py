import numpy as np
import pytest

from refbnn import InputError, Network
from refbnn.layers import Conv2d, Dense, MaxPool2d, ReLU
from refbnn.layers.layer import Shape
from refbnn.network.architectures import ARCHITECTURES, architecture_named

# By hand: inputs × outputs + biases of each layer, of 10 outputs.
WEIGHTS = {
    "mlp": 784 * 100 + 100 + 100 * 100 + 100 + 100 * 10 + 10,
    "lenet5": 61_706,  # LeCun's network with a full second convolution, as PyTorch counts it
    "vgg7": (
        (1 * 32 * 9 + 32)
        + (32 * 32 * 9 + 32)
        + (32 * 64 * 9 + 64)
        + (64 * 64 * 9 + 64)
        + (64 * 128 * 9 + 128)
        + (128 * 128 * 9 + 128)
        + (1152 * 10 + 10)
    ),
    "narrow12": 784 * 16 + 16 + 10 * (16 * 16 + 16) + 16 * 10 + 10,
}
WITH_WEIGHTS = {"mlp": 3, "lenet5": 5, "vgg7": 7, "narrow12": 12}


def test_every_architecture_is_tested():
    assert set(ARCHITECTURES) == set(WEIGHTS)


@pytest.mark.parametrize("name", WEIGHTS)
def test_sizes_and_shapes(name):
    chosen = architecture_named(name)
    net = Network(chosen.layers(10), input_shape=chosen.input_shape(), seed=0)
    assert net.layout.size == WEIGHTS[name]
    deep = [layer for layer in net.layers if isinstance(layer, Dense | Conv2d)]
    assert len(deep) == WITH_WEIGHTS[name]
    x = np.random.default_rng(0).random((2, *chosen.input_shape()))
    outputs = net.sample(x, 2, np.random.default_rng(1))
    assert outputs.shape == (2, 2, 10)
    assert np.isfinite(outputs).all()
    assert net.check_input(chosen.input_shape()) == (10,)
    assert Network(chosen.layers(3)).check_input(chosen.input_shape()) == (3,)


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_rectifier_follows_every_layer_but_the_last(name):
    """Pooling and flattening apart, which keep signs."""
    layers = [
        layer
        for layer in architecture_named(name).layers(10)
        if isinstance(layer, Dense | Conv2d | ReLU)
    ]
    kinds = [isinstance(layer, ReLU) for layer in layers]
    assert kinds == [False, True] * (WITH_WEIGHTS[name] - 1) + [False]


@pytest.mark.parametrize("name", ["lenet5", "vgg7"])
def test_pooling_before_relu_or_after_it_is_the_same_network(name):
    """But for moments: of weights that a file has in the other order, too."""
    chosen = architecture_named(name)
    net = Network(chosen.layers(10), input_shape=chosen.input_shape(), seed=0)
    layers = list(net.layers)
    for i, layer in enumerate(net.layers):
        if isinstance(layer, MaxPool2d):
            assert isinstance(layers[i + 1], ReLU)
            layers[i : i + 2] = layers[i + 1], layer
    other = Network(layers, input_shape=chosen.input_shape(), seed=1)
    other.set_parameters(net.parameters())
    x = np.random.default_rng(0).random((2, *chosen.input_shape()))
    first, second = (n.sample(x, 2, np.random.default_rng(1)) for n in (net, other))
    np.testing.assert_array_equal(first, second)


def test_images_shrink_as_said():
    net = Network(architecture_named("vgg7").layers(10))
    shape: Shape = (1, 28, 28)
    pooled = []
    for layer in net.layers:
        shape = layer.output_shape(shape)
        if isinstance(layer, MaxPool2d):
            pooled.append(shape)
    assert pooled == [(32, 14, 14), (64, 7, 7), (128, 3, 3)]


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match="architecture 'resnet'; expected one of mlp, lenet5"):
        architecture_named("resnet")
