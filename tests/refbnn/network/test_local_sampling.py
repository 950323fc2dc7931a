"""Outputs of layers sampled in place of weights: formula, words, law and what is refused."""

import numpy as np
import pytest
from scipy.stats import norm

from refbnn import Moments, Network, predict
from refbnn.errors import InputError
from refbnn.layers import Conv2d, Dense, Flatten, Layer, Normalise, ReLU, Residual
from refbnn.network import counter_sampling, local_sampling, network
from refbnn.network.local_sampling import words
from refbnn.noise import Bimodal
from refbnn.numerics.random.philox import philox
from refbnn.numerics.random.streams import stream
from refbnn.prediction.result import from_logit_samples


def net():
    return Network([Normalise(0.5, 2.0), Dense(4, 6), ReLU(), Dense(6, 3)], seed=2)


def inputs(n):
    return np.random.default_rng(1).standard_normal((n, 4))


def test_words_are_those_of_their_counters():
    seed = 5 + (7 << 32)
    got = words(seed, layer=3, sample=6, rows=range(2, 4), n_out=5)
    for row, i in enumerate((2, 3)):
        for o in range(5):
            counter = np.array([i * 5 + o, 3, 1, 1], np.uint32)
            assert got[row, o] == philox(counter, np.array([5, 7], np.uint32))[2]


def test_words_are_not_those_of_weights():
    of_outputs = [words(1, layer, s, range(8), 25) for layer in range(2) for s in range(5)]
    of_weights = [counter_sampling.words(1, layer, s, 10, 20) for layer in range(2) for s in (0, 1)]
    together = np.concatenate([array.ravel() for array in (*of_outputs, *of_weights)])
    # 2800 different counters; two of their words are equal with probability 2800²/2³³ = 1e-3.
    assert len(np.unique(together)) == len(together)


def test_more_outputs_than_counters_are_refused():
    with pytest.raises(InputError, match=r"at most 2\^32 outputs"):
        words(1, 0, 0, range(2**31, 2**31 + 1), 2)


def test_sample_is_the_formula_by_loops():
    x, seed = inputs(3), 11
    got = net().sample(x, 6, seed=seed, local=True)
    own = net().by_layer(net().parameters())
    for s in range(6):
        for i in range(3):
            y = (x[i] - 0.5) / 2.0
            for index in (1, 3):
                weight, bias = own[index]["weight"], own[index]["bias"]
                n_out = len(bias.mean)
                drawn = words(seed, index, s, range(3), n_out)[i]
                next_y = np.empty(n_out)
                for o in range(n_out):
                    m = bias.mean[o] + sum(weight.mean[o, k] * y[k] for k in range(len(y)))
                    v = bias.scale[o] ** 2
                    v += sum((weight.scale[o, k] * y[k]) ** 2 for k in range(len(y)))
                    next_y[o] = m + v**0.5 * norm.ppf((int(drawn[o]) + 0.5) / 2**32)
                y = np.maximum(next_y, 0.0) if index == 1 else next_y
            # Sums of at most 7 terms in float64; SciPy's quantile is another program.
            np.testing.assert_allclose(got[s, i], y, rtol=1e-9, atol=1e-9)


def test_an_input_has_its_noise_whatever_the_blocks_the_batch_and_the_samples(monkeypatch):
    x = inputs(5)
    whole = net().sample(x, 6, seed=3, local=True)
    np.testing.assert_array_equal(net().sample(x, 2, seed=3, local=True), whole[:2])
    # Matrix products of other sizes may round otherwise.
    np.testing.assert_allclose(net().sample(x[:2], 6, seed=3, local=True), whole[:, :2], rtol=1e-12)
    monkeypatch.setattr(network, "_BLOCK", 2)
    np.testing.assert_allclose(net().sample(x, 6, seed=3, local=True), whole, rtol=1e-12)


@pytest.mark.parametrize("source", [{"seed": 5}, {"rng": np.random.default_rng(5)}])
def test_one_layer_has_the_exact_moments_and_independent_inputs(source):
    layer, n = Network([Dense(4, 3)], seed=1), 4000
    x = np.repeat(inputs(1), 2, axis=0)  # the same input twice
    y = layer.sample(x, n, **source, local=True)
    exact = layer.propagate(x)
    # Five standard errors of a mean, a Gaussian variance and a correlation.
    assert (np.abs(y.mean(axis=0) - exact.mean) <= 5 * np.sqrt(exact.var / n)).all()
    assert (np.abs(y.var(axis=0) / exact.var - 1.0) <= 5 * np.sqrt(2 / n)).all()
    correlation = np.corrcoef(y.reshape(n, -1).T) - np.eye(6)
    assert (np.abs(correlation) <= 5 / np.sqrt(n)).all()


def test_without_spread_it_is_the_network_of_the_means():
    known = net()
    parameters = known.parameters()
    known.set_parameters(
        {name: type(p)(p.mean, np.zeros(p.shape)) for name, p in parameters.items()}
    )
    x = inputs(3)
    expected = known.propagate(x).mean
    np.testing.assert_allclose(
        known.sample(x, 2, seed=1, local=True), np.stack([expected] * 2), rtol=1e-12
    )


def test_predictions_are_those_of_the_samples():
    x = inputs(3)
    found = predict(net(), x, method="svi", n_samples=40, seed=2, local=True)
    logits = net().sample(x, 40, stream(2, "predict"), local=True)
    moments = Moments(logits.mean(axis=0), logits.var(axis=0, ddof=1))
    expected = from_logit_samples(logits, moments)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=1e-12)
    np.testing.assert_allclose(found.entropy, expected.entropy, rtol=1e-12)


IMAGES: list[Layer] = [Conv2d(1, 2, 2), Flatten(), Dense(8, 2)]


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (Network([Dense(4, 3)], law=Bimodal()), "the law is Bimodal; expected Gaussian"),
        (Network([Dense(4, 3)], correlated=[0]), r"layers \[0\] have correlated weights"),
        (Network(IMAGES, input_shape=(1, 3, 3)), "layer 0 is Conv2d; expected Dense"),
        (Network([Residual((Dense(4, 4),))]), "layer 0 is Residual; expected Dense"),
    ],
)
def test_other_networks_are_refused(refused, message):
    for call in (
        lambda: refused.sample(np.zeros((1, *(refused.input_shape or ()))), 2, seed=1, local=True),
        lambda: local_sampling.require_local(refused),
    ):
        with pytest.raises(InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_wrong_calls():
    with pytest.raises(InputError, match="local with the method 'pfp'; expected \"svi\""):
        predict(net(), inputs(1), local=True)
    with pytest.raises(InputError, match="either rng=, a generator of NumPy, or seed="):
        net().sample(inputs(1), 2, local=True)
    with pytest.raises(InputError, match="layer 1: an output is NaN, infinite"):
        net().sample(np.full((1, 4), 1e200), 2, seed=1, local=True)
