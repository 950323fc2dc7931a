"""Local reparameterisation against sampled weights and central differences."""

import numpy as np
import pytest

from refbnn import InputError, Network, Posterior
from refbnn.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Flatten,
    MaxPool2d,
    ReLU,
    Residual,
    Tanh,
)
from refbnn.noise import Bimodal
from refbnn.training import local_reparameterisation as local
from refbnn.training.elbo import check_network, loss_and_gradient
from refbnn.training.likelihood import Categorical
from refbnn.training.options import Options

NORM = BatchNorm2d(*np.array([[0.1, -0.2], [0.5, 1.5], [1.2, 0.8], [0.1, 0.0]]))
NETWORKS = {
    "dense": lambda: Network([Dense(3, 5), ReLU(), Dense(5, 4), Tanh(), Dense(4, 3)], seed=1),
    "conv": lambda: Network(
        [
            NORM,
            Conv2d(2, 3, 3, padding=1),
            ReLU(),
            MaxPool2d(2),
            Conv2d(3, 2, 2, stride=2),
            Residual((ReLU(),)),
            AvgPool2d(1),
            Flatten(),
            Dense(2, 3),
        ],
        seed=1,
        input_shape=(2, 4, 4),
    ),
}


def network(kind):
    net = NETWORKS[kind]()
    rng = np.random.default_rng(2)
    net.set_parameters(
        {
            n: Posterior(p.mean + 0.1, rng.uniform(0.1, 0.4, p.shape))
            for n, p in net.parameters().items()
        }
    )
    return net


def data(net, batch=3):
    x = np.random.default_rng(3).standard_normal((batch, *net.input_shape))
    return x, np.arange(batch) % 3


def outputs(net, x, n_samples, seed=0):
    parameters = net.parameters()
    mean = net.by_layer({n: p.mean for n, p in parameters.items()})
    var = net.by_layer({n: p.var for n, p in parameters.items()})
    return local.forward(net.layers, x, mean, var, n_samples, np.random.default_rng(seed))


def compare_moments(ours, theirs):
    """Means and variances of samples (S, ...) within 5 of the difference's standard errors."""
    n = len(ours)
    error = np.sqrt((ours.var(0) + theirs.var(0)) / n)
    assert (np.abs(ours.mean(0) - theirs.mean(0)) < 5 * error).all()
    fourth = [((s - s.mean(0)) ** 4).mean(0) - s.var(0) ** 2 for s in (ours, theirs)]
    error = np.sqrt((fourth[0] + fourth[1]) / n)
    assert (np.abs(ours.var(0) - theirs.var(0)) < 5 * error).all()


def test_marginals_of_a_dense_network_are_those_of_sampled_weights():
    """Exact for dense layers, example by example, through all layers."""
    net, n = network("dense"), 20_000
    x, _ = data(net)
    compare_moments(outputs(net, x, n)[0], net.sample(x, n, np.random.default_rng(4)))


def test_marginals_of_a_convolution_are_those_of_sampled_weights():
    """Each position by itself; here of one layer, before anything joins positions."""
    net = Network([Conv2d(2, 3, 3, padding=1, stride=2)], input_shape=(2, 4, 4), seed=1)
    n = 20_000
    x, _ = data(net)
    ours, tapes = outputs(net, x, n)
    compare_moments(ours, net.sample(x, n, np.random.default_rng(4)))
    # The noise is one number a position, example and sample: none is shared.
    assert np.unique(tapes[0].noise).size == ours.size


@pytest.mark.parametrize("likelihood", ["categorical", "energy"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_gradient_at_fixed_noise(kind, likelihood):
    """Central differences of the loss in every weight array; the generator is reset."""
    net = network(kind)
    x, y = data(net)
    if likelihood == "energy":
        y = np.random.default_rng(5).standard_normal((3, 3))

    def evaluate():
        options = Options(likelihood, n_samples=2, local=True)
        return loss_and_gradient(net, x, y, 30, np.random.default_rng(6), options)

    _, grad = evaluate()
    start, step = net.parameters(), 1e-6
    for name, posterior in start.items():
        indices = list(np.ndindex(posterior.shape))
        for part in ("mean", "scale"):
            for index in (indices[0], indices[-1]):
                totals = []
                for sign in (1, -1):
                    arrays = {"mean": posterior.mean.copy(), "scale": posterior.scale.copy()}
                    arrays[part][index] += sign * step
                    net.set_parameters({**start, name: Posterior(**arrays)})
                    totals.append(evaluate()[0].total)
                slope = (totals[0] - totals[1]) / (2 * step)
                # Rounding of a loss near 300, some 30 sums of 1e-13 each, over 2e-6.
                assert getattr(grad, part)[name][index] == pytest.approx(slope, rel=1e-6, abs=2e-6)
    net.set_parameters(start)


def test_gradient_is_that_of_sampled_weights_with_less_noise():
    """Means agree within 4 standard errors (of 76 numbers); the variance falls by half or more."""
    net = network("dense")
    rng = np.random.default_rng(7)
    x, y = rng.standard_normal((32, 3)), rng.integers(0, 3, 32)
    found = {}
    for chosen in (True, False):
        rng = np.random.default_rng(8)
        grads = [
            loss_and_gradient(net, x, y, 32, rng, Options(local=chosen))[1] for _ in range(2000)
        ]
        found[chosen] = np.array(
            [np.append(net.layout.flatten(g.mean), net.layout.flatten(g.scale)) for g in grads]
        )
    mean = {k: v.mean(0) for k, v in found.items()}
    error = np.sqrt((found[True].var(0) + found[False].var(0)) / 2000)
    assert (np.abs(mean[True] - mean[False]) < 4 * error).all()
    assert found[True].var(0).sum() < 0.5 * found[False].var(0).sum()


def test_float32_is_kept():
    net = network("conv")
    x, _ = data(net)
    mean, var = (
        net.by_layer({n: getattr(p, part).astype(np.float32) for n, p in net.parameters().items()})
        for part in ("mean", "var")
    )
    rng = np.random.default_rng(0)
    y, tapes = local.forward(net.layers, x.astype(np.float32), mean, var, 2, rng)
    assert y.dtype == np.float32
    grads = local.backward(net.layers, tapes, mean, var, np.ones_like(y))
    for by_layer in grads:
        for own in by_layer:
            assert all(array.dtype == np.float32 for array in own.values())


def test_what_the_formulas_do_not_cover_is_refused():
    options = Options(local=True)
    with pytest.raises(InputError, match="expected the Gaussian law and no correlated layer"):
        check_network(Network([Dense(2, 2)], law=Bimodal()), options)
    with pytest.raises(InputError, match="no correlated layer"):
        check_network(Network([Dense(2, 2)], correlated=[0]), options)
    with pytest.raises(InputError, match="layer 1: Residual has no local reparameterisation"):
        check_network(Network([ReLU(), Residual((Dense(2, 2),))]), options)
    check_network(Network([Dense(2, 2), Residual((ReLU(),))]), options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scales_that_underflow_leave_gradients_finite(dtype):
    """In float32 their squares are 0."""
    net = network("dense")
    net.set_parameters(
        {n: Posterior(p.mean, np.full(p.shape, 1e-30)) for n, p in net.parameters().items()}
    )
    x, y = data(net)
    mean, var = (
        net.by_layer({n: getattr(p, part).astype(dtype) for n, p in net.parameters().items()})
        for part in ("mean", "var")
    )
    z, tapes = local.forward(net.layers, x.astype(dtype), mean, var, 2, np.random.default_rng(0))
    grads = local.backward(net.layers, tapes, mean, var, Categorical()(z, y)[1])
    for by_layer in grads:
        for own in by_layer:
            assert all(np.isfinite(array).all() for array in own.values())
