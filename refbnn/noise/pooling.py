"""Whether measurements depend on the conditions they were taken under.

Values of all ranges, times or temperatures make one law only if they have one. A column is a
condition if it holds 2 to 100 distinct texts, each 10 times or more on average. The values are then
compared between its groups, by ranks, so that no law is assumed:

    location   Kruskal–Wallis test of the values (Kruskal & Wallis 1952),
    spread     Kruskal–Wallis test of their distances from the median of all (Fligner & Killeen
               1976 test ranks of such distances),

and the p-value is twice the lesser of both (Bonferroni). With the median of all, values of one law
are exchangeable between the groups, so that the test keeps its level for every law; groups of
different medians are seen by the first test.

Groups of less than 10 are compared as one, if they hold 5 values or more together. Ranks say little
of fewer: the rank sum of the m greatest among many is √(3m) standard deviations from its mean, so
that m ≤ 4 never reach `DIFFERS`. They differ only where all of them lie farther from the median of
all n values than every other value, which has probability 1/(n choose m) for one law; otherwise
they count as not compared, which a reader of the fit is told.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import comb

import numpy as np

DIFFERS = 1e-3  # p-value below which a condition changes the values
_MOST_GROUPS, _LEAST_GROUP = 100, 10
_LEAST_REST = 5  # values of all groups that are smaller


class Condition:
    """Texts of one column beside the values: as codes, while few of them are distinct."""

    def __init__(self, name: str, pooled: bool = False):
        self.name = name
        self.pooled = pooled  # whether the texts are names of columns that are read as one
        self.texts: dict[str, int] = {}
        self.codes: list[int] = []

    def add(self, text: str) -> bool:
        """Take the next row's text; False once there are too many distinct ones."""
        self.codes.append(self.texts.setdefault(text, len(self.texts)))
        return len(self.texts) <= _MOST_GROUPS

    @property
    def varies(self) -> bool:
        """Whether the column is a condition that takes several values."""
        return 2 <= len(self.texts) <= len(self.codes) / _LEAST_GROUP

    @property
    def most_frequent(self) -> str:
        """The text with the most values, the first of several."""
        return list(self.texts)[np.bincount(self.codes).argmax()]

    def compared(self, values: np.ndarray) -> tuple[float | None, dict[str, int]]:
        """Compare the groups of values; see the head of this module.

        Returns
        -------
        p_value : float or None
            Of equal location and spread in all groups; None where nothing was compared.
        left_out : dict of str to int
            Texts that have too few values to be compared, and how many.
        """
        codes = np.array(self.codes)
        sizes = np.bincount(codes, minlength=len(self.texts))
        small = np.flatnonzero(sizes < _LEAST_GROUP)
        groups = [values[codes == code] for code in np.flatnonzero(sizes >= _LEAST_GROUP)]
        in_rest = np.isin(codes, small)
        rest, left_out = values[in_rest], {}
        found = []
        if rest.size >= _LEAST_REST:
            groups.append(rest)
        elif rest.size:
            found += _apart(rest, values[~in_rest])
            texts = list(self.texts)
            left_out = {} if found else {texts[code]: int(sizes[code]) for code in small}
        if len(groups) > 1:
            middle = np.median(np.concatenate(groups))
            found += [_kruskal(groups), _kruskal([np.abs(group - middle) for group in groups])]
        return min(1.0, len(found) * min(found)) if found else None, left_out


def _apart(few: np.ndarray, others: np.ndarray) -> list[float]:
    """p-value of a few values that all lie farther from the median than every other; else none.

    For one law each choice of as many values is as likely to be the farthest.
    """
    middle = np.median(np.concatenate([few, others]))
    if np.abs(few - middle).min() <= np.abs(others - middle).max():
        return []
    return [1.0 / comb(few.size + others.size, few.size)]


def _kruskal(groups: Iterable[np.ndarray]) -> float:
    from scipy.stats import kruskal

    groups = list(groups)
    if np.ptp(np.concatenate(groups)) == 0.0:
        return 1.0
    return float(kruskal(*groups).pvalue)
