"""A batch in several threads: the same bits, and the same refusals."""

import copy

import numpy as np
import pytest

from kernels import compile_network
from refbnn import Network
from refbnn.errors import InputError
from refbnn.layers import Dense, ReLU

NET = Network([Dense(20, 9), ReLU(), Dense(9, 4)], seed=3)
X = np.random.default_rng(0).standard_normal((7, 20)).astype(np.float32)


@pytest.fixture(scope="module")
def one():
    return compile_network(NET, 7)


@pytest.mark.parametrize("threads", [2, 3, 7])  # the last part shares rows with the one before it
def test_every_bit_stays(one, threads):
    split = compile_network(NET, 7, threads=threads)
    whole, parts = one(X), split(X)
    assert parts.mean.shape == (7, 4)
    assert np.array_equal(whole.mean, parts.mean)
    assert np.array_equal(whole.var, parts.var)


def test_predictions_covariances_and_copies(one):
    split = compile_network(NET, 7, threads=2)
    a, b = one.predict(X), copy.deepcopy(split).predict(X)
    for name in ("probabilities", "aleatoric", "entropy", "mutual_information", "labels"):
        assert np.array_equal(getattr(a, name), getattr(b, name))
    assert np.array_equal(a.logits.var, b.logits.var)
    joint = compile_network(NET, 7, method="linearised", threads=2)
    assert np.array_equal(joint(X).cov, compile_network(NET, 7, method="linearised")(X).cov)


def test_what_a_part_refuses_the_whole_refuses():
    split = compile_network(NET, 7, threads=2)
    for row in (0, 6):
        bad = X.copy()
        bad[row, 3] = np.nan
        with pytest.raises(InputError, match="x holds NaN"):
            split(bad)
        assert np.isfinite(split(X).mean).all()
    with pytest.raises(InputError, match=r"x has shape \(4, 20\); expected \(7, 20\)"):
        split(X[:4])
    with pytest.raises(InputError, match="expected a network of one thread"):
        split.instruction_count(X)


@pytest.mark.parametrize(
    ("threads", "message"),
    [(8, "threads is 8; expected at most batch_size, 7"), (0, "threads is 0"), (1.5, "threads")],
)
def test_wrong_numbers_of_threads(threads, message):
    with pytest.raises(InputError, match=message):
        compile_network(NET, 7, threads=threads)
