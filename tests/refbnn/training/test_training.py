import mpmath
import numpy as np
import pytest

from refbnn import InputError, Network, Posterior, predict, train
from refbnn.layers import Dense, ReLU
from refbnn.noise import DeviceLaw, Gaussian
from refbnn.numerics.random.streams import stream
from refbnn.numerics.softplus import inverse_softplus, softplus, softplus_and_slope
from refbnn.prior import GaussianPrior, StudentTPrior
from refbnn.training.elbo import loss_and_gradient
from refbnn.training.optimise import Adam
from refbnn.training.options import Options
from refbnn.training.run import Epoch

LAWS = [Gaussian(), DeviceLaw(-0.5, 0.5, (0.3,))]


def small_network(law=None, prior=None, seed=0):
    return Network(
        [Dense(3, 4), ReLU(), Dense(4, 3)], law=law, prior=prior or GaussianPrior(0.5), seed=seed
    )


@pytest.mark.parametrize("prior", [GaussianPrior(0.5), StudentTPrior(4.0, 0.5)])
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("n_samples", [1, 3])
def test_gradient_is_that_of_the_loss_at_fixed_noise(law, prior, n_samples):
    """Central differences of the loss, the generator reset so that both ends see one noise."""
    net = small_network(law, prior)
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((5, 3)), np.array([0, 1, 2, 1, 0])

    def loss():
        return loss_and_gradient(
            net, x, y, 50, np.random.default_rng(2), Options(n_samples=n_samples)
        )

    _, grad = loss()
    start = net.parameters()
    step = 1e-6
    for name, posterior in start.items():
        for part, got in (("mean", grad.mean[name]), ("scale", grad.scale[name])):
            for index in list(np.ndindex(posterior.shape))[:3]:
                totals = []
                for sign in (1, -1):
                    arrays = {"mean": posterior.mean.copy(), "scale": posterior.scale.copy()}
                    arrays[part][index] += sign * step
                    net.set_parameters({**start, name: Posterior(**arrays)})
                    totals.append(loss()[0].total)
                slope = (totals[0] - totals[1]) / (2 * step)
                # Rounding of a loss near 500, some 30 sums of 1e-13 each, over 2e-6.
                assert got[index] == pytest.approx(slope, rel=1e-6, abs=2e-6)
    net.set_parameters(start)


def test_the_likelihood_is_scaled_to_the_data_set_and_the_kl_is_not():
    net = small_network()
    x, y = np.ones((2, 3)), np.array([0, 1])
    once = loss_and_gradient(net, x, y, 2, np.random.default_rng(0))[0]
    tenfold = loss_and_gradient(net, x, y, 20, np.random.default_rng(0))[0]
    assert tenfold.nll == pytest.approx(10 * once.nll)
    assert tenfold.kl == once.kl
    assert tenfold.total == tenfold.nll + tenfold.kl


def test_adam_follows_its_recurrence():
    rng = np.random.default_rng(0)
    grads = rng.standard_normal((6, 2))
    adam = Adam({"p": np.zeros(2)})
    m, v, p = np.zeros(2), np.zeros(2), np.zeros(2)
    for t, g in enumerate(grads, start=1):
        adam.step({"p": g}, 0.1)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        p = p - 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(adam.parameters["p"], p, rtol=1e-12)


def test_adam_leaves_no_subnormal_numbers_and_keeps_nan():
    adam = Adam({"p": np.array([1e-38, 1.0, np.nan], np.float32)})
    gradient = np.array([0.0, 1e-38, 0.0], np.float32)
    for _ in range(30):  # the moment of the second, 1e-39 after one step, would stay subnormal
        adam.step({"p": gradient}, 0.1)
        gradient[:] = 0.0
    np.testing.assert_array_equal(adam.parameters["p"], np.array([0.0, 1.0, np.nan]))
    assert not adam.m["p"][:2].any()


def test_one_step_of_training_by_hand():
    """One batch, one epoch: Adam's first step is the learning rate against each gradient's sign."""
    net = small_network()
    before = net.parameters()
    x, y = np.random.default_rng(0).standard_normal((6, 3)), np.array([0, 1, 2, 0, 1, 2])
    train(net, x, y, epochs=1, batch_size=6, learning_rate=1e-3, seed=7, dtype="float64")
    rng = stream(7, "train")
    order = rng.permutation(6)
    start = small_network()
    _, grad = loss_and_gradient(start, x[order], y[order], 6, rng)
    for name, posterior in net.parameters().items():
        g = grad.mean[name]
        step = 1e-3 * g / (np.abs(g) + 1e-8)
        np.testing.assert_allclose(posterior.mean, before[name].mean - step, rtol=1e-12)
        rho = np.log(np.expm1(before[name].scale))
        g = grad.scale[name] / (1 + np.exp(-rho))  # dσ/dρ
        step = 1e-3 * g / (np.abs(g) + 1e-8)
        np.testing.assert_allclose(posterior.scale, np.log1p(np.exp(rho - step)), rtol=1e-12)


def test_bad_labels_change_nothing():
    net = small_network()
    before = net.parameters()
    y = np.zeros(300, int)
    y[-1] = 7
    with pytest.raises(InputError, match="labels"):
        train(net, np.ones((300, 3)), y, batch_size=10, epochs=1)
    assert net.parameters() == before


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-15), (np.float32, 3e-7)])
def test_softplus_its_slope_and_its_inverse(dtype, rtol):
    """Against mpmath; 3e-7 is a few roundings of float32."""
    rho = np.array([-80.0, -30.0, -12.0, -1.0, 0.0, 1.0, 16.0, 40.0]).astype(dtype)
    sigma, slope = softplus_and_slope(rho)
    assert sigma.dtype == slope.dtype == dtype
    exact = [mpmath.mpf(float(r)) for r in rho]
    np.testing.assert_allclose(
        sigma, [float(mpmath.log1p(mpmath.exp(r))) for r in exact], rtol=rtol
    )
    np.testing.assert_allclose(slope, [float(1 / (1 + mpmath.exp(-r))) for r in exact], rtol=rtol)
    wide = np.array([-700.0, -30.0, -1.0, 0.0, 1.0, 40.0])
    np.testing.assert_allclose(inverse_softplus(softplus(wide)), wide, rtol=1e-12, atol=1e-15)


def clusters(n, rng):
    centres = np.array([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0]])
    y = rng.integers(0, 3, n)
    return centres[y] + 0.4 * rng.standard_normal((n, 3)), y


@pytest.mark.parametrize("law", LAWS)
def test_training_learns_and_repeats_itself(law):
    x, y = clusters(300, np.random.default_rng(0))
    x_test, y_test = clusters(300, np.random.default_rng(1))
    seen: list[Epoch] = []
    nets = [small_network(law), small_network(law)]
    for net in nets:
        history = train(
            net, x, y, epochs=30, batch_size=32, learning_rate=2e-2, seed=5, on_epoch=seen.append
        )
    assert history[-1].loss.total < 0.5 * history[0].loss.total
    assert [epoch.number for epoch in seen] == [*range(1, 31)] * 2
    for name, posterior in nets[0].parameters().items():
        np.testing.assert_array_equal(posterior.mean, nets[1].parameters()[name].mean)
        np.testing.assert_array_equal(posterior.scale, nets[1].parameters()[name].scale)
    # Clusters 2√2 apart with deviation 0.4: a plain classifier errs once in some thousands.
    for method in ("pfp", "svi"):
        assert predict(nets[0], x_test, method=method).accuracy(y_test) > 0.97


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": np.ones((4, 2))}, r"layer 0: Dense\(3, 4\): input has shape \(2,\)"),
        ({"y": np.zeros(3, int)}, "expected"),
        ({"y": np.full(4, 3)}, "integers from 0 to 2"),
        ({"y": np.zeros(4)}, "integers"),
        ({"x": np.full((4, 3), np.nan)}, "NaN"),
        ({"x": np.ones((0, 3)), "y": np.zeros(0, int)}, "N > 0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"likelihood": "poisson"}, "expected one of categorical"),
        ({"learning_rate": 1e300}, "a weight is no longer finite"),
    ],
)
def test_bad_training_input_is_refused(change, words):
    arguments = {"x": np.ones((4, 3)), "y": np.array([0, 1, 2, 0]), "epochs": 2} | change
    with (
        pytest.raises(InputError, match=words),
        np.errstate(all="ignore"),
    ):
        train(small_network(), **arguments)
