import numpy as np

from figures.support import local_linearisation
from refbnn import Network
from refbnn.layers import Dense, Tanh


def test_covariance_is_that_of_the_gradients():
    """Σ σ² ∂ℓ_k/∂w ∂ℓ_l/∂w, the gradients by finite differences of the network of the means."""
    net = Network([Dense(3, 4), Tanh(), Dense(4, 3), Tanh(), Dense(3, 2)], seed=0)
    x = np.random.default_rng(0).standard_normal((1, 3))
    means = {name: p.mean for name, p in net.parameters().items()}
    wanted, step = np.zeros((2, 2)), 1e-6
    for name, p in net.parameters().items():
        for index in np.ndindex(p.shape):
            ends = []
            for sign in (1, -1):
                moved = p.mean.copy()
                moved[index] += sign * step
                ends.append(net.forward(x, means | {name: moved})[0][0])
            gradient = (ends[0] - ends[1]) / (2 * step)
            wanted += p.var[index] * np.outer(gradient, gradient)
    joint = local_linearisation.propagate(net, x)
    np.testing.assert_allclose(joint.mean, net.forward(x, means)[0], rtol=1e-13)
    # Central differences: 1e-10 of the gradient, and of its square.
    np.testing.assert_allclose(joint.cov[0], wanted, rtol=1e-8)
