"""Checks of what callers hand over: every wrong value is one line that names it."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from refbnn import InputError, Moments, Posterior
from refbnn.noise import Gaussian, Law
from refbnn.numerics import arguments
from refbnn.numerics.arrays import finite_array, real_array

NO_NUMBERS = ["1", None, True, np.True_, 1j, [1.0], np.ones(2), math.nan, math.inf, 10**400, float]


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.array(0.5), Fraction(1, 2)])
def test_a_number_of_any_library_is_a_float(value):
    for number in (arguments.real_number(value, "x"), arguments.positive_number(value, "x")):
        assert type(number) is float
        assert number == 0.5


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_what_is_no_number_is_refused_in_one_short_line(value):
    for check in (arguments.real_number, arguments.positive_number):
        with pytest.raises(InputError, match=r"^x is ") as caught:
            check(value, "x")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 140


@pytest.mark.parametrize("value", [np.int8(3), np.array(3), 3])
def test_whole_numbers_of_any_library_are_ints(value):
    assert type(arguments.whole_number(value, 1, "n")) is int
    assert arguments.whole_number(value, 1, "n", 3) == 3


@pytest.mark.parametrize("value", [*NO_NUMBERS, 0, 2.0, -1, 2**70])
def test_what_is_no_whole_number_in_range_is_refused(value):
    with pytest.raises(InputError, match=r"^n is .*; expected a whole number from 1 to 9$"):
        arguments.whole_number(value, 1, "n", 9)


def test_objects_need_the_methods_of_their_interface():
    arguments.require_methods(Gaussian(), Law, "law", "Gaussian()")
    for value, words in {
        "a": "law is 'a'; expected a Law, such as Gaussian\\(\\)",
        Gaussian: "law is the class Gaussian; expected a Law, such as Gaussian\\(\\)",
        np.random.default_rng(0): "expected a Law",
        frozenset({1}): "expected a Law",
    }.items():
        with pytest.raises(InputError, match=words):
            arguments.require_methods(value, Law, "law", "Gaussian()")

    class Partial:
        def cdf(self, x):
            return x

    with pytest.raises(InputError, match=r"law: Partial has no support, .*icdf"):
        arguments.require_methods(Partial(), Law, "law", "Gaussian()")


def test_a_misspelt_word_is_told_the_nearest():
    with pytest.raises(InputError, match=r"schedule 'hnad' is unknown; .*did you mean 'hand'"):
        arguments.require_known("hnad", ["hand", "tuned"], "schedule")
    for word in (["hand"], np.ones(2), None):
        with pytest.raises(InputError, match=r"expected one of: hand, tuned$"):
            arguments.require_known(word, ["hand", "tuned"], "schedule")


class Table:
    """An object that turns into an array when NumPy asks for it, as a data frame does."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        if self.values is None:
            raise RuntimeError("a tensor that requires grad; use detach()")
        return np.array(self.values, dtype=dtype)


@pytest.mark.parametrize(
    "x",
    [
        [[1, 0], [0, 1]],
        np.eye(2, dtype=bool),
        np.eye(2, dtype=np.float16),
        np.ma.array(np.eye(2), mask=False),
        [np.ma.array([1.0, 0.0]), np.array([0.0, 1.0])],
        Table([[1.0, 0.0], [0.0, 1.0]]),
    ],
)
def test_everything_that_holds_real_numbers_is_an_array(x):
    array = real_array(x, "x")
    assert type(array) is np.ndarray
    np.testing.assert_array_equal(array, np.eye(2))


MASKED = np.ma.array(np.ones((2, 2)), mask=[[True, False], [False, False]])
NO_ARRAYS = {
    "masked": (MASKED, r"x has masked entries \(1\); expected none: fill them"),
    "masked rows": ([MASKED[0], MASKED[1]], r"x has masked entries \(1\)"),
    "complex": (np.ones(2, complex), "x is of type complex128; expected real numbers"),
    "text": ("12", "x is of type <U2; expected real numbers"),
    "words": ([["1", 2.0]], "x is of type <U.*; expected real numbers"),
    "dates": (np.ones(2, "M8[s]"), "x is of type datetime64"),
    "objects": (np.array([1.0, None]), "x is of type object; .*astype"),
    "None": (None, "x is None; expected an array of real numbers"),
    "another": ({"a": 1}, "x is {'a': 1}; expected an array of real numbers"),
    "ragged": ([[1.0], [1.0, 2.0]], "x is no array; expected real numbers, rows equally long"),
    "tensor": (Table(None), "x is no array: a tensor that requires grad"),
    "moments": (Moments([1.0], [1.0]), "x is Moments.*; expected an array of real numbers"),
}


@pytest.mark.parametrize("case", NO_ARRAYS)
def test_what_is_no_array_of_real_numbers_is_refused(case):
    x: Any
    x, words = NO_ARRAYS[case]
    with pytest.raises(InputError, match=f"^{words}") as caught:
        real_array(x, "x")
    assert "\n" not in str(caught.value)
    if case != "moments":
        with pytest.raises(InputError, match=f"moments: mean{words[1:]}"):
            Moments(x, np.ones(2))
        with pytest.raises(InputError, match=f"posterior: scale{words[1:]}"):
            Posterior(np.ones(2), x)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_infinite_entries_are_refused(value):
    with pytest.raises(InputError, match="x holds NaN or infinity; expected finite numbers"):
        finite_array([1.0, value], "x")


def test_an_array_of_real_numbers_is_not_copied():
    x = np.ones(3, np.float32)
    assert real_array(x, "x") is x
