"""Shared fixture of the tests of kernels: short measurements."""

import pytest

from tests.helpers.short_turns import shorten_turns


@pytest.fixture
def short_turns(monkeypatch):
    """Three turns of one call or a few: numbers of any precision will do."""
    shorten_turns(monkeypatch)
