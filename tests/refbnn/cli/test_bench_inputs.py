"""Inputs of `refbnn bench`: real ones that stand for a data set, and random ones beside them."""

import numpy as np
import pytest

from refbnn import Network, cli, save
from refbnn.cli.bench.inputs import inputs
from refbnn.errors import InputError
from refbnn.layers import Dense


def of_zeros(path, n, shares):
    """Data whose example i has that share of zeros."""
    x = np.ones((len(shares), n), np.float32)
    for row, share in zip(x, shares, strict=True):
        row[: round(share * n)] = 0.0
    np.savez(path, x=x, y=np.zeros(len(x), int))
    return str(path)


def test_examples_lie_at_quantiles_of_their_zeros(tmp_path):
    shares = np.random.default_rng(0).permutation(np.arange(0, 100) / 100)
    data, net = of_zeros(tmp_path / "d.npz", 100, shares), Network([Dense(100, 2)], seed=0)
    one = inputs(net, data, (100,), 1)
    assert (one.x == 0.0).sum() == 50
    four = inputs(net, data, (100,), 4)
    assert sorted((four.x == 0.0).sum(axis=1)) == [12, 37, 62, 87]
    assert four.text.endswith("50 % zeros")
    assert four.random is not None
    assert four.random.shape == (4, 100)
    assert np.min(four.random) > 0.0


def test_digits_by_default_and_random_numbers_else():
    digits = inputs(Network([Dense(784, 2)], seed=0), None, (784,), 3)
    assert digits.text.startswith("mnist-subset, 8")  # four fifths of a digit are blank
    others = inputs(Network([Dense(7, 2)], seed=0), None, (7,), 3)
    assert (others.text, others.random, others.x.shape) == ("random numbers", None, (3, 7))


def test_data_that_do_not_do(tmp_path, capsys):
    data, net = of_zeros(tmp_path / "d.npz", 100, [0.5]), Network([Dense(100, 2)], seed=0)
    with pytest.raises(InputError, match="1 examples looked at; expected 2"):
        inputs(net, data, (100,), 2)
    with pytest.raises(InputError, match="100"):
        inputs(Network([Dense(7, 2)], seed=0), data, (7,), 1)
    model = tmp_path / "m.npz"
    save(model, net)
    assert cli.main(["bench", str(model), "--batch-size", "1", "--data", "nothing"]) == 2
    assert "nothing" in capsys.readouterr().err
