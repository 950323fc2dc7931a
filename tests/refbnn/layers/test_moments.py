"""Joint moments: what they take, and their rows."""

from typing import Any

import numpy as np
import pytest

from refbnn import InputError
from refbnn.layers.moments import JointMoments


def test_lists_become_arrays():
    joint = JointMoments([[0, 1]], [[[1, 0], [0, 2]]])
    assert joint.cov.dtype == joint.mean.dtype == float
    np.testing.assert_array_equal(joint.var, [[1.0, 2.0]])


@pytest.mark.parametrize("mean", ["text", [["a", "b"]], [[0.0], [1.0, 2.0]], None, 1j])
def test_no_numbers_are_refused(mean):
    with pytest.raises(InputError, match="joint moments: mean"):
        JointMoments(mean, np.zeros((1, 2, 2)))


def test_rows():
    joint = JointMoments(np.arange(6.0).reshape(3, 2), np.eye(2) * np.ones((3, 1, 1)))
    cases: list[Any] = [slice(1, 2), np.array([False, True, False]), [1]]
    for rows in cases:
        np.testing.assert_array_equal(joint[rows].mean, [[2.0, 3.0]])
    with pytest.raises(InputError, match=r"expected \(B, n\)"):
        joint[np.array(0)]
