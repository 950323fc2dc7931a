"""Arguments of laws and fits that are no real numbers, and types of samples."""

import numpy as np
import pytest

from refbnn.errors import InputError
from refbnn.noise import (
    Bimodal,
    DensityLaw,
    DeviceLaw,
    Gaussian,
    HeavyTailed,
    Mixture,
    fit,
    fit_drift,
)

LAWS = [
    Gaussian(),
    Bimodal(0.8),
    Mixture((0.3, 0.7), (-1.0, 1.0), (0.5, 1.0)),
    DeviceLaw(0.5, 1.0),
    HeavyTailed(0.7, -0.1),
    DensityLaw.of(lambda x: 2.0 - np.abs(x), -1.0, 1.0),
]
HIDDEN = np.ma.masked_array([0.1, 0.2, 0.3], [False, True, False])
METHODS = ("log_pdf", "score", "cdf", "partial_mean", "icdf")
every_law = pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)


@every_law
@pytest.mark.parametrize("method", METHODS)
def test_laws_refuse_what_is_no_real_number(law, method):
    function = getattr(law, method)
    with pytest.raises(InputError, match=r"masked entries \(1\)"):
        function(HIDDEN)
    with pytest.raises(InputError, match="of type complex128; expected real numbers"):
        function(np.array([0.1 + 0.2j]))
    with pytest.raises(InputError, match="expected real numbers"):
        function(np.array(["0.1"]))
    # A mask that hides nothing is harmless.
    plain = np.array([0.1, 0.3])
    np.testing.assert_array_equal(function(np.ma.masked_array(plain)), function(plain))


@every_law
@pytest.mark.parametrize("single", [np.float32, np.dtype("float32"), "float32", "f4", "<f4"])
def test_float32_is_float32_however_it_is_spelt(law, single):
    expected = law.sample(np.random.default_rng(0), (5,), np.float32)
    found = law.sample(np.random.default_rng(0), (5,), single)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@every_law
@pytest.mark.parametrize("dtype", [int, complex, np.float16, "no type", ">f4", bool])
def test_other_types_of_samples_are_refused(law, dtype):
    with pytest.raises(InputError, match="expected float64 or float32"):
        law.sample(np.random.default_rng(0), (5,), dtype)


def test_fits_refuse_hidden_and_complex_values():
    values = np.random.default_rng(0).normal(size=100)
    hidden = np.ma.masked_greater(values, 1.0)
    for bad in (hidden, values + 1j):
        with pytest.raises(InputError, match="fit: values "):
            fit(bad, families=["Gaussian"])
        with pytest.raises(InputError, match="at time 1: fit: values "):
            fit_drift((0.0, 1.0), (values, bad), families=["Gaussian"])
    found = fit(values, families=["Gaussian"])
    with pytest.raises(InputError, match="masked"):
        found.standardise(hidden)


def test_parameters_are_real_numbers():
    for make in (
        lambda: Bimodal(np.complex128(0.5 + 0.1j)),  # type: ignore[arg-type]
        lambda: HeavyTailed(0.5j),  # type: ignore[arg-type]
        lambda: DeviceLaw(0.0, np.ma.masked),  # type: ignore[arg-type]
        lambda: Mixture(np.ma.masked_array([0.5, 0.5], [True, False]), (0.0, 1.0), (1.0, 1.0)),
        lambda: DensityLaw.of(lambda x: x + 0j, 0.0, 1.0),
    ):
        with pytest.raises(InputError, match=r"masked|real numbers|a finite number"):
            make()


def test_few_values_are_refused_everywhere():
    values = np.random.default_rng(0).normal(size=49)
    with pytest.raises(InputError, match="49 values; expected at least 50 to fit a law"):
        fit(values)
    with pytest.raises(InputError, match="at time 0: fit: 49 values"):
        fit_drift((0.0, 1.0), (values, values))
