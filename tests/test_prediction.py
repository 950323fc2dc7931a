import numpy as np
import pytest

from refbnn import InputError, Moments, Network, predict
from refbnn.layers import Dense, ReLU
from refbnn.uncertainty import auroc, from_logit_samples


def test_entropies_by_hand():
    """Two samples that disagree with certainty: all of the uncertainty is epistemic."""
    sure = 1000.0
    samples = np.array([[[sure, 0.0]], [[0.0, sure]]])
    p = from_logit_samples(samples, Moments(samples.mean(0), samples.var(0)))
    np.testing.assert_allclose(p.probabilities, [[0.5, 0.5]])
    assert p.entropy[0] == pytest.approx(np.log(2))
    assert p.aleatoric[0] == pytest.approx(0.0, abs=1e-15)
    assert p.mutual_information[0] == pytest.approx(np.log(2))
    # Two samples that agree on even odds: all of it is aleatoric.
    p = from_logit_samples(np.zeros((2, 1, 2)), Moments(np.zeros((1, 2)), np.zeros((1, 2))))
    assert p.aleatoric[0] == pytest.approx(np.log(2))
    assert p.mutual_information[0] == 0.0


def test_auroc_counts_pairs():
    rng = np.random.default_rng(0)
    inside, outside = rng.integers(0, 5, 40).astype(float), rng.integers(1, 7, 30).astype(float)
    wins = (outside[:, None] > inside).mean() + 0.5 * (outside[:, None] == inside).mean()
    got, error = auroc(inside, outside)
    assert got == pytest.approx(wins)
    # The bootstrap's standard error agrees with Hanley and McNeil's to some ten per cent.
    draws = [auroc(rng.choice(inside, 40), rng.choice(outside, 30))[0] for _ in range(400)]
    assert error == pytest.approx(np.std(draws), rel=0.3)
    assert auroc(np.zeros(3), np.ones(3))[0] == 1.0


def test_both_methods_agree_where_propagation_is_exact():
    net = Network([Dense(4, 3)], seed=0)
    x = np.random.default_rng(0).standard_normal((6, 4))
    by_pfp = predict(net, x, method="pfp")
    by_svi = predict(net, x, method="svi", n_samples=20_000)
    # 20,000 samples: √(0.25/20,000) = 0.0035 standard error at most, four of them.
    np.testing.assert_allclose(by_pfp.probabilities, by_svi.probabilities, atol=0.014)
    np.testing.assert_allclose(by_pfp.logits.mean, by_svi.logits.mean, atol=0.02)
    np.testing.assert_allclose(by_pfp.logits.var, by_svi.logits.var, rtol=0.05)
    assert by_pfp.labels.shape == by_svi.labels.shape == (6,)


def test_seed_repeats_a_prediction():
    net = Network([Dense(4, 8), ReLU(), Dense(8, 3)], seed=0)
    x = np.ones((2, 4))
    for method, n in (("pfp", 30), ("svi", None)):
        first, again, other = (
            predict(net, x, method=method, n_samples=n, seed=s) for s in (1, 1, 2)
        )
        np.testing.assert_array_equal(first.probabilities, again.probabilities)
        assert not np.array_equal(first.probabilities, other.probabilities)
    first, other = (predict(net, x, method="pfp", seed=s) for s in (1, 2))
    np.testing.assert_array_equal(first.probabilities, other.probabilities)


def test_bad_calls_are_refused():
    net = Network([Dense(4, 3)])
    with pytest.raises(InputError, match="method 'mc'"):
        predict(net, np.ones((1, 4)), method="mc")
    with pytest.raises(InputError, match="n_samples is 1"):
        predict(net, np.ones((1, 4)), n_samples=1)
