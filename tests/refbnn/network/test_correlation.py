"""Correlated weights against multivariate normals, loops, differences and sampled covariances."""

import numpy as np
import pytest

from refbnn import InputError, Network, Posterior, train
from refbnn.layers import Conv2d, Dense, ReLU
from refbnn.network import correlated_weights as correlated
from refbnn.noise import Bimodal, DeviceLaw, Gaussian
from refbnn.prior import GaussianPrior, LaplacePrior, StudentTPrior
from refbnn.training.elbo import loss_and_gradient
from refbnn.training.options import Options
from tests.helpers.derivatives import complex_step


def factor(n, seed=0):
    """A: strictly lower triangular, large enough that correlations are strong."""
    return np.tril(np.random.default_rng(seed).standard_normal((n, n)), -1)


def correlated_network(law=None, prior=None):
    """Layer 0: 4·2 + 4 = 12 weights, correlated; layer 2 not."""
    net = Network([Dense(2, 4), ReLU(), Dense(4, 3)], law=law, prior=prior, correlated=[0], seed=1)
    rng = np.random.default_rng(2)
    net.set_parameters(
        {
            n: Posterior(p.mean + 0.1, rng.uniform(0.1, 0.5, p.shape))
            for n, p in net.parameters().items()
        }
    )
    net.correlation[0] = factor(12)
    return net


def covariance_factor(A):
    """R of the module's formulas: I + A with rows of length 1."""
    R = np.eye(len(A)) + A
    return R / np.linalg.norm(R, axis=1, keepdims=True)


def kl_of_normals(mean, cov, s):
    """KL(N(µ, C) ‖ N(0, s²)) in closed form, by a general determinant."""
    sign, log_det = np.linalg.slogdet(cov)
    assert sign == 1
    n = len(mean)
    return 0.5 * (np.trace(cov) / s**2 + mean @ mean / s**2 - n + n * np.log(s**2) - log_det)


def test_the_factor_makes_a_correlation_matrix():
    A = factor(7)
    R = covariance_factor(A)
    C = R @ R.T
    np.testing.assert_allclose(np.diag(C), 1.0, rtol=1e-14)
    # Any correlation matrix is reached: R is the Cholesky factor of its product.
    np.testing.assert_allclose(np.linalg.cholesky(C), R, rtol=1e-12, atol=1e-14)
    assert np.abs(C - np.eye(7)).max() > 0.5


def test_mix_is_the_factor_times_the_noise():
    A, z = factor(5), np.random.default_rng(1).standard_normal((3, 5))
    u = correlated.mix(A, z)
    for s in range(3):
        for i in range(5):
            length = np.sqrt(1 + sum(A[i, j] ** 2 for j in range(i)))
            want = (z[s, i] + sum(A[i, j] * z[s, j] for j in range(i))) / length
            assert u[s, i] == pytest.approx(want, rel=1e-13)
    np.testing.assert_allclose(u, z @ covariance_factor(A).T, rtol=1e-12, atol=1e-14)


def test_no_correlation_is_the_mean_field():
    z = np.random.default_rng(0).standard_normal((2, 6))
    A = correlated.uncorrelated(6)
    np.testing.assert_array_equal(correlated.mix(A, z), z)
    value, grad = correlated.divergence(A)
    assert value == 0
    assert not grad.any()
    plain = Network([Dense(2, 3)], seed=0)
    full = Network([Dense(2, 3)], seed=0, correlated=[0])
    x, y = np.ones((2, 2)), np.array([0, 1])
    ours, theirs = (
        loss_and_gradient(net, x, y, 4, np.random.default_rng(3)) for net in (full, plain)
    )
    assert ours[0] == theirs[0]
    for name in ("0.weight", "0.bias"):
        np.testing.assert_array_equal(ours[1].scale[name], theirs[1].scale[name])


def test_kl_is_that_of_multivariate_normals():
    """Gaussian law and prior: determinant and trace of the full covariance."""
    prior = GaussianPrior(0.7)
    net = correlated_network(prior=prior)
    loss, _ = loss_and_gradient(net, np.ones((1, 2)), np.array([0]), 1, np.random.default_rng(0))
    means = net.layout.flatten({n: p.mean for n, p in net.parameters().items()})
    scales = net.layout.flatten({n: p.scale for n, p in net.parameters().items()})
    R = np.eye(len(means))
    R[:12, :12] = covariance_factor(net.correlation[0])
    cov = scales[:, np.newaxis] * (R @ R.T) * scales
    assert loss.kl == pytest.approx(kl_of_normals(means, cov, 0.7), rel=1e-12)


@pytest.mark.parametrize(
    ("law", "prior"),
    [
        (Bimodal(0.8), GaussianPrior(0.6)),
        (DeviceLaw(0.5, -0.3, (0.4,)), GaussianPrior(0.6)),
        (Gaussian(), LaplacePrior(0.4)),
    ],
)
def test_kl_against_sampling(law, prior):
    """KL = E[log q(θ) − log p(θ)], q by the change of variables z → θ; 4 standard errors."""
    net = correlated_network(law, prior)
    loss, _ = loss_and_gradient(net, np.ones((1, 2)), np.array([0]), 1, np.random.default_rng(0))
    rng = np.random.default_rng(4)
    theta = net.layout.flatten(net.draw(rng, 40_000)[0])
    means = net.layout.flatten({n: p.mean for n, p in net.parameters().items()})
    scales = net.layout.flatten({n: p.scale for n, p in net.parameters().items()})
    M = np.eye(len(means))
    M[:12, :12] = covariance_factor(net.correlation[0])
    M *= scales[:, np.newaxis]
    z = np.linalg.solve(M, (theta - means).T).T
    z = np.clip(z, *law.support)  # the solution rounds across the ends
    log_q = law.log_pdf(z).sum(axis=1) - np.linalg.slogdet(M)[1]
    sampled = log_q - prior.log_pdf(theta).sum(axis=1)
    error = sampled.std() / np.sqrt(len(sampled))
    assert abs(sampled.mean() - loss.kl) < 4 * error
    added, _ = correlated.divergence(net.correlation[0])
    assert added > 100 * error  # so a missing term would show


def test_gradient_of_kl_by_complex_step():
    A = factor(5)

    def value(a):
        return 0.5 * np.log(1 + (a * a).sum(axis=1)).sum()

    got, grad = correlated.divergence(A)
    assert got == pytest.approx(value(A), rel=1e-14)
    np.testing.assert_allclose(grad, complex_step(value, A), rtol=1e-12, atol=1e-15)


def test_gradient_of_mixing_by_complex_step():
    """L = Σ c ∘ mix(A, z), summed over three samples; nothing on or above the diagonal."""
    rng = np.random.default_rng(5)
    A, z, c = factor(5), *rng.standard_normal((2, 3, 5))

    def value(a):
        rows = np.sqrt(1 + (a * a).sum(axis=1))
        return (c * ((z + z @ a.T) / rows)).sum()

    got = correlated.mix_backward(A, z, correlated.mix(A, z), c)
    np.testing.assert_allclose(got, np.tril(complex_step(value, A), -1), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("kl_weight", [1.0, 0.3])
def test_gradient_of_the_loss_at_fixed_noise(kl_weight):
    """∂L/∂A, ∂L/∂µ and ∂L/∂σ by central differences; the generator is reset."""
    net = correlated_network(DeviceLaw(-0.5, 0.5, (0.3,)), GaussianPrior(0.5))
    rng = np.random.default_rng(6)
    x, y = rng.standard_normal((4, 2)), np.array([0, 1, 2, 1])

    def evaluate():
        return loss_and_gradient(
            net, x, y, 20, np.random.default_rng(7), Options(n_samples=3), kl_weight=kl_weight
        )

    def value():
        loss, _ = evaluate()
        return loss.nll + kl_weight * loss.kl

    _, grad = evaluate()
    step = 1e-6
    A = net.correlation[0]
    for index in [(1, 0), (5, 2), (11, 4), (11, 10)]:
        at = A[index]
        values = []
        for sign in (1, -1):
            A[index] = at + sign * step
            values.append(value())
        A[index] = at
        # Rounding of a loss near 200, some sums of 1e-13 each, over 2e-6.
        slope = (values[0] - values[1]) / (2 * step)
        assert grad.correlation[0][index] == pytest.approx(slope, rel=1e-6, abs=1e-6)
    start = net.parameters()
    for name, part in [("0.weight", "mean"), ("0.weight", "scale"), ("0.bias", "scale")]:
        at_weight = (1,) if name == "0.bias" else (2, 1)
        values = []
        for sign in (1, -1):
            arrays = {"mean": start[name].mean.copy(), "scale": start[name].scale.copy()}
            arrays[part][at_weight] += sign * step
            net.set_parameters({**start, name: Posterior(**arrays)})
            values.append(value())
        net.set_parameters(start)
        slope = (values[0] - values[1]) / (2 * step)
        assert getattr(grad, part)[name][at_weight] == pytest.approx(slope, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("law", [Gaussian(), Bimodal(0.9)])
def test_drawn_weights_have_the_covariance(law):
    net = correlated_network(law)
    n = 40_000
    theta, _ = net.draw(np.random.default_rng(8), n)
    flat = net.layout.flatten(theta)
    scales = net.layout.flatten({name: p.scale for name, p in net.parameters().items()})
    R = np.eye(len(scales))
    R[:12, :12] = covariance_factor(net.correlation[0])
    want = scales[:, np.newaxis] * (R @ R.T) * scales
    centred = flat - flat.mean(axis=0)
    got = centred.T @ centred / n
    # Standard error of each product's mean, from the products; 729 of them, so 5 of it.
    square = (centred**2).T @ centred**2 / n
    error = np.sqrt(np.maximum(square - got**2, 0.0) / n)
    assert (np.abs(got - want) < 5 * error).all()


def test_too_many_weights_are_refused():
    with pytest.raises(InputError, match="layer of 4097 weights; expected at most 4096"):
        correlated.uncorrelated(4097)
    assert correlated.uncorrelated(4096).shape == (4096, 4096)
    with pytest.raises(InputError, match="at most 4096"):
        Network([Dense(70, 70)], correlated=[0])


@pytest.mark.parametrize("index", [1, 3, -1, 0.0, "0", None])
def test_bad_indices_are_refused(index):
    with pytest.raises(InputError, match="expected the index of a layer with weights"):
        Network([Dense(2, 4), ReLU(), Dense(4, 3)], correlated=[index])


def test_propagation_is_refused():
    net = correlated_network()
    with pytest.raises(InputError, match=r"propagate: layers \[0\] have correlated weights"):
        net.propagate(np.ones((1, 2)))


def test_another_law_keeps_the_correlation():
    net = correlated_network()
    other = net.with_noise(Bimodal())
    np.testing.assert_array_equal(other.correlation[0], net.correlation[0])
    other.correlation[0] = np.zeros((12, 12))
    assert net.correlation[0].any()  # its dictionary is its own


def test_other_law_and_other_prior_together_are_refused():
    """KL of a marginal that is no longer of the law's shape has no formula here."""
    net = correlated_network(Bimodal(), StudentTPrior(4.0, 0.5))
    x, y = np.ones((2, 2)), np.array([0, 1])
    words = "law Bimodal with StudentTPrior: KL has no formula"
    with pytest.raises(InputError, match=words):
        train(net, x, y, epochs=1)
    with pytest.raises(InputError, match=words):
        loss_and_gradient(net, x, y, 2, np.random.default_rng(0))
    train(net.with_noise(Gaussian()), x, y, epochs=1)


def test_training_finds_the_correlation_of_a_posterior():
    """Linear regression with strongly correlated inputs: the exact posterior is Gaussian.

    One output, noise N(0, 1): precision of (w, b) is XᵀX + 1/s², with the log variance fixed by
    weights that the data cannot tell. The trained correlation of the two slopes has the sign and,
    roughly, the size of the exact one.
    """
    rng = np.random.default_rng(9)
    shared = rng.standard_normal(40)
    x = np.stack([shared, shared + 0.3 * rng.standard_normal(40)], axis=1)
    exact = np.linalg.inv(np.column_stack([x, np.ones(40)]).T @ np.column_stack([x, np.ones(40)]))
    want = exact[0, 1] / np.sqrt(exact[0, 0] * exact[1, 1])
    assert want < -0.9
    y = (x @ [1.0, -1.0] + rng.standard_normal(40))[:, np.newaxis]
    net = Network([Dense(2, 2)], prior=GaussianPrior(3.0), correlated=[0], seed=0)
    train(
        net,
        x,
        y,
        likelihood="gaussian",
        epochs=400,
        batch_size=40,
        n_samples=8,
        learning_rate=0.03,
        dtype="float64",
    )
    R = covariance_factor(net.correlation[0])
    # Weights in the order (mean: w₁, w₂), (log variance: w₁, w₂), biases.
    assert (R @ R.T)[1, 0] == pytest.approx(want, abs=0.1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_types_are_kept(dtype):
    A, z = factor(4).astype(dtype), np.ones((2, 4), dtype)
    u = correlated.mix(A, z)
    assert u.dtype == dtype
    assert correlated.mix_backward(A, z, u, z).dtype == dtype
    assert correlated.divergence(A)[1].dtype == dtype


def test_a_convolution_can_be_correlated():
    net = Network([Conv2d(1, 2, 2)], input_shape=(1, 2, 2), correlated=[0])
    z = net.draw(np.random.default_rng(0), 3)[1]
    assert z["0.weight"].shape == (3, 2, 1, 2, 2)
    assert net.correlation[0].shape == (10, 10)
