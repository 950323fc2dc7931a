"""Statistics of samples in blocks against those of all at once, by other code."""

import tracemalloc

import numpy as np
import pytest
from scipy import stats

from refbnn import Network, predict
from refbnn.layers import Dense, ReLU
from refbnn.prediction import predict as prediction
from refbnn.prediction.accumulation import CentralSums
from refbnn.prediction.predict import predict_targets
from refbnn.prediction.result import from_logit_samples


@pytest.mark.parametrize("sizes", [[1] * 100, [3, 1, 96], [50, 50], [100]])
def test_central_sums_of_blocks(sizes):
    """About 1e6 with spread 1: Σx² − n x̄² would keep four digits."""
    x = 1e6 + np.random.default_rng(0).gamma(2.0, size=(100, 3))
    ends = np.cumsum(sizes)
    found, *others = (CentralSums.of(x[e - n : e], 4) for e, n in zip(ends, sizes, strict=True))
    for other in others:
        found = found + other
    assert found.n == 100
    # x − mean is known to 1e6 ε = 2e-10 of its spread, and that 100 times at worst.
    np.testing.assert_allclose(found.mean, x.mean(axis=0), rtol=1e-14)
    for p, sum_ in zip((2, 3, 4), found.sums, strict=True):
        np.testing.assert_allclose(sum_, 100 * stats.moment(x, p), rtol=2e-8)


@pytest.fixture
def net():
    return Network([Dense(4, 8), ReLU(), Dense(8, 6)], seed=0)


X = np.random.default_rng(1).standard_normal((5, 4))


@pytest.mark.parametrize("numbers", [1, 7 * 30, 1 << 20])
def test_predictions_do_not_depend_on_the_block(net, monkeypatch, numbers):
    """One sample, seven samples, all samples at a time: those of `Network.sample`, all at once."""
    from refbnn.numerics.random.streams import stream

    monkeypatch.setattr(prediction, "_NUMBERS", numbers)
    samples = net.sample(X, 50, stream(3, "predict"))
    want = from_logit_samples(samples, predict(net, X).logits)
    done: list[int] = []
    found = predict(net, X, method="svi", n_samples=50, seed=3, on_samples=done.append)
    # Sums of 50 numbers in another order.
    np.testing.assert_allclose(found.probabilities, want.probabilities, rtol=1e-13)
    np.testing.assert_allclose(found.aleatoric, want.aleatoric, rtol=1e-13)
    np.testing.assert_allclose(found.logits.mean, samples.mean(axis=0), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.logits.var, samples.var(axis=0, ddof=1), rtol=1e-12)
    assert sum(done) == 50
    assert len(done) == {1: 50, 7 * 30: 8, 1 << 20: 1}[numbers]
    targets = predict_targets(net, X, 3, method="svi", n_samples=50, seed=3)
    np.testing.assert_allclose(targets.mean, samples[..., :3].mean(axis=0), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(targets.epistemic, samples[..., :3].var(axis=0, ddof=1), rtol=1e-12)
    np.testing.assert_allclose(targets.aleatoric, np.exp(samples[..., 3:]).mean(axis=0), rtol=1e-13)


def test_memory_does_not_grow_with_the_samples(monkeypatch):
    monkeypatch.setattr(prediction, "_NUMBERS", 50_000)
    net = Network([Dense(4, 10)], seed=0)
    x = np.ones((500, 4))

    def peak(n_samples: int) -> int:
        tracemalloc.start()
        try:
            predict(net, x, method="svi", n_samples=n_samples)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = peak(30), peak(300)
    # All 300 would take 12 MB for the logits alone; a block is 0.4 MB and its temporaries.
    assert many < 1.1 * few + 100_000
    assert many < 6_000_000
