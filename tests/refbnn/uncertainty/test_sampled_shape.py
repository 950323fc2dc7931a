"""Shapes by sampled passes, where they are known in closed form."""

import numpy as np
import pytest
from scipy import stats

from refbnn import Network, Posterior, cli
from refbnn.errors import InputError
from refbnn.layers import Conv2d, Dense, Flatten, MaxPool2d
from refbnn.prediction.accumulation import CentralSums
from refbnn.uncertainty.diagnostics.diagnose import THRESHOLD, diagnose
from refbnn.uncertainty.diagnostics.non_gaussianity import estimated, p_values, standard_errors
from refbnn.uncertainty.diagnostics.sampled import FEWEST, SAMPLES


def test_estimates_are_those_of_scipy():
    x = np.random.default_rng(0).gamma(3.0, size=(40, 7))
    shape = estimated(CentralSums.of(x, 4))
    np.testing.assert_allclose(shape.skewness, stats.skew(x, bias=False), rtol=1e-12)
    np.testing.assert_allclose(shape.kurtosis, stats.kurtosis(x, bias=False), rtol=1e-12)


@pytest.mark.parametrize("S", [20, 200, 800])
def test_chance(S):
    """Standard errors, bias and p against other draws of Gaussians."""
    n = 8_000
    shape = estimated(CentralSums.of(np.random.default_rng(1).standard_normal((S, n)), 4))
    error = standard_errors(S)
    for found, wanted in (
        (shape.skewness, error.skewness),
        (shape.kurtosis, error.kurtosis),
    ):
        assert abs(found.mean()) < 4.0 * wanted / np.sqrt(n)
        # Relative standard error of a variance √((κ+2)/n), κ the estimate's own: four of them.
        relative = np.sqrt((stats.kurtosis(found) + 2.0) / n)
        assert found.var() == pytest.approx(wanted**2, rel=4.0 * relative)
    # The leading order; 200 is large, 20 is not.
    if S >= 200:
        assert error.skewness == pytest.approx(np.sqrt(6 / S), rel=0.03)
        assert error.kurtosis == pytest.approx(np.sqrt(24 / S), rel=0.03)
    p = p_values(shape.divergence, S)
    for level in (0.05, 0.005):
        # Binomial errors of the 8,000 here and the 100,000 of the table.
        spread = np.sqrt(level * (1 - level) * (1 / n + 1e-5))
        share = np.mean(p <= level)
        # Beyond 200 draws, by the table of 200: 2 % too often at most; at 0.05 hardly too rarely.
        assert share < (1.0 if S <= 200 else 1.02) * level + 4.0 * spread
        if S <= 200 or level == 0.05:
            assert share > (1.0 if S <= 200 else 0.9) * level - 4.0 * spread
    assert p_values(np.array([np.inf]), S)[0] == pytest.approx(1e-5, rel=1e-4)


def folded() -> tuple[Network, np.ndarray]:
    """y = c·max(w, −w, w, −w) = c |w| with w ~ N(0, σ²): half-normal."""
    net = Network(
        [Conv2d(1, 1, 1), MaxPool2d(2, method="exact"), Flatten(), Dense(1, 1)],
        input_shape=(1, 2, 2),
        seed=0,
    )
    own = {
        "0.weight": Posterior(np.zeros((1, 1, 1, 1)), np.full((1, 1, 1, 1), 0.7)),
        "0.bias": Posterior(np.zeros(1), np.zeros(1)),
        "3.weight": Posterior(np.full((1, 1), 2.0), np.zeros((1, 1))),
        "3.bias": Posterior(np.zeros(1), np.zeros(1)),
    }
    net.set_parameters(own)
    return net, np.array([[[[1.0, -1.0], [1.0, -1.0]]]])


def test_shape_behind_pooling():
    """Formulas to first order take it for Gaussian; draws do not."""
    net, x = folded()
    n = 2000
    conv, dense = diagnose(net, x, n_samples=n)
    assert not conv.flagged().any()
    assert not (dense.first_order.divergence > 0.0).any()
    assert dense.sampled is not None
    assert dense.flagged().all()
    mean, var, skewness, kurtosis = stats.halfnorm.stats(moments="mvsk")
    # The method takes the four for independent: variance 0.49172 (mean 1.02938) of the greatest
    # of four standard normals (Teichroew 1956).
    own = dense.sampled
    # Four standard errors each, of a half-normal, by 300 repetitions with SciPy.
    repeated = np.abs(np.random.default_rng(3).standard_normal((n, 300)))
    spread = [s(repeated).std() for s in (_var, stats.skew, stats.kurtosis)]
    assert own.variance_ratio.item() == pytest.approx(var / 0.49172, abs=4 * spread[0] / 0.49172)
    assert own.non_gaussianity.skewness.item() == pytest.approx(skewness, abs=4 * spread[1])
    assert own.non_gaussianity.kurtosis.item() == pytest.approx(kurtosis, abs=4 * spread[2])
    shift = (mean - 1.02938) / np.sqrt(0.49172)
    assert own.mean_shift.item() == pytest.approx(shift, abs=4 * np.sqrt(var / n / 0.49172))
    # The default number is enough to see it: D is 0.1, six times the threshold.
    assert diagnose(net, x)[1].flagged().all()
    assert not diagnose(net, x, n_samples=0)[1].flagged().any()


def _var(x):
    return x.var(axis=0, ddof=1)


def test_outputs_without_variance_have_no_shape():
    """Draws that are all alike, and whose mean rounds: 0.1 is no binary fraction."""
    net = Network([Dense(3, 4)], seed=0)
    net.set_parameters(
        {
            n: Posterior(np.full(p.shape, 0.1), np.zeros(p.shape))
            for n, p in net.parameters().items()
        }
    )
    x = np.random.default_rng(0).standard_normal((20, 3))
    (found,) = diagnose(net, x)
    assert found.sampled is not None
    np.testing.assert_array_equal(found.sampled.variance_ratio, 1.0)
    np.testing.assert_array_equal(found.sampled.mean_shift, 0.0)
    np.testing.assert_array_equal(found.sampled.non_gaussianity.skewness, 0.0)
    np.testing.assert_array_equal(found.sampled.non_gaussianity.kurtosis, 0.0)
    assert not found.flagged(1e-9).any()


def test_gaussian_outputs_are_not_flagged():
    """Known inputs and Gaussian weights: 4000 entries, of which D alone would flag some."""
    net = Network([Dense(6, 40)], seed=0)
    x = np.random.default_rng(0).standard_normal((100, 6))
    (found,) = diagnose(net, x)
    assert found.sampled is not None
    assert (found.sampled.divergence > THRESHOLD).any()
    assert not found.flagged().any()
    # 40 units of independent weights; four standard errors of √(2/S)/√40 for their mean ratio.
    error = np.sqrt(2 / SAMPLES / 40)
    assert found.sampled.variance_ratio.mean() == pytest.approx(1.0, abs=4 * error)


def test_blocks_of_inputs_share_their_draws(monkeypatch):
    net, x = folded()
    net.set_parameters(
        {n: Posterior(p.mean + 0.1, p.scale + 0.3) for n, p in net.parameters().items()}
    )
    x = np.repeat(x, 3, axis=0) * np.array([1.0, 0.5, 2.0])[:, None, None, None]
    _, whole = diagnose(net, x, n_samples=30)
    steps: list[int] = []
    monkeypatch.setattr("refbnn.uncertainty.diagnostics.diagnose.BLOCK", 2)
    monkeypatch.setattr("refbnn.uncertainty.diagnostics.sampled._NUMBERS", 1)  # a draw at a time
    _, parted = diagnose(net, x, n_samples=30, on_inputs=steps.append)
    assert steps == [2, 1]
    assert whole.sampled is not None
    assert parted.sampled is not None
    for name in ("mean_shift", "variance_ratio", "divergence"):
        a, b = getattr(whole.sampled, name), getattr(parted.sampled, name)
        np.testing.assert_allclose(a, b, rtol=1e-10)  # 30 sums in another order
    other = diagnose(net, x, n_samples=30, seed=1)[1].sampled
    assert other is not None
    assert not np.allclose(other.variance_ratio, whole.sampled.variance_ratio)


def test_numbers_of_draws(capsys):
    net, x = folded()
    with pytest.raises(InputError, match="n_samples is 19; expected 0, or at least 20"):
        diagnose(net, x, n_samples=19)
    with pytest.raises(SystemExit):
        cli.main(["diagnose", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert f"at least {FEWEST}:" in text
    assert f"(default: {SAMPLES})" in text
