"""Verification: operators against Monte Carlo sampling, kernels against the NumPy reference.

One module holds the checks of one operator, under the operator's name. Start with `check` (what a
check is) and `plan` (the list of all checks).
"""

from verification.check import Check, as_rows, as_text
from verification.plan import SHAPES, Step, steps

__all__ = ["SHAPES", "Check", "Step", "as_rows", "as_text", "steps"]
