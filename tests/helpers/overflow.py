"""A network whose hidden numbers overflow float32, and whose outputs would not tell."""

import numpy as np

from refbnn.layers import Dense
from refbnn.layers.posterior import Posterior
from refbnn.network.network import Network

# One input is well; the others overflow in a mean, either way, or in a variance.
WELL, BAD = [1.0, 1.0], [[100.0, 0.0], [-100.0, 0.0], [0.0, 100.0]]


def overflowing(*inner):
    """Input 0 times a mean of 1e38, input 1 times a scale of 1e18; then layers, then small ones."""
    net = Network([Dense(2, 2), *inner, Dense(2, 2)])
    p = net.parameters()
    none, last = np.zeros((2, 2)), f"{len(inner) + 1}.weight"
    changed = {
        "0.weight": Posterior(np.tile([1e38, 0.0], (2, 1)), np.tile([0.0, 1e18], (2, 1))),
        "0.bias": Posterior(none[0], none[0]),
        last: Posterior(1e-30 * p[last].mean, none),
    }
    net.set_parameters(p | changed)
    return net
