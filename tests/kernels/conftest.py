"""Shared fixture of the tests of kernels: short measurements."""

import pytest

from kernels.bench import latency
from kernels.devices import local


@pytest.fixture
def short_turns(monkeypatch):
    """Three turns of one call or a few: numbers of any precision will do."""
    monkeypatch.setattr(latency, "_TURN", 1e-4)
    monkeypatch.setattr(latency, "_BUDGET", 0.0)
    monkeypatch.setattr(local, "_MEASUREMENT", 0)
