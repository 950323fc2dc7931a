from typing import Any

import numpy as np
import pytest

import refbnn
from refbnn import InputError, Moments, Network, Posterior
from refbnn.layers import Dense, ReLU
from refbnn.noise import DeviceLaw


def small_network(**options):
    return Network([Dense(5, 8), ReLU(), Dense(8, 2)], **options)


def test_parameters_by_name():
    shapes = {name: p.shape for name, p in small_network().parameters().items()}
    assert shapes == {"0.weight": (8, 5), "0.bias": (8,), "2.weight": (2, 8), "2.bias": (2,)}


def test_the_seed_decides_the_means():
    first, same, other = (small_network(seed=s).parameters()["0.weight"].mean for s in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_one_seed_does_not_repeat_its_numbers():
    """Initial means, training and prediction with one seed draw from different streams."""
    from refbnn.numerics.random.streams import stream

    first = [stream(0, purpose).random() for purpose in ("initial means", "train", "predict")]
    assert len(set(first)) == 3
    assert stream(0, "train").random() == first[1]
    net = Network([Dense(50, 40)], seed=0)
    noise = net.sample(np.eye(50), 1, stream(0, "predict"))[0] - net.propagate(np.eye(50)).mean
    mean = net.parameters()["0.weight"].mean
    # 2000 pairs: a correlation of independent numbers has a deviation of 0.022.
    assert abs(np.corrcoef(noise.ravel(), mean.T.ravel())[0, 1]) < 0.1


def test_integer_input_counts_as_numbers():
    x = np.array([[200, 100, 50, 250, 0]], dtype=np.uint8)
    net = small_network()
    np.testing.assert_array_equal(net.propagate(x).var, net.propagate(x.astype(float)).var)
    assert net.sample(x.tolist(), 2, np.random.default_rng(0)).shape == (2, 1, 2)


def test_a_network_without_weights_has_samples_too():
    samples = Network([ReLU()]).sample(np.ones((2, 3)), 5, np.random.default_rng(0))
    assert samples.shape == (5, 2, 3)


def test_initial_means_have_the_spread_of_he():
    mean = Network([Dense(400, 300)], seed=0).parameters()["0.weight"].mean
    # Standard error of a standard deviation from 120,000 values: 0.2 %.
    assert mean.std() == pytest.approx(np.sqrt(2 / 400), rel=0.01)


def test_set_parameters_replaces_all_or_nothing():
    net = small_network()
    before = net.parameters()
    good = {name: Posterior(p.mean + 1, p.scale) for name, p in before.items()}
    for bad in (
        {**good, "7.weight": good["0.bias"]},
        {name: p for name, p in good.items() if name != "2.bias"},
        {**good, "0.bias": good["2.bias"]},
    ):
        with pytest.raises(InputError, match="parameter '"):
            net.set_parameters(bad)
        assert net.parameters() == before
    net.set_parameters(good)
    np.testing.assert_array_equal(net.parameters()["2.bias"].mean, good["2.bias"].mean)


def test_with_noise_keeps_means_and_scales_and_changes_the_shape():
    net = small_network()
    law = DeviceLaw(0.0, 0.0)
    other = net.with_noise(law)
    assert other.law is law
    assert other.parameters() == net.parameters()
    x = np.ones((1, 5))
    np.testing.assert_array_equal(other.propagate(x).var, net.propagate(x).var)
    noise = other.draw(np.random.default_rng(0), 50)[1]["0.weight"]
    assert np.abs(noise).max() <= np.sqrt(3)  # uniform noise is bounded, Gaussian is not


def test_what_parameters_hands_out_cannot_be_written():
    net = small_network(correlated=[0])
    other = net.with_noise(DeviceLaw(0.0, 0.0))
    for posterior in (*net.parameters().values(), *other.parameters().values()):
        for array in (posterior.mean, posterior.scale):
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0.0
            with pytest.raises(ValueError, match="WRITEABLE"):
                array.flags.writeable = True
    other.correlation[0][1, 0] = 1.0
    other.layers.append(ReLU())
    assert net.correlation[0][1, 0] == 0.0
    assert len(net.layers) == 3


def test_set_parameters_copies_what_it_is_given():
    net = small_network()
    given = {n: Posterior(p.mean.copy(), p.scale.copy()) for n, p in net.parameters().items()}
    net.set_parameters(given)
    before = net.parameters()["0.bias"].mean.copy()
    given["0.bias"].mean[:] = 7.0
    given["0.bias"].scale[:] = 7.0
    np.testing.assert_array_equal(net.parameters()["0.bias"].mean, before)
    assert (net.parameters()["0.bias"].scale != 7.0).all()


def test_lists_are_inputs_too():
    net, x = small_network(), np.arange(10.0).reshape(2, 5)
    weights = {name: p.mean for name, p in net.parameters().items()}
    np.testing.assert_array_equal(net.propagate(x.tolist()).var, net.propagate(x).var)
    np.testing.assert_array_equal(net.forward(x.tolist(), weights)[0], net.forward(x, weights)[0])
    for source in ({"rng": np.random.default_rng(0)}, {"seed": 1}):
        assert net.sample(x.tolist(), 2, **source).shape == (2, 2, 2)
    assert Network([Dense(5, 2)], input_shape=[5]).input_shape == (5,)


def test_a_sample_needs_one_source_of_noise():
    net, x = small_network(), np.ones((1, 5))
    both: Any
    for both in ({}, {"rng": np.random.default_rng(0), "seed": 0}):
        with pytest.raises(InputError, match=r"expected either rng=.* or seed="):
            net.sample(x, 2, **both)
    assert net.sample(x, seed=3).shape == (30, 1, 2)


def test_a_network_prints_its_layers_shapes_and_sizes():
    lines = repr(small_network(law=DeviceLaw(0.0, 0.0))).splitlines()
    assert lines[0] == "Network: input 5, law DeviceLaw, prior GaussianPrior"
    rows = [line.split() for line in lines[3:]]
    assert rows == [
        ["0", "Dense(5,", "8)", "8", "48"],
        ["1", "ReLU()", "8", "0"],
        ["2", "Dense(8,", "2)", "2", "18"],
        ["all", "66"],
    ]
    assert "?" in repr(Network([ReLU()]))


def test_one_layer_is_propagated_exactly():
    """No activation, no approximation: propagation against its own samples, 4 standard errors."""
    net = Network([Dense(5, 3)], law=DeviceLaw(-0.5, -0.5), seed=3)
    x = np.random.default_rng(0).standard_normal((2, 5))
    n = 40_000
    samples = net.sample(x, n, np.random.default_rng(1))
    moments = net.propagate(x)
    assert samples.shape == (n, 2, 3)
    z = (samples.mean(0) - moments.mean) / np.sqrt(moments.var / n)
    assert np.abs(z).max() < 4
    # The error of a variance is at most √(2/n) for a sum flatter than a Gaussian.
    assert np.abs(samples.var(0) / moments.var - 1).max() < 4 * np.sqrt(2 / n)


def test_random_input_is_propagated():
    net = small_network()
    x = np.ones((3, 5))
    known = net.propagate(x)
    same = net.propagate(Moments(x, np.zeros_like(x)))
    np.testing.assert_allclose(same.var, known.var, rtol=1e-14)
    wider = net.propagate(Moments(x, np.ones_like(x)))
    assert (wider.var > known.var).all()


def test_misfits_name_the_layer():
    with pytest.raises(InputError, match="no layers"):
        Network([])
    with pytest.raises(InputError, match=r"layer 1: Dense\(4, 2\): input has shape \(3,\)"):
        Network([Dense(5, 3), Dense(4, 2)]).propagate(np.ones((1, 5)))
    with pytest.raises(InputError, match="layer 0"):
        small_network().sample(np.ones((1, 4)), 2, np.random.default_rng(0))
    with pytest.raises(InputError, match="n_samples is 0"):
        small_network().sample(np.ones((1, 5)), 0, np.random.default_rng(0))


def test_the_package_offers_its_names():
    for name in refbnn.__all__:
        assert getattr(refbnn, name).__name__.removeprefix("refbnn.") == name
    assert callable(refbnn.train)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = refbnn.nothing
