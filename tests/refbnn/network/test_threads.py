"""The reference in several threads: one network, and laws whose tables are built at first use."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from refbnn import predict
from refbnn.layers import Conv2d, Dense, Flatten, Layer, MaxPool2d, ReLU, Tanh
from refbnn.network.network import Network
from refbnn.noise import Bimodal, DeviceLaw, HeavyTailed

N_THREADS = 4
LAYERS: list[Layer] = [
    Conv2d(1, 3, 3),
    ReLU(),
    MaxPool2d(2),
    Flatten(),
    Dense(27, 8),
    Tanh(),
    Dense(8, 3),
]


def at_once(work):
    """Results of work(index) in all threads, which begin together."""
    start = threading.Barrier(N_THREADS)

    def begin(index):
        start.wait()
        return work(index)

    with ThreadPoolExecutor(N_THREADS) as pool:
        return list(pool.map(begin, range(N_THREADS)))


@pytest.mark.parametrize(
    "law", [lambda: Bimodal(), lambda: DeviceLaw(-0.5, -0.7), lambda: HeavyTailed(0.7, 0.2)]
)
def test_a_network_in_threads(law):
    net = Network(LAYERS, input_shape=(1, 8, 8), seed=0)
    x = np.random.default_rng(0).random((N_THREADS, 5, 1, 8, 8))

    def work(net):
        def results(index):
            moments = net.propagate(x[index])
            svi = predict(net, x[index], method="svi", n_samples=3, seed=index)
            by_seed = net.sample(x[index], 2, seed=index)
            return moments.mean, moments.var, svi.entropy, predict(net, x[index]).entropy, by_seed

        return results

    alone = [work(net.with_noise(law()))(index) for index in range(N_THREADS)]
    for _ in range(3):  # each time a law whose tables no thread has built
        for got, expected in zip(at_once(work(net.with_noise(law()))), alone, strict=True):
            for one, other in zip(got, expected, strict=True):
                np.testing.assert_array_equal(one, other)
