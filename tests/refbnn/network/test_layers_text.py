import re

import pytest

from refbnn.errors import InputError
from refbnn.layers import (
    ELU,
    AvgPool2d,
    Conv2d,
    Dense,
    Flatten,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Residual,
    Tanh,
)
from refbnn.layers.activations import ACTIVATIONS
from refbnn.network.layers_text import NormFromFile, as_text, parse


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("dense 4 8, relu,dense 8 3", [Dense(4, 8), ReLU(), Dense(8, 3)]),
        ("conv 1 6 5", [Conv2d(1, 6, 5)]),
        ("conv 2 6 5x3 pad 2x1 stride 3 groups 2", [Conv2d(2, 6, (5, 3), 3, (2, 1), 2)]),
        ("maxpool 2", [MaxPool2d(2)]),
        ("maxpool 3 stride 2 pad 1", [MaxPool2d(3, 2, 1)]),
        ("maxpool 2 METHOD tree stride 1", [MaxPool2d(2, 1, method="tree")]),
        ("avgpool 3×2 stride 1", [AvgPool2d((3, 2), 1)]),
        ("Flatten\n TANH \n", [Flatten(), Tanh()]),
        ("leaky_relu, LeakyReLU 0.2, elu 2", [LeakyReLU(), LeakyReLU(0.2), ELU(2.0)]),
        ("batch_norm 6, batchnorm 6 eps 1e-3", [NormFromFile(6), NormFromFile(6, 1e-3)]),
        ("residual(dense 3 3, relu)", [Residual([Dense(3, 3), ReLU()])]),
        ("residual( residual(relu),tanh )", [Residual([Residual([ReLU()]), Tanh()])]),
    ],
)
def test_text_is_read_and_written(text, layers):
    assert parse(text) == layers
    assert parse(as_text(layers)) == layers


def test_every_activation_has_a_word():
    for layer in ACTIVATIONS.values():
        word = layer.__module__.rpartition(".")[2]
        assert [type(found) for found in parse(f"{word}, {layer.__name__}")] == [layer, layer]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no layer; expected some of conv, dense"),
        (" , ", "no layer"),
        ("dense 4 8, rellu", r"item 2 'rellu': no layer 'rellu'; .*did you mean 'relu'\?"),
        ("conv 1 6", r"item 1 'conv 1 6': expected conv IN OUT K \[stride S\] \[pad P\]"),
        ("conv 1 6 5 2", "expected conv IN OUT K"),
        ("conv 1 6 5 stride", "expected conv IN OUT K"),
        ("conv 1 6 5 padding 2", "expected conv IN OUT K"),
        ("conv 1 6 5 pad 2 pad 2", "expected conv IN OUT K"),
        ("maxpool 2 method best", "item 1 .*expected one of: window"),
        ("conv 1 6 5 pad -1", "expected conv IN OUT K"),
        ("conv 1x1 6 5", "expected conv IN OUT K"),
        ("conv 1 6 5x5x5", "expected conv IN OUT K"),
        ("conv 3 4 3 groups 2", "multiples of groups"),
        ("maxpool 2 pad 2", "at most half the kernel size"),
        ("dense 4", "expected dense IN OUT"),
        ("dense 4 eight", "expected dense IN OUT"),
        ("dense 4 8.0", "expected dense IN OUT"),
        ("dense 0 8", "whole number of at least 1"),
        ("dense 4 99999999999", "expected dense IN OUT"),
        ("dense 4 ²", "expected dense IN OUT"),
        ("relu 3", "expected relu"),
        ("leaky_relu x", r"expected leaky_relu \[SLOPE\]"),
        ("leaky_relu 1 2", r"expected leaky_relu \[SLOPE\]"),
        ("leaky_relu nan", "slope is nan; expected a finite number"),
        ("batch_norm 6 eps small", r"expected batch_norm C \[eps E\]"),
        ("residual", r"expected residual\(LAYER, ...\)"),
        ("residual()", "no layer"),
        ("residual(relu", "brackets do not match"),
        ("relu)", "brackets do not match"),
        ("residual(relu) 3", r"expected residual\(LAYER"),
        ("relu(2)", r"no layer 'relu\(2\)'"),
        ("softmax", "leave it out"),
        ("dropout 0.5", "leave it out"),
        ("conv_transpose 1 6 5", "'conv_transpose'; there is no such layer here$"),
        ("linear 4 8", "write 'dense IN OUT'"),
        ("normalize 0 1", "--normalise"),
        ("residual(" * 30 + "relu" + ")" * 30, "at most 20 residual blocks"),
        ("x" * 500, "no layer"),
        ("relu," * 300_000, "at most 1000000"),
    ],
)
def test_what_is_no_layer_is_named_in_one_short_line(text, said):
    with pytest.raises(InputError) as caught:
        parse(text)
    message = str(caught.value)
    assert re.search(said, message)
    assert message.startswith("layers")
    assert "\n" not in message
    assert len(message) < 400
