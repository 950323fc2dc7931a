"""Gradient of the loss: by differences at fixed noise, and by Monte Carlo for every law."""

import numpy as np
import pytest
from scipy import stats

from refbnn import Network, Posterior
from refbnn.layers import (
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
from refbnn.noise import Bimodal, DensityLaw, DeviceLaw, Gaussian, HeavyTailed, Mixture
from refbnn.prior import GaussianPrior, LaplacePrior
from refbnn.training.elbo import loss_and_gradient
from refbnn.training.likelihood import LIKELIHOODS, Categorical
from refbnn.training.options import Options
from verification import gradient

UNUSED = np.random.default_rng(0)  # where the noise is given
LAWS = {
    "Gaussian": Gaussian(),
    "two peaks": Bimodal(0.9, 0.3, 2.0),
    "three peaks": Mixture((0.3, 0.5, 0.2), (-3.0, 0.1, 4.0), (0.8, 1.0, 1.2)),
    "singular edges": DeviceLaw(-0.5, -0.7),
    "vanishing edges": DeviceLaw(1.5, 0.5, (0.3, 0.8)),
    "heavy tails": HeavyTailed(0.8, 0.5),
    "triangle": DensityLaw.of(lambda x: 1.0 - np.abs(x), -1.0, 1.0),
}


def lenet(n_outputs):
    """Convolutions and pools in LeNet's order, a few channels of 6×6 pixels."""
    return Network(
        [
            Conv2d(1, 2, 3, padding=1),
            ReLU(),
            MaxPool2d(2),
            Conv2d(2, 3, 2),
            LeakyReLU(0.1),
            AvgPool2d(2),
            Flatten(),
            Residual((Dense(3, 3), Tanh())),
            Dense(3, n_outputs),
        ],
        law=LAWS["singular edges"],
        prior=LaplacePrior(0.4),
        input_shape=(1, 6, 6),
    )


def mlp(n_outputs):
    return Network(
        [Dense(3, 4), ReLU(), Dense(4, n_outputs)], law=LAWS["two peaks"], prior=GaussianPrior(0.5)
    )


@pytest.mark.parametrize("name", [*LIKELIHOODS, "one noise"])
@pytest.mark.parametrize("build", [mlp, lenet])
def test_gradient_at_fixed_noise(build, name):
    """Central differences of (N/B)·nll + λ·KL, in every weight array; the generator is reset."""
    net = build(1 if name == "bernoulli" else 4)
    net.noise_sd = (0.5, 2.0, 1.0, 0.3) if name == "one noise" else None
    rng = np.random.default_rng(0)
    net.set_parameters(
        {n: Posterior(p.mean, rng.uniform(0.1, 0.4, p.shape)) for n, p in net.parameters().items()}
    )
    x = rng.standard_normal((3, *net.input_shape))
    y = {
        "categorical": np.array([0, 3, 1]),
        "bernoulli": np.array([0, 1, 1]),
        "one noise": rng.standard_normal((3, 4)),
        "gaussian": rng.standard_normal((3, 2)),
        "energy": rng.standard_normal((3, 4)),
    }[name]
    likelihood = "gaussian" if name == "one noise" else name
    options, n_data, kl_weight = Options(likelihood, n_samples=3), 20, 0.4

    def evaluate():
        return loss_and_gradient(
            net, x, y, n_data, np.random.default_rng(1), options, kl_weight=kl_weight
        )

    def value():
        loss, _ = evaluate()
        return loss.nll + kl_weight * loss.kl

    _, grad = evaluate()
    start, step = net.parameters(), 1e-6
    for layer, posterior in start.items():
        indices = list(np.ndindex(posterior.shape))
        for part in ("mean", "scale"):
            for index in (indices[0], indices[-1]):
                values = []
                for sign in (1, -1):
                    arrays = {"mean": posterior.mean.copy(), "scale": posterior.scale.copy()}
                    arrays[part][index] += sign * step
                    net.set_parameters({**start, layer: Posterior(**arrays)})
                    values.append(value())
                slope = (values[0] - values[1]) / (2 * step)
                # Rounding of a loss near 300, some 30 sums of 1e-13 each, over 2e-6.
                assert getattr(grad, part)[layer][index] == pytest.approx(slope, rel=1e-6, abs=3e-6)
    net.set_parameters(start)


def test_the_loss_is_an_average_over_samples():
    """Three samples together are the mean of three alone, of the same noise."""
    net = mlp(3)
    x, y = np.random.default_rng(0).standard_normal((2, 3)), np.array([0, 2])

    class Replayed(Gaussian):
        """The law of the network, that hands out given noise."""

        def __init__(self, z):
            self.z = z

        def sample(self, rng, shape, dtype=float):
            return self.z.reshape(shape).astype(dtype)

    z = net.law.sample(np.random.default_rng(1), (3, net.layout.size))
    together = loss_and_gradient(net.with_noise(Replayed(z)), x, y, 8, UNUSED, Options(n_samples=3))
    alone = [loss_and_gradient(net.with_noise(Replayed(row)), x, y, 8, UNUSED) for row in z]
    assert together[0].nll == pytest.approx(np.mean([loss.nll for loss, _ in alone]), rel=1e-13)
    for part in ("mean", "scale"):
        for name, array in getattr(together[1], part).items():
            want = np.mean([getattr(grad, part)[name] for _, grad in alone], axis=0)
            np.testing.assert_allclose(array, want, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", LAWS)
def test_gradient_against_monte_carlo(name):
    """Directional derivatives of the loss of every law, within 4 standard errors and some."""
    for check in gradient.check(name, LAWS[name], 30_000, np.random.default_rng(0)):
        assert check.holds, check


@pytest.mark.parametrize("name", LAWS)
def test_minibatches_are_unbiased(name):
    """Over all minibatches of two out of six and fresh noise: the loss of the whole set."""
    net = Network([Dense(2, 3)], law=LAWS[name], seed=1)
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((6, 2)), rng.integers(0, 3, 6)
    parts, whole = [], []
    for _ in range(400):
        order = rng.permutation(6)
        for batch in order.reshape(3, 2):
            parts.append(loss_and_gradient(net, x[batch], y[batch], 6, rng)[0].nll)
        theta, _ = net.draw(rng)
        whole.append(Categorical()(net.forward(x, theta)[0], y)[0])
    error = np.hypot(stats.sem(parts), stats.sem(whole))
    assert abs(np.mean(parts) - np.mean(whole)) < 4 * error
    assert error < 0.1  # of some 8 nats


@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize("build", [mlp, lenet])
def test_parts_in_parallel_add_up(build, threads):
    """Seven examples in two, three and seven parts: one loss and gradient but for rounding."""
    net = build(4)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((7, *net.input_shape)), rng.integers(0, 4, 7)

    def found(threads):
        options = Options(n_samples=2, threads=threads)
        return loss_and_gradient(net, x, y, 50, np.random.default_rng(1), options)

    (loss, grad), (again, _) = found(threads), found(threads)
    one, grad_one = found(1)
    assert again == loss  # the parts are added up in their order
    assert loss.kl == one.kl
    assert loss.nll == pytest.approx(one.nll, rel=1e-13)
    for part in ("mean", "scale"):
        for name, array in getattr(grad_one, part).items():
            np.testing.assert_allclose(getattr(grad, part)[name], array, rtol=1e-11, atol=1e-11)
