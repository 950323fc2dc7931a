"""Whether measurements depend on the conditions they were taken under.

Values of all ranges, times or temperatures make one law only if they have one. A column is a
condition if it holds 2 to 100 distinct texts, each 10 times or more on average. The values are then
compared between its groups of at least 10, by ranks, so that no law is assumed:

    location   Kruskal–Wallis test of the values (Kruskal & Wallis 1952),
    spread     Kruskal–Wallis test of their distances from the median of all (Fligner & Killeen
               1976 test ranks of such distances),

and the p-value is twice the lesser of both (Bonferroni). With the median of all, values of one law
are exchangeable between the groups, so that the test keeps its level for every law; groups of
different medians are seen by the first test.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

DIFFERS = 1e-3  # p-value below which a condition changes the values
_MOST_GROUPS, _LEAST_GROUP = 100, 10


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

    def p_value(self, values: np.ndarray) -> float:
        """p-value of equal location and spread in all groups; 1 where fewer than two are large."""
        codes = np.array(self.codes)
        groups = [values[codes == code] for code in range(len(self.texts))]
        groups = [group for group in groups if group.size >= _LEAST_GROUP]
        if len(groups) < 2:
            return 1.0
        middle = np.median(np.concatenate(groups))
        spreads = [np.abs(group - middle) for group in groups]
        return min(1.0, 2.0 * min(_kruskal(groups), _kruskal(spreads)))


def _kruskal(groups: Iterable[np.ndarray]) -> float:
    from scipy.stats import kruskal

    groups = list(groups)
    if np.ptp(np.concatenate(groups)) == 0.0:
        return 1.0
    return float(kruskal(*groups).pvalue)
