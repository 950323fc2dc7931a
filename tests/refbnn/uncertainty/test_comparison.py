"""Propagation against sampled passes: measures and their errors, on small networks."""

import numpy as np
import pytest

from refbnn import InputError, Network, Posterior, predict
from refbnn.layers import Dense, ReLU
from refbnn.uncertainty.auroc import auroc
from refbnn.uncertainty.evaluation import of_classes
from refbnn.uncertainty.pfp_vs_svi import BLOCKS, Measure, compare, placements


@pytest.fixture(scope="module")
def case():
    net = Network([Dense(4, 12), ReLU(), Dense(12, 3)], seed=0)
    net.set_parameters(
        {n: Posterior(p.mean, np.full(p.shape, 0.25)) for n, p in net.parameters().items()}
    )
    rng = np.random.default_rng(0)
    x, outside = rng.standard_normal((60, 4)), 2.0 * rng.standard_normal((50, 4))
    return net, x, predict(net, x).labels, outside


@pytest.mark.parametrize("method", ["pfp", "linearised", "full"])
def test_measures_are_those_of_evaluation(case, method):
    net, x, y, outside = case
    found = compare(net, x, y, outside, method=method, n_samples=210, seed=4)
    ours, theirs = (
        of_classes(predict(net, x, **how), y, predict(net, outside, **how))
        for how in ({"method": method, "seed": 4}, {"method": "svi", "n_samples": 210, "seed": 4})
    )
    seen = 0
    for key, m in found.items():
        if m.sampled is None:
            continue
        seen += 1
        assert m.sampled == pytest.approx(theirs[key], rel=1e-10)
        assert m.propagated == pytest.approx(ours[key], rel=1e-10)
        assert m.difference == pytest.approx(ours[key] - theirs[key], abs=1e-12)
    assert seen == 7
    a, b = (
        predict(net, outside, method=m, seed=4, n_samples=n)
        for m, n in ((method, None), ("svi", 210))
    )
    apart = {
        "predictive_entropy_outside_nats": np.abs(a.entropy - b.entropy),
        "mutual_information_outside_nats": np.abs(a.mutual_information - b.mutual_information),
        "probability_outside": np.abs(a.probabilities - b.probabilities),
    }
    for key, each in apart.items():
        got = found[f"absolute_difference_{key}"]
        assert got.difference == pytest.approx(each.mean(), rel=1e-10)
        assert got.limit is None
        assert got.held


def test_monte_carlo_errors_are_the_spread_of_repetitions(case):
    net, _, _, outside = case
    x = np.random.default_rng(5).standard_normal((100, 4))
    # By the mean weights: labels of the propagation would be right only where noise is not.
    means = {name: p.mean for name, p in net.parameters().items()}
    y = net.forward(x, means)[0].argmax(axis=-1)
    y[::2] = (y[::2] + 1) % 3
    runs = [compare(net, x, y, outside, n_samples=64, seed=seed) for seed in range(40)]
    for key in runs[0]:
        spread = np.std([run[key].difference for run in runs], ddof=1)
        stated = np.sqrt(np.mean([run[key].monte_carlo_se ** 2 for run in runs]))
        # The spread of 40 is known to 1/√78 = 11 %; four of these.
        assert stated == pytest.approx(spread, rel=0.45), key


def test_placements_count_pairs():
    rng = np.random.default_rng(0)
    inside, outside = rng.integers(0, 5, 40).astype(float), rng.integers(1, 7, 30).astype(float)
    pairs = (outside > inside[:, None]) + 0.5 * (outside == inside[:, None])
    v, w = placements(inside, outside)
    np.testing.assert_allclose(v, pairs.mean(axis=1))
    np.testing.assert_allclose(w, pairs.mean(axis=0))
    assert v.mean() == pytest.approx(auroc(inside, outside)[0])


def test_errors_from_the_choice_of_inputs(case):
    """Against the bootstrap over inputs, both methods on the same ones."""
    net, x, y, outside = case
    y = np.where(np.arange(len(y)) % 4 == 0, (y + 1) % 3, y)  # so that SVI is right now and then
    found = compare(net, x, y, outside, n_samples=40)
    p, s = (
        [predict(net, z, method=m, n_samples=n) for z in (x, outside)]
        for m, n in (("pfp", None), ("svi", 40))
    )
    rng = np.random.default_rng(1)
    draws: dict[str, list] = {"accuracy": [], "auroc_mutual_information": []}
    for _ in range(600):
        i, j = rng.integers(0, len(x), len(x)), rng.integers(0, len(outside), len(outside))
        right = [(by[0].labels == y)[i].mean() for by in (p, s)]
        draws["accuracy"].append(right[0] - right[1])
        area = [auroc(by[0].mutual_information[i], by[1].mutual_information[j])[0] for by in (p, s)]
        draws["auroc_mutual_information"].append(area[0] - area[1])
    for key, values in draws.items():
        # 600 draws: 3 %; the bootstrap's own bias 1/n and ties of repeated inputs: some 10 %.
        wanted = np.std(values)
        assert wanted > 0.0
        assert found[key].inputs_se == pytest.approx(wanted, rel=0.2)


def test_limits(case):
    net, x, y, outside = case
    found = compare(net, x, y, outside, n_samples=40)
    limits = {key: m.limit for key, m in found.items() if m.limit is not None}
    assert limits == {
        "accuracy": 0.002,
        "auroc_mutual_information": 0.01,
        "auroc_predictive_entropy": 0.01,
    }
    assert Measure(0.979, 0.981, -0.002, 0.0, None, 0.002).held
    assert not Measure(0.9, 0.92, -0.02, 0.0, None, 0.01).held
    alone = compare(net, x, y, n_samples=40)
    assert [key for key, m in alone.items() if m.limit is not None] == ["accuracy"]
    assert not any("outside" in key for key in alone)


def test_refusals(case):
    net, x, y, _ = case
    with pytest.raises(InputError, match="60 inputs, 50 labels; expected as many"):
        compare(net, x, y[:50], n_samples=40)
    with pytest.raises(InputError, match="0 inputs, 0 labels"):
        compare(net, x[:0], y[:0], n_samples=40)
    with pytest.raises(InputError, match="expected integers from 0 to 2"):
        compare(net, x, y + 1, n_samples=40)
    for wrong in (x[:, :3], x[:0]):
        with pytest.raises(InputError, match=r"outside of shape .*; expected \(N, \*\(4,\)\)"):
            compare(net, x, y, wrong, n_samples=40)
    with pytest.raises(InputError, match="method 'svi'; expected 'pfp' or 'linearised' or 'full'"):
        compare(net, x, y, method="svi")
    with pytest.raises(InputError, match=f"n_samples is 31; expected at least {2 * BLOCKS}"):
        compare(net, x, y, n_samples=31)
