import os
import threading

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import beta as beta_law

from refbnn.errors import InputError
from refbnn.noise import DeviceLaw, fit, measurements, read_measurements


def measured(law, n, seed, location=50.0, scale=4.0):
    z = law.sample(np.random.default_rng(seed), (n,))
    return np.round(location + scale * z, 4)


@pytest.mark.parametrize(
    "law", [DeviceLaw(0.0, 0.0), DeviceLaw(-0.5, -0.5), DeviceLaw(0.0, 0.0, (0.3, 1.5))]
)
def test_fit_recovers_the_law_that_made_the_values(law):
    values = measured(law, 4000, seed=1)
    found = fit(values)
    assert min(found.bic, key=found.bic.__getitem__) == len(law.coefficients)
    # Exponents: the standard error of a beta exponent at n = 4000 is about 0.025; five of them.
    assert found.law.alpha == pytest.approx(law.alpha, abs=0.12)
    assert found.law.beta == pytest.approx(law.beta, abs=0.12)
    assert found.location == pytest.approx(50.0, abs=5 * 4.0 / np.sqrt(4000))
    low, high = 50.0 + 4.0 * np.array(law.support)
    assert found.support == pytest.approx((low, high), abs=0.05)
    assert found.ks_p_value > 1e-3
    # BIC as defined: two edges, two exponents and the coefficients are counted.
    chosen = min(found.bic.values())
    parameters = 4 + len(law.coefficients)
    assert chosen == pytest.approx(parameters * np.log(4000) - 2 * found.log_likelihood)


def test_likelihood_is_the_greatest_that_a_direct_search_finds():
    """Degree 0 on a known support is the beta law: SciPy's search finds the same optimum."""
    values = measured(DeviceLaw(1.5, 3.0), 2000, seed=2)
    found = fit(values, max_degree=0)
    low, high = found.support

    def negative(logs):
        a, b = np.exp(logs)
        return -beta_law.logpdf(values, a, b, low, high - low).sum()

    direct = minimize(negative, [0.5, 1.0], method="Nelder-Mead", options={"fatol": 1e-6})
    assert found.log_likelihood == pytest.approx(-direct.fun, abs=1e-3)
    density = found.law.log_pdf(found.standardise(values)) - np.log(found.scale)
    assert found.log_likelihood == pytest.approx(density.sum(), rel=1e-10)


def test_fit_does_not_depend_on_order_or_unit():
    values = measured(DeviceLaw(0.5, 0.0, (0.4,)), 1000, seed=3)
    found = fit(values)
    shuffled = fit(np.random.default_rng(0).permutation(values))
    assert shuffled.law.alpha == pytest.approx(found.law.alpha, abs=1e-6)
    other_unit = fit(1e-6 * values)
    assert other_unit.law.alpha == pytest.approx(found.law.alpha, abs=1e-3)
    assert other_unit.scale == pytest.approx(1e-6 * found.scale, rel=1e-3)


def test_quantised_values_fit_without_an_entropy():
    found = fit(np.round(measured(DeviceLaw(0.0, 0.0), 2000, seed=5), 0))
    assert found.kl_from_data is None
    assert np.isfinite(found.log_likelihood)
    # Fifteen steps of 1/14 of the range: the distance to a smooth law is half a step's probability.
    assert found.ks_distance == pytest.approx(0.5 / 14, abs=0.02)


def test_a_wrong_family_is_refuted():
    """Two far clusters of unequal shape are outside a low-degree family; the test must say so."""
    rng = np.random.default_rng(4)
    values = np.concatenate([rng.normal(0, 0.01, 3000), rng.normal(10, 0.01, 3000), [5.0]])
    assert fit(values).ks_p_value < 0.01


@pytest.mark.parametrize("values", [[1.0, np.nan, 2.0], [[1.0, 2.0]], [np.inf, 1.0]])
def test_values_that_are_not_a_row_of_numbers_are_refused(values):
    with pytest.raises(InputError, match="one row of finite"):
        fit(np.array(values))


def test_three_values_have_no_shape():
    with pytest.raises(InputError, match="3 distinct values"):
        fit(np.repeat([1.0, 2.0, 3.0], 100))


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


NUMBERS = "\n".join(str(k % 17) for k in range(100))

BAD_FILES = {
    "empty": ("", "the first row is empty"),
    "header only": ("g\n", "0 values"),
    "too few": ("g\n1\n2\n", "2 values"),
    "words": (f"g\n{NUMBERS}\nabc\n", "line 102, column 'g' holds 'abc'; expected a finite number"),
    "nan": (f"g\n{NUMBERS}\nnan\n", "holds 'nan'; expected a finite number"),
    "infinity": (f"g\ninf\n{NUMBERS}\n", "line 2"),
    "constant": ("g\n" + "2.5\n" * 80, "every value in column 'g' is 2.5"),
    "overflow": ("g\n" + "1e308\n-1e308\n0\n1\n" * 30, "expected more than rounding"),
    "rounding": ("g\n" + "".join(f"{10**15 + k % 5}\n" for k in range(90)), "more than rounding"),
    "underflow": ("g\n" + "".join(f"{k}e-320\n" for k in range(90)), "more than rounding"),
    "ragged": (f"g\n{NUMBERS}\n1,2\n", "line 102 has 2 fields; expected 1"),
    "two columns": ("a,b\n1,2\n", "columns 'a', 'b'; expected the name of one"),
    "no header": (NUMBERS, "the first row holds numbers"),
    "endless line": ("g\n" + "1" * 100_000, "a line of over 65536 characters"),
    "binary": (b"\x80\x81\xff" * 50, "expected a CSV file"),
    "broken gzip": (b"\x1f\x8b\x08\x00garbage", "expected a CSV file"),
    "null bytes": (b"g\n1\n\x00\n", "expected a"),
}


@pytest.mark.parametrize(("text", "words"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_measurement_files_are_refused(tmp_path, text, words):
    path = write(tmp_path / "noise.csv", text)
    with pytest.raises(InputError, match=words) as caught:
        read_measurements(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_measurement_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv: No such file"):
        read_measurements(tmp_path / "none.csv")
    with pytest.raises(InputError, match="expected a CSV file"):
        read_measurements(tmp_path)


def test_column_and_condition_choose_rows(tmp_path):
    rows = "".join(f"{k % 2},{k},{k * 0.5}\n" for k in range(200))
    path = write(tmp_path / "noise.csv", "range,k,conductance_uS\n" + rows)
    values, column = read_measurements(path, where={"range": 1})
    assert column == "conductance_uS"
    np.testing.assert_array_equal(values, 0.5 * np.arange(1, 200, 2))
    values, column = read_measurements(path, "k")
    np.testing.assert_array_equal(values, np.arange(200))
    with pytest.raises(InputError, match="no single column 'x'"):
        read_measurements(path, "x")
    with pytest.raises(InputError, match="0 values in column 'k' where range = 7"):
        read_measurements(path, "k", {"range": 7})


def test_the_number_of_rows_is_limited(tmp_path, monkeypatch):
    path = write(tmp_path / "noise.csv", f"g\n{NUMBERS}\n")
    monkeypatch.setattr(measurements, "MAX_ROWS", 100)
    assert read_measurements(path)[0].size == 100
    monkeypatch.setattr(measurements, "MAX_ROWS", 99)
    with pytest.raises(InputError, match="more than 99 rows"):
        read_measurements(path, where={"g": 3})


def test_a_pipe_and_a_byte_order_mark_are_read(tmp_path):
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    rows = "".join(f"{k}\n" for k in range(20_000))
    writer = threading.Thread(target=write, args=(fifo, "\ufeffg\n" + rows))
    writer.start()
    values, column = read_measurements(fifo)
    writer.join()
    assert column == "g"
    np.testing.assert_array_equal(values, np.arange(20_000))


def test_gzip_is_recognised_by_content(tmp_path):
    import gzip

    path = write(tmp_path / "noise.csv", gzip.compress(f"g\n{NUMBERS}\n".encode()))
    values, _ = read_measurements(path)
    assert values.size == 100
