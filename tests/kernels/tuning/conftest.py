"""Shared fixture of the tests of tuning: one compiling process."""

import pytest

from kernels.tuning import building


@pytest.fixture(autouse=True, scope="module")
def one_worker():
    """One process compiles: for each few candidates TVM starts all anew, and each imports TVM."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building.os, "cpu_count", lambda: 1)
        building._builder.cache_clear()
        yield
