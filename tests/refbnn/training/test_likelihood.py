"""Every likelihood against SciPy's densities and explicit loops, its gradient by differences."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax

from refbnn.errors import InputError
from refbnn.training.likelihood import (
    LIKELIHOODS,
    Bernoulli,
    Categorical,
    EnergyScore,
    HeteroscedasticGaussian,
    HomoscedasticGaussian,
    likelihood_named,
)
from tests.helpers.derivatives import complex_step

NOISE = (0.5, 2.0, 1.0, 0.1)
ALL = {**LIKELIHOODS, "one noise": HomoscedasticGaussian(NOISE)}
NAMES = pytest.mark.parametrize("name", ALL)


def case(name, n_samples=4, batch=5, seed=0):
    """Outputs (S, B, 4) and targets: 4 classes, 2 means and log variances, or 4 targets.

    One output, and 2 classes, for the Bernoulli likelihood.
    """
    rng = np.random.default_rng(seed)
    outputs = 2 * rng.standard_normal((n_samples, batch, 4))
    if name == "categorical":
        return outputs, rng.integers(0, 4, batch)
    if name == "bernoulli":
        return outputs[..., :1], rng.integers(0, 2, batch)
    return outputs, rng.standard_normal((batch, 2 if name == "gaussian" else 4))


def log_density(name, output, target):
    """Log p of one example under one sample, by SciPy."""
    if name == "categorical":
        return log_softmax(output)[target]
    if name == "bernoulli":
        return float(stats.bernoulli.logpmf(target, 1.0 / (1.0 + np.exp(-output[0]))))
    if name == "one noise":
        return float(stats.norm.logpdf(target, output, NOISE).sum())
    m, t = output[:2], output[2:]
    return float(stats.norm.logpdf(target, m, np.exp(t / 2)).sum())


def energy_loop(outputs, target):
    """The energy score of one example, outputs (S, D), by its definition."""
    s = len(outputs)
    to_target = sum(np.linalg.norm(f - target) for f in outputs)
    pairs = sum(np.linalg.norm(a - b) for i, a in enumerate(outputs) for b in outputs[:i])
    return 2 / s * to_target - 2 * pairs / (s * (s - 1))


@NAMES
def test_value_against_loops(name):
    outputs, y = case(name)
    if name == "energy":
        want = sum(energy_loop(outputs[:, b], y[b]) for b in range(len(y)))
    else:
        want = np.mean(
            [-sum(log_density(name, o[b], y[b]) for b in range(len(y))) for o in outputs]
        )
    got, _ = ALL[name](outputs, y)
    assert isinstance(got, float)
    assert got == pytest.approx(want, rel=1e-13)  # some tens of roundings


@NAMES
def test_predictive_score_against_loops(name):
    """−log of the mean density, example by example."""
    outputs, y = case(name)

    def score(b):
        if name == "energy":
            return energy_loop(outputs[:, b], y[b])
        return -np.log(np.mean([np.exp(log_density(name, o[b], y[b])) for o in outputs]))

    got = ALL[name].predictive_score(outputs, y)
    assert got.shape == (5,)
    np.testing.assert_allclose(got, [score(b) for b in range(5)], rtol=1e-12)


@NAMES
def test_gradient_by_complex_step(name):
    """Complex step through the value, written in analytic functions; |a| as √(a·a)."""
    outputs, y = case(name, n_samples=3, batch=2)

    def categorical(f):
        picked = np.take_along_axis(f, y[np.newaxis, :, np.newaxis], axis=-1)[..., 0]
        return (np.log(np.exp(f).sum(axis=-1)) - picked).sum() / 3

    def gaussian(f):
        m, t = f[..., :2], f[..., 2:]
        return (0.5 * ((y - m) ** 2 / np.exp(t) + t)).sum() / 3

    def energy(f):
        to_target = np.sqrt(((f - y) ** 2).sum(axis=-1)).sum()
        pairs = sum(
            np.sqrt(((f[i] - f[j]) ** 2).sum(axis=-1)).sum() for i, j in ((0, 1), (0, 2), (1, 2))
        )
        return 2 / 3 * to_target - 2 / 6 * pairs

    def bernoulli(f):
        return (np.log(1.0 + np.exp(f[..., 0])) - y * f[..., 0]).sum() / 3

    def one_noise(f):
        return (0.5 * ((y - f) / NOISE) ** 2).sum() / 3

    value = {
        "categorical": categorical,
        "bernoulli": bernoulli,
        "gaussian": gaussian,
        "energy": energy,
        "one noise": one_noise,
    }[name]
    _, grad = ALL[name](outputs, y)
    # The step is exact; sums of at most 8 terms of order 1 round to 1e-14.
    np.testing.assert_allclose(grad, complex_step(value, outputs), rtol=1e-12, atol=1e-14)


@NAMES
def test_gradient_is_that_of_the_value(name):
    """Central differences of the value itself: a common factor would show here."""
    outputs, y = case(name)
    likelihood, step = ALL[name], 1e-5
    _, grad = likelihood(outputs, y)
    last = outputs.shape[-1] - 1
    for index in [(0, 0, 0), (1, 2, last), (3, 4, min(1, last))]:
        shifted = [outputs.copy() for _ in range(2)]
        shifted[0][index] += step
        shifted[1][index] -= step
        slope = (likelihood(shifted[0], y)[0] - likelihood(shifted[1], y)[0]) / (2 * step)
        # Truncation of order step² = 1e-10, rounding 1e-14 of a value near 100 over the step.
        assert grad[index] == pytest.approx(slope, abs=1e-7)


@NAMES
def test_float32_is_kept_and_agrees(name):
    outputs, y = case(name)
    value, grad = ALL[name](outputs, y)
    small = outputs.astype(np.float32)
    value_32, grad_32 = ALL[name](small, y)
    assert grad_32.dtype == np.float32
    np.testing.assert_array_equal(small, outputs.astype(np.float32))  # not overwritten
    # Sums of a few terms, each rounded to 6e-8; precisions up to e^5 magnify that of y − m.
    assert value_32 == pytest.approx(value, rel=2e-6)
    np.testing.assert_allclose(grad_32, grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_logits_stay_exact(dtype):
    outputs = np.array([[[1e4, 0.0, -1e4], [3e4, 3e4, 3e4]]], dtype=dtype)
    value, grad = Categorical()(outputs, np.array([2, 1]))
    # −log p = 2e4 and log 3; the softmax is one-hot, and a third each.
    assert value == pytest.approx(2e4 + np.log(3), rel=1e-6)
    np.testing.assert_allclose(grad[0], [[1.0, 0.0, -1.0], [1 / 3, -2 / 3, 1 / 3]], rtol=1e-6)
    score = Categorical().predictive_score(outputs, np.array([2, 1]))
    np.testing.assert_allclose(score, [2e4, np.log(3)], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_extreme_logit_stays_exact(dtype):
    """−log σ(−z) = z + log(1 + e^−z); its gradient is relative, −e^−z where the label is met."""
    z = np.array([[[40.0], [40.0], [-1e4], [1e4]]], dtype)
    value, grad = Bernoulli()(z, np.array([0, 1, 1, 1]))
    assert value == pytest.approx(40.0 + 1e4, rel=1e-6)
    np.testing.assert_allclose(grad[0, :, 0], [1.0, -np.exp(-40.0), -1.0, 0.0], rtol=1e-5)


def test_one_logit_is_the_softmax_of_zero_and_it():
    z, y = case("bernoulli")
    both = np.concatenate([np.zeros_like(z), z], axis=-1)
    value, grad = Bernoulli()(z, y)
    want, slope = Categorical()(both, y)
    assert value == pytest.approx(want, rel=1e-14)
    np.testing.assert_allclose(grad[..., 0], slope[..., 1], rtol=1e-13)
    score = Bernoulli().predictive_score(z, y)
    np.testing.assert_allclose(score, Categorical().predictive_score(both, y), rtol=1e-13)


def test_extreme_log_variances_stay_exact():
    """Variance e^60 and e^−60: the terms of either are exact in double precision."""
    y = np.zeros((1, 1))
    for t in (-60.0, 60.0):
        value, grad = HeteroscedasticGaussian()(np.array([[[2.0, t]]]), y)
        square = 4 * np.exp(-t)
        assert value == pytest.approx(0.5 * (square + t + np.log(2 * np.pi)), rel=1e-14)
        np.testing.assert_allclose(grad[0, 0], [2 * np.exp(-t), (1 - square) / 2], rtol=1e-14)


def test_energy_score_is_an_unbiased_energy_distance():
    """Outputs ~ N(µ, σ²), targets ~ N(ν, τ²), few samples each; the exact mean in closed form.

    E|X − Y| of X − Y ~ N(d, v) is the mean of a folded normal, so that
    E[ES] = 2 E|X − Y| − E|X − X′| without any term of order 1/S.
    """
    rng = np.random.default_rng(0)
    mu, sigma, nu, tau, n = 0.3, 0.7, -0.5, 1.2, 60_000
    for n_samples in (2, 3):
        outputs = mu + sigma * rng.standard_normal((n_samples, n, 1))
        y = nu + tau * rng.standard_normal((n, 1))
        scores = EnergyScore().predictive_score(outputs, y)
        between = stats.foldnorm.mean(
            abs(mu - nu) / np.hypot(sigma, tau), scale=np.hypot(sigma, tau)
        )
        within = stats.foldnorm.mean(0, scale=np.sqrt(2) * sigma)
        error = scores.std() / np.sqrt(n)
        assert abs(scores.mean() - (2 * between - within)) < 4 * error
        assert error < 0.01  # against 0.4: what including s = s′ would add for two samples


def test_energy_score_is_proper():
    """Its mean over targets is least where outputs and targets have one distribution.

    One set of standard normal numbers serves all, so that differences have little noise.
    """
    rng = np.random.default_rng(1)
    z, y = rng.standard_normal((4, 40_000, 2)), rng.standard_normal((40_000, 2))
    true = EnergyScore().predictive_score(z, y)
    for mean, scale in ((0.3, 1.0), (0.0, 0.6), (0.0, 1.6)):
        gap = EnergyScore().predictive_score(mean + scale * z, y) - true
        assert gap.mean() > 4 * gap.std() / np.sqrt(len(gap))


def test_energy_gradient_is_zero_where_points_meet():
    """Two outputs at the target: no direction, so no gradient, and no NaN."""
    value, grad = EnergyScore()(np.ones((2, 1, 2)), np.ones((1, 2)))
    assert value == 0
    np.testing.assert_array_equal(grad, np.zeros((2, 1, 2)))


@pytest.mark.parametrize(
    ("name", "y", "words"),
    [
        ("categorical", np.array([0, 1, 4]), "integers from 0 to 3"),
        ("categorical", np.array([0, 1, -1]), "integers from 0 to 3"),
        ("categorical", np.array([0.0, 1.0, 2.0]), "integers"),
        ("categorical", np.array([True, False, True]), "integers"),
        ("categorical", np.zeros((3, 1), int), "integers"),
        ("categorical", np.array([0]), r"\(1,\) for outputs of shape \(2, 3, 4\)"),
        ("categorical", np.eye(4)[:3], r"y.argmax\(axis=1\) of one-hot rows"),
        ("categorical", np.zeros((3, 1), int), r"y\[:, 0\]"),
        ("categorical", np.zeros(3), r"float64 .* y.astype\(int\) if these are labels"),
        ("categorical", np.zeros(3, bool), r"bool .* y.astype\(int\)"),
        ("categorical", np.array([1, 2, 4]), r"labels lie in 1 \.\.\. 4; .* from 0 to 3"),
        ("gaussian", np.zeros((3, 4)), r"shape \(N, 2\)"),
        ("gaussian", np.zeros(3), r"shape \(N, 2\)"),
        ("gaussian", np.zeros((3, 2), int), "finite floats"),
        ("gaussian", np.full((3, 2), np.nan), "finite floats"),
        ("gaussian", np.zeros((1, 2)), r"\(1, 2\) for outputs"),
        ("energy", np.zeros((3, 2)), r"shape \(N, 4\)"),
        ("energy", np.full((3, 4), np.inf), "finite floats"),
        ("energy", np.zeros((1, 4)), r"\(1, 4\) for outputs"),
    ],
)
def test_bad_targets_are_refused(name, y, words):
    for call in (ALL[name], ALL[name].predictive_score):
        with pytest.raises(InputError, match=words):
            call(np.zeros((2, 3, 4)), y)


def test_outputs_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="log variance"):
        HeteroscedasticGaussian().check(np.zeros((1, 1)), (3,))
    for likelihood in LIKELIHOODS.values():
        with pytest.raises(InputError, match=r"outputs of shape \(2, 4, 4\)"):
            likelihood.check(np.zeros(1, int), (2, 4, 4))
    with pytest.raises(InputError, match="1 sample; expected at least 2"):
        EnergyScore()(np.zeros((1, 3, 2)), np.zeros((3, 2)))
    with pytest.raises(InputError, match=r"outputs of shape \(4,\); expected \(1,\)"):
        Bernoulli().check(np.zeros(3, int), (4,))
    with pytest.raises(InputError, match=r"1 output; .* 'bernoulli' for two classes"):
        Categorical().check(np.zeros(3, int), (1,))
    with pytest.raises(InputError, match=r"labels lie in 0 \.\.\. 2; expected .* from 0 to 1"):
        Bernoulli().check(np.arange(3), (1,))
    with pytest.raises(InputError, match=r"expected finite floats of shape \(N, 1\): y\[:, None\]"):
        HeteroscedasticGaussian().check(np.zeros(3), (2,))
    with pytest.raises(InputError, match=r"outputs of shape \(3,\); expected \(4,\)"):
        HomoscedasticGaussian(NOISE).check(np.zeros((3, 3)), (3,))
    with pytest.raises(InputError, match="expected one of categorical, bernoulli, gaussian, ener"):
        likelihood_named("poisson")
