"""Short measurements, where numbers of any precision will do."""

from kernels.bench import latency
from kernels.devices import local


def shorten_turns(monkeypatch) -> None:
    """Three turns of one call or a few."""
    monkeypatch.setattr(latency, "_TURN", 1e-4)
    monkeypatch.setattr(latency, "_BUDGET", 0.0)
    monkeypatch.setattr(local, "_MEASUREMENT", 0)
