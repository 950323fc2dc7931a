"""Predictions of deployed networks: held to the same rule in float64, at the library's moments."""

import numpy as np
import pytest

from kernels import compile_network
from kernels.deploy import deploy
from refbnn.layers import Conv2d, Dense, Flatten, ReLU
from refbnn.layers.moments import Moments
from refbnn.layers.posterior import Posterior
from refbnn.network.network import Network
from refbnn.prediction.predict import predict_targets
from refbnn.prediction.result import class_logits
from refbnn.prediction.softmax import by_quadrature
from tests.helpers.c_library import (
    STRICT,
    Header,
    Library,
    checked,
    core_with,
    placed,
    random_network,
)

# Rounding of the rule, as `kernels.prediction.quadrature` states it, with room for other inputs.
OF_PROBABILITIES, OF_ENTROPIES = 1e-5, 1e-4
LAYERS = [Dense(6, 9), ReLU(), Dense(9, 4)]


def library(tmp_path, net, batch=3, **options):
    """A checked library."""
    deploy(net, tmp_path / "built", "net", batch, **options)
    made = Library(tmp_path / "built", "net")
    assert made.check() == "OK"
    return made


def inputs(batch=3, n=6, seed=2):
    return np.random.default_rng(seed).standard_normal((batch, n)).astype(np.float32)


@pytest.mark.parametrize(
    ("n_outputs", "source"), [(1, True), (2, True), (4, True), (1, False), (4, False)]
)
def test_classes_by_the_rule_in_float64(tmp_path, n_outputs, source):
    net = random_network([Dense(6, 9), ReLU(), Dense(9, n_outputs)])
    made, x = library(tmp_path, net, source=source), inputs()
    code, p, entropies, statuses = made.predict_classes(x)
    assert (code, statuses) == ("OK", ["OK"] * 3)
    _, mean, var = made.propagate(x)
    exact = by_quadrature(class_logits(Moments(mean.astype(float), var.astype(float))))
    np.testing.assert_allclose(p, exact.probabilities, rtol=0, atol=OF_PROBABILITIES)
    expected = [exact.entropy, exact.mutual_information, exact.aleatoric]
    np.testing.assert_allclose(entropies, expected, rtol=0, atol=OF_ENTROPIES)
    assert entropies[1].min() > 1e-3  # there is something to agree on
    if not source:
        driven = compile_network(net, 3).predict(x)
        np.testing.assert_array_equal(p, driven.probabilities)
        np.testing.assert_array_equal(entropies[1], driven.mutual_information)


@pytest.mark.parametrize("source", [False, True])
def test_the_check_holds_for_predictions(tmp_path, source):
    net = random_network(LAYERS)
    deployed = deploy(net, tmp_path / "built", "net", 3, source=source)
    code, printed = checked(tmp_path / "built", deployed, "-std=c99", *STRICT)
    assert code == 0, printed
    assert printed.count("holds") == 4
    text = (tmp_path / "built" / "net_test.h").read_text()
    wrong = text.replace("net_test_entropies[] = {\n", "net_test_entropies[] = {\n 0.01 +")
    (tmp_path / "built" / "net_test.h").write_text(wrong)
    code, printed = checked(tmp_path / "built", deployed)
    assert code == 1
    assert "entropies: greatest error 0.01, allowed" in printed


def wide_network():
    """One input x; the logits have means (x, 0, 0) and standard deviations 5 |x|."""
    net = Network([Dense(1, 3)])
    weight = Posterior(np.array([[1.0], [0.0], [0.0]]), np.full((3, 1), 5.0))
    net.set_parameters({"0.weight": weight, "0.bias": Posterior(np.zeros(3), np.full(3, 1e-6))})
    return net


def test_rows_that_the_rule_does_not_take_have_a_code_and_no_number(tmp_path):
    made = library(tmp_path, wide_network())
    code, p, entropies, statuses = made.predict_classes([[1.0], [4.0], [2.0]])
    assert (code, statuses) == ("UNSUITED", ["OK", "UNSUITED", "OK"])
    assert np.isnan(p[1]).all()
    assert np.isnan(entropies[:, 1]).all()
    np.testing.assert_allclose(p[[0, 2]].sum(axis=1), 1.0, rtol=0, atol=1e-6)
    assert made.propagate([[1.0], [4.0], [2.0]])[0] == "OK"
    assert "above 16" in (tmp_path / "built" / "net.h").read_text()


def test_a_test_vector_with_such_rows_holds(tmp_path):
    net = wide_network()
    net.input_range = 0.0, 8.0
    deployed = deploy(net, tmp_path / "built", "net", 8)
    missing = np.isnan(deployed.vector.results["probabilities"].expected[:, 0])
    assert 0 < missing.sum() < 8
    code, printed = checked(tmp_path / "built", deployed, *STRICT)
    assert code == 0, printed
    assert printed.endswith("drives it: the same\n")


@pytest.mark.parametrize(
    ("likelihood", "n", "noise"), [("gaussian", 2, None), ("gaussian", 3, 0.5), ("energy", 3, None)]
)
def test_targets_as_the_reference_predicts_them(tmp_path, likelihood, n, noise):
    net = random_network([Dense(6, 9), ReLU(), Dense(9, 4 if noise is None and n == 2 else n)])
    net.likelihood, net.noise_sd = likelihood, None if noise is None else (noise,) * n
    made, x = library(tmp_path, net), inputs()
    code, (mean, epistemic, aleatoric) = made.predict_targets(x)
    assert code == "OK"
    expected = predict_targets(net, x.astype(float), n)
    # float32: some 20 roundings a sum, in two layers.
    np.testing.assert_allclose(mean, expected.mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(epistemic, expected.epistemic, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(aleatoric, expected.aleatoric, rtol=1e-5, atol=1e-5)
    assert (aleatoric > 0).all() == (likelihood == "gaussian")
    _, m, v = made.propagate(x)
    np.testing.assert_array_equal(m[:, :n], mean)
    np.testing.assert_array_equal(v[:, :n], epistemic)


def test_a_noise_too_large_for_float32_is_no_number(tmp_path):
    net = Network([Dense(1, 2)])
    net.set_parameters(
        {
            "0.weight": Posterior(np.ones((2, 1)), np.full((2, 1), 1e-3)),
            "0.bias": Posterior(np.zeros(2), np.full(2, 1e-3)),
        }
    )
    net.likelihood = "gaussian"
    made = library(tmp_path, net, 1)
    for x, expected in ((80.0, "OK"), (100.0, "BAD_VARIANCE"), (-100.0, "OK")):
        code, y = made.predict_targets([[x]])
        assert code == expected
        assert np.isnan(y).all() == np.isnan(y).any() == (expected != "OK")


def test_outputs_that_are_no_row_have_no_prediction(tmp_path):
    net = random_network([Conv2d(1, 2, 2)], (1, 4, 4))
    made = library(tmp_path, net, 1)
    assert not hasattr(made.dll, "net_predict")
    assert "nothing is predicted" in (tmp_path / "built" / "net.h").read_text()


def test_predictions_on_the_emulated_core(tmp_path):
    shape = (1, 4, 4)
    net = random_network([Conv2d(1, 2, 2), ReLU(), Flatten(), Dense(18, 3)], shape)
    deploy(net, tmp_path / "built", "net", 2, "cortex-a72")
    x = np.random.default_rng(4).standard_normal((2, *shape)).astype(np.float32)
    driven = compile_network(net, 2, "cortex-a72", device="emulated").predict(x)
    core = core_with(tmp_path / "built", (tmp_path / "built" / "libnet.a").read_bytes())
    header = Header(tmp_path / "built" / "net.h")
    arguments, (p, u) = placed(core, header.WORK_BYTES, x, (2, header.CLASSES), (2, 4))
    assert core.call("net_check", arguments[-1], header.WORK_BYTES) == 0
    assert core.call("net_predict", *arguments) == 0
    np.testing.assert_array_equal(p, driven.probabilities)
    np.testing.assert_array_equal(u[:, 0], driven.entropy)
    np.testing.assert_array_equal(u[:, 1], driven.mutual_information)
    np.testing.assert_array_equal(u[:, 2], driven.aleatoric)
