"""Steps of a run: rate, order, batches, samples, weight of KL, clipping, stopping."""

import os
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest

from refbnn import InputError, Network, Posterior, load, train
from refbnn.layers import Conv2d, Dense, Flatten, MaxPool2d, ReLU
from refbnn.noise import Bimodal, DeviceLaw, Gaussian
from refbnn.numerics.random.streams import stream
from refbnn.numerics.softplus import inverse_softplus
from refbnn.prior import DevicePrior, GaussianPrior
from refbnn.training import elbo
from refbnn.training import run as module
from refbnn.training.elbo import loss_and_gradient
from refbnn.training.optimise import Adam, clip
from refbnn.training.options import Options
from refbnn.training.run import Training

GAUSSIAN = Gaussian()  # one for all, since it builds its inverse distribution function once


def small_network(law=GAUSSIAN, **options):
    return Network([Dense(3, 4), ReLU(), Dense(4, 3)], law=law, **options)


def data(n=10, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 3)), rng.integers(0, 3, n)


class Recorder:
    """Runs `train` and keeps what every step was given and made of it."""

    def __init__(self, monkeypatch):
        self.rates: list[float] = []
        self.grads: list[dict[str, np.ndarray]] = []
        self.batches: list[np.ndarray] = []
        self.calls: list[tuple] = []
        adam, loss = Adam.step, elbo.flat_loss_and_gradient

        def step(optimiser, grads, rate):
            self.rates.append(rate)
            self.grads.append({name: g.copy() for name, g in grads.items()})
            adam(optimiser, grads, rate)

        def flat(net, mean, scale, x, y, n_data, rng, options, kl_weight):
            self.batches.append(x.copy())
            self.calls.append((len(x), n_data, options.n_samples, kl_weight))
            return loss(net, mean, scale, x, y, n_data, rng, options, kl_weight)

        monkeypatch.setattr(Adam, "step", step)
        monkeypatch.setattr(module, "flat_loss_and_gradient", flat)


@pytest.fixture
def recorder(monkeypatch):
    return Recorder(monkeypatch)


@pytest.mark.parametrize(
    ("schedule", "factor"),
    [
        ("constant", lambda k: 1.0),
        ("linear", lambda k: 1 - k / 9),
        ("cosine", lambda k: 0.5 + 0.5 * np.cos(np.pi * k / 9)),
    ],
)
def test_learning_rates(recorder, schedule, factor):
    """Three epochs of three steps (10 examples by 4): step k of 9 at progress k/9."""
    train(small_network(), *data(), epochs=3, batch_size=4, schedule=schedule, learning_rate=0.01)
    want = [0.01 * factor(k) for k in range(9)]
    np.testing.assert_allclose(recorder.rates, want, rtol=1e-13)


def test_every_epoch_visits_every_example_once_in_another_order(recorder):
    x, y = data(10)
    train(small_network(), x, y, epochs=4, batch_size=4, dtype="float64", seed=3)
    sizes = [len(batch) for batch in recorder.batches]
    assert sizes == [4, 4, 2] * 4
    epochs = np.concatenate(recorder.batches).reshape(4, 10, 3)
    orders = [tuple(np.argmax((x[:, np.newaxis] == e).all(-1), axis=0)) for e in epochs]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len(set(orders)) == 4


def test_labels_stay_with_their_examples():
    """Ten one-hot inputs with ten labels of their own are learnt only if the order is shared."""
    net = Network([Dense(10, 10)], prior=GaussianPrior(10.0), seed=0)
    y = np.random.default_rng(0).permutation(10)
    train(net, np.eye(10), y, epochs=300, batch_size=3, learning_rate=0.1)
    np.testing.assert_array_equal(net.propagate(np.eye(10)).mean.argmax(axis=1), y)


def test_the_last_small_batch_counts_as_the_whole_set_too(recorder):
    """Every step knows N, so that nll is scaled by N/B with its own B."""
    history = train(small_network(), *data(10), epochs=2, batch_size=4, n_samples=3)
    assert [call[:3] for call in recorder.calls] == [(4, 10, 3), (4, 10, 3), (2, 10, 3)] * 2
    assert len(history) == 2


def test_the_history_is_the_mean_over_minibatches(monkeypatch):
    losses, loss = [], elbo.flat_loss_and_gradient

    def flat(*arguments):
        losses.append(loss(*arguments))
        return losses[-1]

    monkeypatch.setattr(module, "flat_loss_and_gradient", flat)
    history = train(small_network(), *data(), epochs=2, batch_size=4)
    for epoch, part in zip(history, (losses[:3], losses[3:]), strict=True):
        assert epoch.loss.nll == pytest.approx(np.mean([found.nll for found, _ in part]))
        assert epoch.loss.kl == pytest.approx(np.mean([found.kl for found, _ in part]))


def test_kl_warms_up_in_equal_steps_and_is_reported_in_full(recorder):
    """Two epochs of two steps: λ = 0, ¼, ½, ¾, then 1; the loss has KL unweighted."""
    net = small_network()
    start = sum(
        0.5 * (p.mean**2 + p.scale**2 - 1 - np.log(p.scale**2)).sum()
        for p in net.parameters().values()
    )
    history = train(
        net, *data(), epochs=4, batch_size=5, kl_warmup=2, learning_rate=1e-9, dtype="float64"
    )
    weights = [call[3] for call in recorder.calls]
    np.testing.assert_allclose(weights, [0, 0.25, 0.5, 0.75, 1, 1, 1, 1], rtol=1e-14)
    assert [epoch.kl_weight for epoch in history] == [0.5, 1, 1, 1]
    # The prior N(0, 1): KL by hand; the rate is too small to change it.
    for epoch in history:
        assert epoch.loss.kl == pytest.approx(start, rel=1e-6)


def test_the_weight_of_kl_scales_its_gradient_alone():
    net, (x, y) = small_network(prior=GaussianPrior(0.3)), data(4)
    found = [
        loss_and_gradient(net, x, y, 8, np.random.default_rng(1), kl_weight=w) for w in (0, 0.3, 1)
    ]
    assert len({loss for loss, _ in found}) == 1
    for name, p in net.parameters().items():
        none, some, full = (grad.mean[name] for _, grad in found)
        np.testing.assert_allclose(full - none, p.mean / 0.3**2, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(some - none, 0.3 * (full - none), rtol=1e-9, atol=1e-12)
        none, some, full = (grad.scale[name] for _, grad in found)
        np.testing.assert_allclose(full - none, p.scale / 0.3**2 - 1 / p.scale, rtol=1e-9)
        np.testing.assert_allclose(some - none, 0.3 * (full - none), rtol=1e-9)


def norm(grads):
    return np.sqrt(sum((g.astype(float) ** 2).sum() for g in grads.values()))


def test_clipping_bounds_the_norm_of_all_arrays_together():
    rng = np.random.default_rng(0)
    grads = {"a": rng.standard_normal((3, 2)), "b": rng.standard_normal(4)}
    clipped = clip(grads, 0.5)
    assert norm(clipped) == pytest.approx(0.5, rel=1e-13)
    for name, g in grads.items():  # the direction is kept, of both by one factor
        np.testing.assert_allclose(clipped[name], g * 0.5 / norm(grads), rtol=1e-13)
    for unchanged in (clip(grads, 100.0), clip(grads, norm(grads) * (1 + 1e-12))):
        for name, g in grads.items():
            np.testing.assert_array_equal(unchanged[name], g)
    zero = clip({"a": np.zeros(3)}, 1.0)
    np.testing.assert_array_equal(zero["a"], np.zeros(3))
    assert clip({"a": np.ones(3, np.float32)}, 0.1)["a"].dtype == np.float32


def test_clipping_in_a_run(recorder):
    """µ, ρ and what correlates weights: all in one norm; the same run without it is longer."""
    options: dict[str, Any] = {"epochs": 1, "batch_size": 5, "dtype": "float64"}
    train(small_network(correlated=[0]), *data(), **options)
    assert set(recorder.grads[0]) == {"mean", "rho", "correlation.0"}
    free = recorder.grads[0]
    train(small_network(correlated=[0]), *data(), clip_norm=1.0, **options)
    clipped = recorder.grads[2]
    assert norm(free) > 2
    assert norm(clipped) == pytest.approx(1.0, rel=1e-12)
    for name, g in free.items():
        np.testing.assert_allclose(clipped[name], g / norm(free), rtol=1e-12)


def test_early_stopping_keeps_the_best_epoch(monkeypatch):
    """Scores by hand: the least at epoch 2, then two that are no better (one equal)."""
    net, seen = small_network(), []
    scores = iter([3.0, 1.0, 1.0, 2.0, 0.5, 0.4])
    monkeypatch.setattr(Training, "_score", lambda *_: next(scores))
    history = train(
        net,
        *data(),
        validation=data(4, 1),
        epochs=6,
        patience=2,
        batch_size=5,
        on_epoch=lambda _: seen.append(net.parameters()),
    )
    assert [epoch.validation for epoch in history] == [3.0, 1.0, 1.0, 2.0]
    for name, p in net.parameters().items():
        np.testing.assert_array_equal(p.mean, seen[1][name].mean)
        np.testing.assert_array_equal(p.scale, seen[1][name].scale)
        assert not np.array_equal(p.mean, seen[3][name].mean)


def test_the_validation_score_is_the_mixture_of_samples():
    """Against its definition, with the same noise every epoch; nats an example."""
    x, y = data()
    held = data(7, 1)
    net, wanted = small_network(), []

    def on_epoch(_):
        outputs = net.sample(held[0].astype(np.float32), 8, stream(2, "validation"))
        p = np.exp(outputs) / np.exp(outputs).sum(axis=-1, keepdims=True)
        wanted.append(-np.log(p.mean(axis=0)[np.arange(7), held[1]]).mean())

    history = train(net, x, y, validation=held, epochs=3, seed=2, on_epoch=on_epoch)
    scores = [epoch.validation for epoch in history]
    np.testing.assert_allclose(np.array(scores, float), wanted, rtol=1e-12)


def test_a_validation_score_that_overflows_is_refused():
    """A log variance of −2000: infinite nats for what the training data does not hold."""
    net = Network([Dense(1, 2)], seed=0)
    weight = Posterior(np.array([[0.0], [-2000.0]]), np.full((2, 1), 1e-3))
    net.set_parameters({**net.parameters(), "0.weight": weight})
    x, y = np.array([[0.0], [0.0], [0.0], [-1.0]]), np.zeros((4, 1))
    with pytest.raises(InputError, match="epoch 1: the validation score is"):
        train(
            net,
            x,
            y,
            validation=(np.ones((2, 1)), np.ones((2, 1))),
            likelihood="gaussian",
            epochs=2,
        )


def test_single_and_double_precision_agree_over_one_step():
    """One step of either: means and ρ differ by rounding, carried by Adam's first step.

    That step is the rate times g/(|g| + ε): the sign of each gradient, so rounding of g does not
    reach it unless |g| is near 0; the rest is rounding of µ and σ themselves, 6e-8 of them.
    """
    _, y = data()
    nets = {}
    for dtype in ("float32", "float64"):
        net = Network(
            [Conv2d(1, 2, 2, padding=1), ReLU(), MaxPool2d(2), Flatten(), Dense(8, 3)],
            input_shape=(1, 3, 3),
            seed=0,
        )
        images = np.random.default_rng(0).standard_normal((10, 1, 3, 3))
        train(net, images, y, epochs=1, batch_size=10, dtype=dtype, local=True)
        nets[dtype] = net.parameters()
    for name, p in nets["float64"].items():
        other = nets["float32"][name]
        np.testing.assert_allclose(other.mean, p.mean, rtol=2e-7, atol=2e-7)
        np.testing.assert_allclose(other.scale, p.scale, rtol=5e-7)


def test_gradients_in_single_precision_agree():
    """The flat gradient in both precisions, of the same noise: some 1e-6 of the largest entry."""
    net = small_network(law=Bimodal(), correlated=[2])
    net.correlation[2][5, 1] = 0.4
    x, y = data(8)
    mean = net.layout.flatten({n: p.mean for n, p in net.parameters().items()})
    scale = net.layout.flatten({n: p.scale for n, p in net.parameters().items()})
    noise = net.law.sample(np.random.default_rng(0), (2, net.layout.size))

    class Fixed(Bimodal):
        def sample(self, rng, shape, dtype=float):
            return noise.astype(dtype)

    net = net.with_noise(Fixed())
    found = []
    for dtype in (np.float64, np.float32):
        net.correlation[2] = net.correlation[2].astype(dtype)
        found.append(
            elbo.flat_loss_and_gradient(
                net,
                mean.astype(dtype),
                scale.astype(dtype),
                x.astype(dtype),
                y,
                40,
                np.random.default_rng(0),
                Options(n_samples=2),
                0.5,
            )
        )
    (loss, grads), (loss_32, grads_32) = found
    assert loss_32.nll == pytest.approx(loss.nll, rel=1e-6)
    assert loss_32.kl == pytest.approx(loss.kl, rel=1e-6)
    for name, g in grads.items():
        assert grads_32[name].dtype == np.float32
        np.testing.assert_allclose(grads_32[name], g, rtol=1e-5, atol=3e-6 * np.abs(g).max())


# What goes wrong -------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_is_placed(tmp_path, monkeypatch):
    """Which epoch, step and layer; the network and the file keep what the last epoch left."""
    x, y = data(10)
    net, path = small_network(), tmp_path / "net.npz"
    kept: list[dict] = []
    runs: list[Training] = []
    start = Training.__post_init__

    def spied(self):
        start(self)
        runs.append(self)

    def on_step(number, _):
        if len(kept) == 2 and number == 1:  # as if the first layer had run away
            runs[0].parameters["mean"][:12] = 1e38

    monkeypatch.setattr(Training, "__post_init__", spied)
    words = "epoch 3, step 2 of 3: .*the output of layer 0, Dense, overflows at the means"
    with pytest.raises(InputError, match=words):
        train(
            net,
            10 * x,
            y,
            epochs=5,
            batch_size=4,
            on_epoch=lambda _: kept.append(net.parameters()),
            on_step=on_step,
            checkpoint=path,
        )
    for name, p in load(path).parameters().items():
        for other in (net.parameters()[name], kept[-1][name]):
            np.testing.assert_array_equal(p.mean, other.mean)
            np.testing.assert_array_equal(p.scale, other.scale)


def test_weights_that_run_away_are_placed():
    net = small_network()
    before = net.parameters()
    with pytest.raises(InputError, match=r"epoch 1, step 2 of 3: a weight is no longer finite"):
        train(net, *data(), epochs=1, batch_size=4, learning_rate=1e300)
    for name, p in net.parameters().items():
        np.testing.assert_allclose(p.mean, before[name].mean, rtol=1e-6)


def test_the_last_step_is_checked_too():
    """No later step would find it: one batch, one epoch."""
    with pytest.raises(InputError, match="epoch 1, step 1 of 1: a weight is no longer finite"):
        train(small_network(), *data(), epochs=1, learning_rate=1e300)


def test_a_weight_outside_its_prior_is_named():
    net = small_network(prior=DevicePrior(DeviceLaw(0.0, 0.0), 0.0, 0.1), law=DeviceLaw(0.0, 0.0))
    with pytest.raises(InputError, match=r"epoch 1, step 1 of 1: KL: weight .* so KL is infinite"):
        train(net, *data(), epochs=1)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("likelihood", "poisson", "likelihood 'poisson'"),
        ("likelihood", ["categorical"], "likelihood"),
        ("epochs", 0, "epochs is 0"),
        ("epochs", 2.0, "epochs is 2.0; expected an integer"),
        ("epochs", True, "epochs is True"),
        ("epochs", None, "epochs is None"),
        ("epochs", "3", "epochs is '3'"),
        ("batch_size", 0, "batch_size is 0"),
        ("batch_size", 1.5, "batch_size is 1.5"),
        ("n_samples", 0, "n_samples is 0"),
        ("n_samples", float("nan"), "n_samples is nan"),
        ("kl_warmup", -1, "kl_warmup is -1"),
        ("kl_warmup", 0.5, "kl_warmup is 0.5"),
        ("patience", 0, "patience is 0"),
        ("patience", "2", "patience is '2'"),
        ("seed", -1, "seed is -1"),
        ("seed", 0.5, "seed is 0.5"),
        ("seed", None, "seed is None"),
        ("learning_rate", 0.0, "learning_rate is 0.0"),
        ("learning_rate", float("nan"), "learning_rate is nan"),
        ("learning_rate", float("inf"), "learning_rate is inf"),
        ("learning_rate", "0.1", "learning_rate is '0.1'"),
        ("learning_rate", None, "learning_rate is None"),
        ("learning_rate", True, "learning_rate is True"),
        ("clip_norm", 0.0, "clip_norm is 0.0"),
        ("clip_norm", -1, "clip_norm is -1"),
        ("clip_norm", "1", "clip_norm is '1'"),
        ("schedule", "step", "schedule 'step'; expected one of constant, linear, cosine"),
        ("schedule", None, "schedule None"),
        ("schedule", [], "schedule"),
        ("dtype", "float16", "dtype 'float16'; expected one of float32, float64"),
        ("dtype", np.float16, "dtype 'float16'"),
        ("dtype", None, "dtype None"),
        ("local", "no", "local is 'no'; expected True or False"),
        ("local", 1, "local is 1"),
    ],
)
def test_options_out_of_range_are_refused(option, value, words):
    with pytest.raises(InputError, match=words):
        Options(**{option: value})


def test_options_take_the_numbers_of_numpy():
    """NumPy numbers are kept as plain ones, which a file can hold."""
    given: dict[str, Any] = {"epochs": np.int64(3), "seed": np.uint8(1), "clip_norm": 2}
    chosen = Options(learning_rate=np.float32(0.5), **given)  # type: ignore[arg-type]
    assert (chosen.epochs, chosen.seed, chosen.learning_rate, chosen.clip_norm) == (3, 1, 0.5, 2.0)
    assert type(chosen.epochs) is type(chosen.seed) is int
    assert type(chosen.learning_rate) is type(chosen.clip_norm) is float


@pytest.mark.parametrize("dtype", [np.float64, np.dtype("float64"), "float64"])
def test_a_type_is_taken_by_itself_or_by_name(dtype):
    assert Options(dtype=dtype).dtype == "float64"


def test_lists_train_as_arrays_do():
    x, y = data()
    nets = small_network(), small_network()
    train(nets[0], x, y, epochs=1)
    train(nets[1], x.tolist(), y.tolist(), epochs=np.int64(1), dtype=np.float32)
    for name, p in nets[0].parameters().items():
        np.testing.assert_array_equal(p.mean, nets[1].parameters()[name].mean)


def test_an_unknown_option_is_refused_with_the_nearest_one():
    with pytest.raises(InputError, match=r"^train: no option 'epoch'; did you mean 'epochs'\?$"):
        train(small_network(), *data(), epoch=1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_trains_with_threads():
    """No pool of the parent is left that the child would wait for."""
    x, y = data()
    train(small_network(), x, y, epochs=1, threads=2)
    child = get_context("fork").Process(
        target=train, args=(small_network(), x, y), kwargs={"epochs": 1, "threads": 2}
    )
    child.start()
    child.join(60)
    exited = child.exitcode
    child.kill()
    assert exited == 0


def test_options_that_do_not_fit_each_other_are_refused():
    x, y = data()
    targets = np.zeros((10, 3))
    with pytest.raises(InputError, match="patience without validation"):
        train(small_network(), x, y, patience=2)
    with pytest.raises(InputError, match="n_samples is 1; expected at least 2 for the like"):
        train(small_network(), x, targets, likelihood="energy", n_samples=1)
    with pytest.raises(InputError, match="local reparameterisation: expected the Gaussian law"):
        train(small_network(law=Bimodal()), x, y, local=True)
    with pytest.raises(InputError, match="no layer has weights"):
        train(Network([ReLU()]), x, y)
    net = small_network()
    net.set_parameters({**net.parameters(), "0.bias": Posterior(np.zeros(4), np.zeros(4))})
    with pytest.raises(InputError, match="a weight has scale 0"):
        train(net, x, y)
    with pytest.raises(InputError, match="validation x and y"):
        train(small_network(), x, y, validation=(x, y[:3]))
    with pytest.raises(InputError, match="validation x and y: x holds NaN"):
        train(small_network(), x, y, validation=(x * np.nan, y))


def test_inputs_beyond_single_precision_are_refused():
    x, y = data()
    with pytest.raises(InputError, match="x holds NaN, infinity"):
        train(small_network(), 1e300 * x, y)


def test_scales_start_where_they_were():
    """σ → ρ → σ changes nothing but rounding, before the first step."""
    net = small_network()
    scales = np.geomspace(1e-6, 30, 12).reshape(4, 3)
    net.set_parameters({**net.parameters(), "0.weight": Posterior(np.zeros((4, 3)), scales)})
    Training(net, Options(dtype="float64"))
    np.testing.assert_allclose(net.parameters()["0.weight"].scale, scales, rtol=1e-13)
    assert inverse_softplus(np.array(30.0)) == pytest.approx(30.0, rel=1e-12)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_loss_that_overflows_warns_of_nothing_else(threads):
    """One line, the error: no warning from the arithmetic, in whatever thread (they are errors)."""
    net = small_network()
    weight = Posterior(np.full((4, 3), 10.0), np.full((4, 3), 0.1))
    net.set_parameters({**net.parameters(), "0.weight": weight})
    words = "epoch 1, step 1 of 1: loss is nan .* layer 0, Dense, overflows at the means"
    with pytest.raises(InputError, match=words):
        train(net, 1e38 * np.ones((10, 3)), np.zeros(10, int), epochs=1, threads=threads)
