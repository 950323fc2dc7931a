"""Area under the ROC curve, for telling out-of-distribution inputs by a score.

AUROC is P(score_out > score_in), ties counted half: the Mann–Whitney statistic over the number of
pairs (Hanley & McNeil 1982, with the standard error of their equation 1).
"""

from __future__ import annotations

import numpy as np

from refbnn.errors import InputError


def auroc(inside: np.ndarray, outside: np.ndarray) -> tuple[float, float]:
    """AUROC and its standard error, from scores (n,) inside and (m,) outside the distribution.

    Raises
    ------
    InputError
        If there is no score of either kind, or one is NaN.

    Examples
    --------
    >>> area, error = auroc([0.1, 0.2, 0.3], [0.25, 0.4])
    >>> round(area, 3), round(error, 3)
    (0.833, 0.218)
    """
    from scipy.stats import mannwhitneyu

    n, m = len(inside), len(outside)
    if not (n and m) or np.isnan(inside).any() or np.isnan(outside).any():
        raise InputError(f"auroc: {n} scores inside and {m} outside; expected some of each, no NaN")
    a = float(mannwhitneyu(outside, inside).statistic) / (n * m)
    q1, q2 = a / (2.0 - a), 2.0 * a**2 / (1.0 + a)
    variance = (a * (1.0 - a) + (m - 1) * (q1 - a**2) + (n - 1) * (q2 - a**2)) / (n * m)
    return a, float(np.sqrt(variance))
