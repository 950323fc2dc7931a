"""Which examples of a data set stand for it in a benchmark.

Zeros are skipped (`kernels.program.zeros`), so that a call's time depends on its inputs.
"""

from __future__ import annotations

import numpy as np


def evenly_by_zeros(x: np.ndarray, n: int) -> np.ndarray:
    """Indices of n examples, evenly over their shares of zeros, in an order of their own.

    They lie at the quantiles (i + ½)/n; a single one is the median.

    Parameters
    ----------
    x : (N, ...)
    n : int, at most N

    Returns
    -------
    (n,) of int

    Examples
    --------
    >>> import numpy as np
    >>> from kernels.bench.inputs import evenly_by_zeros
    >>> evenly_by_zeros(np.tri(5), 1)  # the example with two zeros of five
    array([2])
    """
    n_zeros = (x == 0.0).reshape(len(x), -1).sum(axis=1)
    places = ((np.arange(n) + 0.5) / n * len(x)).astype(int)
    return np.random.default_rng(0).permutation(np.argsort(n_zeros, kind="stable")[places])
