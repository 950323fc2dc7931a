"""Comparison of a kernel's float32 arrays with the float64 reference.

Hypothesis: every number is within its allowed error of the reference. Nothing is estimated: the
statistic is the largest share of an allowed error that any number uses, the limit 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refbnn import Moments
from verification.check import Check

SCHEDULES = ("default", "hand")


def compare(
    name: str,
    method: str,
    result: Sequence[np.ndarray],
    expected: Moments | Sequence[np.ndarray],
    allowed: Sequence[np.ndarray],
) -> Check:
    """Check the arrays that a kernel returns against those of the reference.

    `allowed` holds the error that each number may have, an array for each array expected.
    """
    if isinstance(expected, Moments):
        expected = expected.mean, expected.var
    shares = [
        np.max(np.abs(np.asarray(got, dtype=float) - want) / bound)
        for got, want, bound in zip(result, expected, allowed, strict=True)
    ]
    return Check(
        name=name,
        method=method,
        statistic=float(np.max(shares)),  # NaN if any is
        limit=1.0,
        unit="of allowed error",
        n_compared=sum(want.size for want in expected),
        n_samples=0,
    )


def single(values: np.ndarray) -> np.ndarray:
    """Round to float32, in float64: the reference must get the same numbers as the kernel."""
    with np.errstate(under="ignore"):
        return values.astype(np.float32).astype(float)


def grid(ratio: np.ndarray, scale: np.ndarray) -> Moments:
    """Gaussians of each ratio mean/scale (columns) and each scale (rows), rounded to float32."""
    scale = scale[:, np.newaxis]
    return Moments(single(ratio * scale), single(scale**2 + 0.0 * ratio))
