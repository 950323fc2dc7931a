import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from figures import half_precision
from figures.support.half_precision import kernel as half_kernel
from figures.support.half_precision import layers as half_layers
from figures.support.half_precision import sums as half_sums
from refbnn.cli.output import as_json
from refbnn.layers import Conv2d, Dense
from refbnn.layers.moments import Moments
from refbnn.layers.posterior import Posterior

HALF = st.floats(width=16, allow_nan=False, allow_infinity=False)
BLOCKS = (*half_precision.BLOCKS.values(), 3)


def bound_of(x: np.ndarray, w: np.ndarray, block: int) -> np.ndarray:
    """The bound in the head of `sums`, for x̂ (B, n) and ŵ (out, n) before rounding -> (B, out)."""
    eta, single = 2.0**-25, 2.0**-24
    n = x.shape[1]
    S = x @ w.T
    growth = half_sums.relative_bound(n, block)
    stored = x.sum(axis=1)[:, np.newaxis] + w.sum(axis=1) + n * eta
    error = growth * S + (1.0 + growth) * eta * (stored + (n if block else 0))
    return error + n * single * (1.0 + single) ** n * (S + error)


def rounded_to_half(exact: Fraction) -> float:
    """To the nearest multiple of the spacing there, ties to even, as IEEE 754 says."""
    if exact == 0:
        return 0.0
    place = max(math.floor(math.log2(abs(exact))) - 10, -24)
    nearest = round(exact / Fraction(2) ** place) * Fraction(2) ** place
    return float(nearest) if abs(nearest) < 65520 else math.copysign(math.inf, exact)


@given(HALF, HALF, HALF)
def test_a_multiply_add_is_rounded_once(x, w, s):
    with np.errstate(over="ignore"):
        got = half_sums.multiply_add(*[np.array(number, np.float16) for number in (x, w, s)])
    assert float(got) == rounded_to_half(Fraction(x) * Fraction(w) + Fraction(s))


def test_a_multiply_add_at_ties_and_far_apart():
    # 1 + 2⁻¹¹ is a tie, to even; a product that is more by the least bit it can have decides it.
    one, step = 1.0, 2.0**-10
    for x, w, s, want in (
        (2.0**-11, 1.0, one, one),
        (2.0**-11, 1.0 + step, one, one + step),
        (2.0**-11, 1.0, one + step, one + 2 * step),
        (2.0**-24, 2.0**-24, 65504.0, 65504.0),
        (-(2.0**-24), 2.0**-24, 2.0**-24, 2.0**-24),
    ):
        got = half_sums.multiply_add(*[np.array(number, np.float16) for number in (x, w, s)])
        assert float(got) == want == rounded_to_half(Fraction(x) * Fraction(w) + Fraction(s))


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("power", [1, 4, 20])  # even; some, and most of them below 2⁻¹⁴
def test_errors_are_within_the_bound(block, power):
    rng = np.random.default_rng(7)
    for n in (1, 7, 8, 100, 784):
        x, w = rng.random((4, n)) ** power, 1e-9 * rng.random((5, n)) ** power
        a, b = half_sums.halves(x, 1), half_sums.halves(w, 2)
        scaled = np.ldexp(x, -a.exponent), np.ldexp(w, -b.exponent)
        exact = scaled[0] @ scaled[1].T
        error = np.abs(half_sums.sums(a.values, b.values, block) - exact)
        bound = bound_of(*scaled, block)
        assert (error <= bound + 1e-12 * exact).all()  # rounding of `exact`, n 2⁻⁵³
        assert (bound >= half_sums.relative_bound(n, block) * exact).all()


def test_a_grown_sum_takes_no_small_terms():
    # 1 + 2⁻¹² rounds to 1 in half, as often as one tries; eight of them alone are 2⁻⁹.
    x, w = np.ones((1, 800), np.float16), np.full((1, 800), 2.0**-12, np.float16)
    w[0, 0] = 1.0
    for block, want in ((0, 1.0 + 799 / 4096), (8, 1.0 + 99 / 512), (800, 1.0)):
        assert half_sums.sums(x, w, block) == [[want]]


def test_a_power_of_two_changes_no_bit():
    rng = np.random.default_rng(1)
    x = rng.random((3, 40))
    own = half_sums.halves(x, 1)
    other = half_sums.halves(np.ldexp(x, -60), 1)
    np.testing.assert_array_equal(own.values, other.values)
    np.testing.assert_array_equal(own.exponent - 60, other.exponent)
    greatest = own.values.max(axis=1)
    assert ((greatest >= 0.5) & (greatest <= 1.0)).all()
    assert not half_sums.halves(np.ldexp(x, -60), 1, scaled=False).values.any()
    assert not half_sums.halves(np.zeros((2, 3)), 1).values.any()


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(Dense(9, 4), (9,)), (Conv2d(2, 3, (3, 2), stride=(2, 1), padding=1), (2, 5, 6))],
)
@pytest.mark.parametrize("known", [True, False])
def test_variances_of_layers(layer, shape, known):
    rng = np.random.default_rng(2)
    own = {
        name: Posterior(0.5 + rng.random(size), 0.5 + rng.random(size))
        for name, size in layer.parameter_shapes().items()
    }
    x = 0.5 + rng.random((3, *shape))
    inputs = x if known else Moments(x, x)
    got = half_layers.variance(layer, inputs, own, 8)
    # Nothing underflows; 1e-6 for the sums in float32 of the blocks and of the two products.
    rtol = half_sums.relative_bound(12, 8) + 1e-6
    np.testing.assert_allclose(got, layer.moments(inputs, own).var, rtol=rtol)


@pytest.mark.skipif(half_kernel.absent(), reason="the extra `arm` is not installed")
def test_kernels_have_the_bits_of_the_emulation_and_their_multiply_adds():
    rng = np.random.default_rng(3)
    second = rng.random(half_kernel.N_IN)
    var = rng.random((half_kernel.N_OUT, half_kernel.N_IN)) ** 4
    x, w = half_sums.halves(second[np.newaxis], 1).values, half_sums.halves(var, 2).values
    for block in half_precision.BLOCKS.values():
        kernel = half_kernel.half(second, var, block)
        kernel.run()
        want = half_sums.sums(x, w, block)
        # In float32 the order of sums differs: n u. In half it is the same.
        rtol = 0.0 if block else half_kernel.N_IN * 2.0**-24
        np.testing.assert_allclose(kernel.outputs[0], want, rtol=rtol)
    counts = half_kernel.instructions_a_product(half_precision.BLOCKS)
    assert counts["float32"]["multiply_adds"] == counts["stored"]["multiply_adds"] == 0.25
    for name, block in half_precision.BLOCKS.items():
        if block:
            assert counts[name]["multiply_adds"] == 0.125
            assert counts[name]["all"] < 0.75 * counts["float32"]["all"]


def test_figure(tmp_path, monkeypatch):
    monkeypatch.setattr(half_precision, "EPOCHS", dict.fromkeys(half_precision.EPOCHS, 1))
    monkeypatch.setattr(half_precision, "IMAGES", 10)
    ticks: list[str] = []
    numbers = half_precision.make(tmp_path, 0, 0, ticks.append)
    assert len(ticks) == half_precision.STEPS
    assert (tmp_path / "half_precision.png").read_bytes().startswith(b"\x89PNG")
    json.loads(as_json(numbers))
    text = half_precision.as_text(numbers)
    for name, network in numbers["networks"].items():
        forms = network["forms"]
        assert half_precision.NETWORKS[name] in text
        medians = [forms[form]["variance_relative_error_median"] for form in half_precision.BLOCKS]
        assert medians == sorted(medians)  # the longer the sums in half, the worse
        # Two roundings by u at most; of many of random signs, sums are better, not by 100 times.
        assert half_sums.u / 100 < medians[0] < 2 * half_sums.u
    # Without the emulated core all but the counts is there.
    assert half_precision.NETWORKS["mlp"] in half_precision.as_text(
        numbers | {"instructions_a_product": {}}
    )
    half_precision._draw(numbers["networks"], {}, tmp_path / "no_core.png")
