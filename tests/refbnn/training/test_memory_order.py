"""Arrays that are not in C order: what is updated entry by entry must not be a copy."""

import math

import numpy as np
import pytest

from refbnn import Network, train
from refbnn.layers import Dense
from refbnn.numerics.softplus import softplus_and_slope
from refbnn.training.optimise import Adam

ROWS = np.linspace(-3.0, 3.0, 12)
ORDERS = {
    "C": ROWS.reshape(3, 4),
    "Fortran": np.asfortranarray(ROWS.reshape(3, 4)),
    "transposed": ROWS.reshape(4, 3).T,
    "every other": np.repeat(ROWS, 2).reshape(3, 8)[:, ::2],
    "backwards": ROWS[::-1],
    "no axis": np.array(0.7),
    "empty": np.empty((0, 3)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ORDERS)
def test_softplus_in_any_order(name, dtype):
    rho = ORDERS[name].astype(dtype, copy=False)
    scale, slope = softplus_and_slope(rho)
    expected = [math.log1p(math.exp(r)) for r in rho.flat]
    slopes = [1.0 / (1.0 + math.exp(-r)) for r in rho.flat]
    few_roundings = 8 * np.finfo(dtype).eps
    for got, wanted in ((scale, expected), (slope, slopes)):
        assert got.shape == rho.shape
        assert got.dtype == dtype
        np.testing.assert_allclose(got.flat, wanted, rtol=few_roundings)


@pytest.mark.parametrize("name", ORDERS)
def test_adam_moves_every_entry(name):
    """The first step is the learning rate long, against the sign of the gradient."""
    start = ORDERS[name].copy(order="K")
    adam = Adam({"p": start})
    grad = np.where(ORDERS[name] > 0, 2.0, -3.0)
    adam.step({"p": grad}, 0.1)
    # ε = 1e-8 beside |g| ≥ 2: 5e-9 of the step.
    np.testing.assert_allclose(
        adam.parameters["p"], ORDERS[name] - 0.1 * np.sign(grad), rtol=1e-8, atol=1e-8
    )


def test_a_correlation_in_fortran_order_is_trained():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 3)), rng.integers(0, 2, 20)
    trained = []
    for order in ("C", "F"):
        net = Network([Dense(3, 2)], correlated=[0], seed=0)
        net.correlation[0] = np.array(net.correlation[0], order=order)
        train(net, x, y, epochs=2, batch_size=5, dtype="float64")
        trained.append(net.correlation[0])
    assert np.tril(trained[0], -1).any()
    # The same numbers, summed by BLAS in another order.
    np.testing.assert_allclose(trained[1], trained[0], rtol=1e-9, atol=1e-12)
