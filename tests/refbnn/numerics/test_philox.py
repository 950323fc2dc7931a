"""Philox against its published known answers; laws tabulated by float bits."""

from typing import Any

import mpmath
import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import kstest

from refbnn.errors import InputError
from refbnn.layers import Conv2d, Dense, Flatten, ReLU
from refbnn.network import counter_sampling
from refbnn.network.correlated_weights import uncorrelated
from refbnn.network.network import Network
from refbnn.noise import Bimodal, DeviceLaw, Gaussian, HeavyTailed, Mixture
from refbnn.noise.word_table import ERROR, SINGLE_ERROR, exact, gaps, word_table
from refbnn.numerics.random.philox import key_of, philox
from tests.helpers.word_loops import philox_loops, table_loops
from verification.kernels.sampling import words_of_all_octaves

# kat_vectors of Random123: counter, key, answer.
ONES = 0xFFFFFFFF
KNOWN = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([ONES] * 4, [ONES] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]
LAWS: dict[str, Any] = {
    "Gaussian": Gaussian(),
    "two peaks": Bimodal(),
    "two peaks, uneven": Bimodal(0.8, 0.3, 0.5),
    "empty gap": Bimodal(0.999),
    "gap aside": Bimodal(0.97, 0.3, 0.5),
    "gap in a tail": Bimodal(0.98, 0.002, 3.0),
    "two gaps": Mixture((0.3, 0.4, 0.3), (-3.0, 0.0, 5.0), (0.2, 0.3, 0.1)),
    "device": DeviceLaw(-0.3, 0.2, (0.3, 0.8)),
    "double well": DeviceLaw(0.0, 0.0, (0.3, 5.0)),
    "singular edges": DeviceLaw(-0.95, -0.95),
    "singular edge": DeviceLaw(-0.9, 3.0),
    "vanishing edges": DeviceLaw(50.0, 80.0),
    "heavy tails": HeavyTailed(0.7, 0.2),
    "heaviest tails": HeavyTailed(0.995, 0.9),
}


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_known_answers(counter, key, answer):
    counter, key = np.array(counter, np.uint32), np.array(key, np.uint32)
    np.testing.assert_array_equal(philox(counter, key), np.array(answer, np.uint32))
    np.testing.assert_array_equal(philox_loops(counter[np.newaxis], key)[0], philox(counter, key))


def test_loops_are_the_same():
    rng = np.random.default_rng(1)
    counters = rng.integers(0, 2**32, (1000, 4), dtype=np.uint32)
    for key in rng.integers(0, 2**32, (5, 2), dtype=np.uint32):
        np.testing.assert_array_equal(philox(counters, key), philox_loops(counters, key))


def test_a_seed_is_64_bits():
    np.testing.assert_array_equal(key_of(2**32 + 5), np.array([5, 1], np.uint32))
    np.testing.assert_array_equal(key_of(2**64 - 1), np.array([ONES, ONES], np.uint32))
    for seed in (-1, 2**64, 0.5, "1"):
        with pytest.raises(InputError, match="seed is"):
            key_of(seed)  # type: ignore[arg-type]


@pytest.mark.parametrize("label", LAWS)
def test_a_table_is_as_accurate_as_stated(label):
    law = LAWS[label]
    table = word_table(law)
    around = (table.cuts[:, np.newaxis] + np.arange(-99, 100)).ravel()
    around = around[(around >= 0) & (around < 2**32)].astype(np.uint32)
    rng = np.random.default_rng(2)
    words = np.sort(np.append(words_of_all_octaves(rng, 300_000, table.cuts), around))
    z, expected = table(words), exact(law, words)
    assert z.dtype == np.float32
    error = np.abs(z - expected) / np.maximum(1.0, np.abs(expected))
    assert error.max() <= SINGLE_ERROR
    # With fewer bits it would not be: m is the least.
    assert table.m == 2 or error.max() > ERROR / 100
    np.testing.assert_array_equal(table_loops(words, table.m, table.cuts, table.coefficients), z)
    # z rises with the word: two roundings of float32 where parts meet.
    assert (np.diff(z) >= -(2.0**-22) * np.maximum(1.0, np.abs(z[1:]))).all()


@pytest.mark.parametrize(("d", "w", "r"), [(0.9, 0.5, 1.0), (0.97, 0.3, 0.5), (0.998, 0.01, 1.0)])
def test_a_gap_is_where_the_density_is_least(d, w, r):
    law = Bimodal(d, w, r)
    mu = law.components[1]
    bottom = minimize_scalar(law.log_pdf, bounds=tuple(mu), options={"xatol": 1e-12})
    # Places between quantiles are tried by 64: z is within one of these steps, so that Q is within
    # what lies there; in an empty gap, nothing.
    (u,) = gaps(law)
    step = np.diff(law.icdf(np.array([u - 2e-3, u + 2e-3]))) / 64
    assert abs(u - law.cdf(bottom.x)) <= 2 * step * np.exp(law.log_pdf(bottom.x + step)) + 1e-15
    assert (word_table(law).cuts[1:-1] == np.round(u * 2**32)).all()


def test_a_law_of_one_peak_or_a_shallow_minimum_has_no_gap():
    for law in (Gaussian(), HeavyTailed(0.995, 0.9), DeviceLaw(2.0, 3.0), Bimodal(0.8)):
        assert gaps(law).size == 0
        np.testing.assert_array_equal(word_table(law).cuts, [0, 2**32])


def test_words_beside_a_gap_against_mpmath():
    law = Bimodal(0.95, 0.3, 0.5)
    (cut,) = word_table(law).cuts[1:-1]
    words = (cut + np.array([-1000, -40, -3, -1, 0, 2, 50, 3000])).astype(np.uint32)
    parts = [
        [mpmath.mpf(float(number)) for number in part] for part in zip(*law.components, strict=True)
    ]
    with mpmath.workdps(40):

        def above(z, u):
            return sum(w * mpmath.ncdf((z - mu) / s) for w, mu, s in parts) - u

        roots = [
            mpmath.findroot(
                lambda z, n=n: above(z, (mpmath.mpf(int(n)) + 0.5) / 2**32),
                (law.components[1][0], law.components[1][1]),
                solver="anderson",
                tol=1e-30,
            )
            for n in words
        ]
    z = np.array(roots, float)
    # What the inverse's error in u, 1e-13 in a gap, makes of z.
    allowed = 1e-13 / np.exp(law.log_pdf(z))
    assert (np.abs(exact(law, words) - z) <= allowed).all()
    assert (np.abs(word_table(law)(words) - z) <= SINGLE_ERROR + allowed).all()
    assert allowed.max() <= SINGLE_ERROR


def test_both_ends_of_a_table_against_mpmath():
    # v = (w + ½) 2⁻³² is exact for these; from the upper end 1 − v needs more than 53 bits.
    w = np.array([0, 1, 5, 1000, 2**20 + 1, 2**22 + 3], np.uint32)
    table = word_table(Gaussian())
    with mpmath.workdps(40):
        tail = [
            mpmath.sqrt(2) * mpmath.erfinv(2 * mpmath.mpf(2 * int(n) + 1) / 2**33 - 1) for n in w
        ]
    z = np.array(tail, float)
    np.testing.assert_allclose(exact(Gaussian(), w), z, rtol=1e-11)
    np.testing.assert_allclose(exact(Gaussian(), ~w), -z, rtol=1e-11)
    np.testing.assert_allclose(table(w), z, rtol=SINGLE_ERROR)
    np.testing.assert_allclose(table(~w), -z, rtol=SINGLE_ERROR)


@pytest.mark.parametrize("label", ["Gaussian", "two gaps", "double well", "heavy tails"])
def test_samples_have_the_moments_and_the_distribution_of_the_law(label):
    law, n = LAWS[label], 4_000_000
    counters = np.zeros((n // 4, 4), np.uint32)
    counters[:, 0] = np.arange(n // 4)
    words, table = philox_loops(counters, key_of(7)).ravel(), word_table(law)
    z = table_loops(words, table.m, table.cuts, table.coefficients).astype(float)
    rule, power = law.quadrature(8), np.ones(n)
    for k in range(1, 5):
        power *= z
        exact_moment = rule.expect(rule.nodes**k)
        error = np.sqrt((rule.expect(rule.nodes ** (2 * k)) - exact_moment**2) / n)
        # Five standard errors: one false alarm in 10⁵ of 16 comparisons. SINGLE_ERROR is far less.
        assert abs(power.mean() - exact_moment) <= 5 * error
    assert kstest(law.cdf(z[:200_000]), "uniform").pvalue > 1e-4


def test_a_law_that_cubics_do_not_follow_is_refused():
    with pytest.raises(InputError, match="falls off at its ends and between peaks alone"):
        word_table(Bimodal(0.5, 0.5, 1000.0))  # a spike on a plateau


def test_rows_do_not_share_numbers_and_do_not_depend_on_what_else_is_drawn():
    whole = counter_sampling.words(5, layer=2, sample=3, n_out=7, n=9)
    assert len(np.unique(whole)) == whole.size
    np.testing.assert_array_equal(counter_sampling.words(5, 2, 3, 4, 9), whole[:4])
    # As documented: number 4b + j of row o is word j of the counter (3o + b, layer, sample, 0).
    counter = np.array([3 * 6 + 1, 2, 3, 0], np.uint32)
    np.testing.assert_array_equal(whole[6, 4:8], philox(counter, np.array([5, 0], np.uint32)))
    for other in ((6, 2, 3), (5, 1, 3), (5, 2, 4)):
        assert not np.isin(counter_sampling.words(*other, 7, 9), whole).any()


def test_a_network_is_sampled_reproducibly():
    net = Network(
        [Conv2d(1, 3, 3), ReLU(), Flatten(), Dense(3 * 36, 4)],
        law=Bimodal(),
        seed=1,
        input_shape=(1, 8, 8),
    )
    x = np.random.default_rng(4).random((5, 1, 8, 8))
    y = net.sample(x, 3, seed=11)
    assert y.shape == (3, 5, 4)
    np.testing.assert_array_equal(net.sample(x, 2, seed=11), y[:2])
    weights, z = counter_sampling.draw(net, 11, 2)
    np.testing.assert_array_equal(net.forward(x, weights)[0], y[2])
    # The bias is the last number of its row.
    words = counter_sampling.words(11, 0, 2, 3, 10)
    np.testing.assert_array_equal(z["0.bias"], exact(net.law, words)[:, 9])
    np.testing.assert_array_equal(z["0.weight"].reshape(3, 9), exact(net.law, words)[:, :9])


def test_moments_over_samples_of_a_network_are_those_of_its_weights():
    net = Network([Dense(3, 2)], law=DeviceLaw(-0.5, 0.5), seed=1)
    x, n = np.array([[1.0, -2.0, 0.5]]), 4000
    y = net.sample(x, n, seed=3)[:, 0]
    moments = net.propagate(x)
    # Five standard errors of the mean; of the variance, whose kurtosis is below a normal law's.
    assert (np.abs(y.mean(axis=0) - moments.mean[0]) <= 5 * np.sqrt(moments.var[0] / n)).all()
    assert (np.abs(y.var(axis=0) / moments.var[0] - 1) <= 5 * np.sqrt(2 / n)).all()


def test_what_cannot_be_sampled_reproducibly():
    net = Network([Dense(3, 2)], correlated=[0])
    assert uncorrelated(8).shape == net.correlation[0].shape
    with pytest.raises(InputError, match="correlated"):
        net.sample(np.zeros((1, 3)), 1, seed=0)
    with pytest.raises(InputError, match="n_samples is 0"):
        Network([Dense(3, 2)]).sample(np.zeros((1, 3)), 0, seed=0)
