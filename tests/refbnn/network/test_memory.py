"""Small files and networks that describe large activations."""

import numpy as np
import pytest

from refbnn import InputError, Network, load, save
from refbnn.layers import AvgPool2d, Conv2d, Dense, Flatten, Layer, MaxPool2d, ReLU, Residual
from refbnn.network.memory import MOST_ENTRIES, most_entries, require_moderate

FLOODS: dict[str, tuple[list[Layer], str]] = {
    # 14 by 14 at the end of the block, as at its start.
    "inside a block": (
        [Residual((Conv2d(1, 1, 1, padding=2500), AvgPool2d(358, 358)))],
        "layer 0: layer 0: padded input of shape .1, 5014, 5014.; expected at most",
    ),
    "padding alone": ([MaxPool2d(10_000, 1, 5000)], "layer 0: padded input of shape"),
    "a single output": ([Conv2d(1, 1, 1, stride=40001, padding=20000)], "layer 0: padded input"),
    "many channels": ([Conv2d(1, 30_000, 1), ReLU()], "layer 0: output of shape"),
    "windows": ([Conv2d(1, 1, 100, padding=200)], "layer 0: windows of shape"),
    "windows of a maximum": ([MaxPool2d(600, 1, 300)], "layer 0: windows of shape"),
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


def test_an_input_and_padding_without_a_shape():
    with pytest.raises(InputError, match=r"^input of shape \(1, 10000, 10000\); expected at most"):
        require_moderate([AvgPool2d(2)], (1, 10_000, 10_000))
    with pytest.raises(InputError, match=r"^layer 0: padded input of shape"):
        require_moderate([Conv2d(1, 1, 1, padding=9000)], None)


def test_large_activations_are_computed_for_fewer_inputs_at_a_time():
    """The inputs of one block together make no array of more than the largest allowed one."""
    layers: list[Layer] = [Conv2d(1, 4, 1, padding=400), AvgPool2d(814), Flatten(), Dense(4, 2)]
    net = Network(layers, seed=0, input_shape=(1, 14, 14))
    entries = most_entries(layers, (1, 14, 14))
    assert entries == 4 * 814**2
    blocks = net._blocks(20, (1, 14, 14))
    assert [rows.stop - rows.start for rows in blocks[:-1]] == [MOST_ENTRIES // entries] * 3
    assert [row for rows in blocks for row in range(20)[rows]] == list(range(20))
    small = Network([Dense(3, 2)])
    assert small._blocks(600, (3,)) == [slice(0, 500), slice(500, 1000)]
