"""Networks that would take absurd memory for one input are refused before any is asked for."""

import numpy as np
import pytest

from refbnn import load, save
from refbnn.errors import InputError
from refbnn.layers import AvgPool2d, Conv2d, Dense, Flatten, Layer, MaxPool2d, ReLU, Residual
from refbnn.network.memory import MOST_ENTRIES, largest_array, require_moderate
from refbnn.network.network import Network

SMALL = (1, 3, 3)
CASES: list[tuple[list[Layer], tuple[int, ...] | None, str]] = [
    ([Conv2d(1, 1, 1, padding=9000)], SMALL, "layer 0"),
    ([Conv2d(1, 1, 1, padding=20000, stride=40001)], SMALL, "layer 0"),  # a single output
    ([Conv2d(1, 1, 1, padding=9000)], None, "layer 0"),
    ([Residual([Conv2d(1, 1, 1, padding=9000), AvgPool2d(18001, 1)])], SMALL, "layer 0, layer 0"),
    ([MaxPool2d(500, 1)], (1, 1000, 1000), "layer 0"),  # its windows
    ([AvgPool2d(2)], (1, 10_000, 10_000), "layer 0"),  # the input itself
]


@pytest.mark.parametrize(("layers", "shape", "name"), CASES)
def test_an_absurd_array_is_refused(layers, shape, name):
    net = Network(layers, input_shape=shape)
    with pytest.raises(InputError, match=rf"^{name}: an array of \d+ entries for one input; exp"):
        require_moderate(net.layers, net.input_shape)


def test_the_largest_array_is_counted():
    assert largest_array([Conv2d(1, 2, 3, padding=1)], (1, 8, 8)) == 128
    assert largest_array([MaxPool2d(3, 1)], (1, 8, 8)) == 6 * 6 * 9**2  # and covariances
    assert largest_array([MaxPool2d(3, 1, method="tree")], (1, 8, 8)) == 6 * 6 * 9


FLOODS: dict[str, tuple[list[Layer], str]] = {
    # 14 by 14 at the end of the block, as at its start.
    "inside a block": (
        [Residual((Conv2d(1, 1, 1, padding=2500), AvgPool2d(358, 358)))],
        "layer 0, layer 0: an array of",
    ),
    "padding alone": ([MaxPool2d(10_000, 1, 5000)], "layer 0: an array of"),
    "many channels": ([Conv2d(1, 30_000, 1), ReLU()], "layer 0: an array of"),
    "windows": ([Conv2d(1, 1, 100, padding=200)], "layer 0: an array of"),
}


@pytest.mark.parametrize("known", [True, False], ids=["shape in the file", "shape of the data"])
@pytest.mark.parametrize("case", FLOODS)
def test_floods_are_refused_before_memory_is_asked_for(case, known, tmp_path):
    layers, message = FLOODS[case]
    shape = (1, 28, 28) if case == "many channels" else (1, 14, 14)
    net = Network(layers, input_shape=shape if known else None)
    save(tmp_path / "net.npz", net)
    with pytest.raises(InputError, match=message):
        load(tmp_path / "net.npz").shaped(np.zeros((1, *shape)))


def test_large_activations_are_computed_for_fewer_inputs_at_a_time():
    """The inputs of one block together make no array of more than the largest allowed one."""
    layers: list[Layer] = [Conv2d(1, 4, 1, padding=400), AvgPool2d(814), Flatten(), Dense(4, 2)]
    net = Network(layers, seed=0, input_shape=(1, 14, 14))
    entries = largest_array(layers, (1, 14, 14))
    assert entries == 4 * 814**2
    blocks = net._blocks(20, (1, 14, 14))
    assert [rows.stop - rows.start for rows in blocks[:-1]] == [MOST_ENTRIES // entries] * 3
    assert [row for rows in blocks for row in range(20)[rows]] == list(range(20))
    small = Network([Dense(3, 2)])
    assert small._blocks(600, (3,)) == [slice(0, 500), slice(500, 1000)]
