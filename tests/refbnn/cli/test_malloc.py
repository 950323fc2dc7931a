import ctypes
import sys
from types import SimpleNamespace

import pytest

from refbnn.cli.malloc import keep_freed_memory

MMAP, TRIM = -3, -1  # malloc.h


@pytest.mark.parametrize(("most", "kept"), [(1 << 40, 1 << 30), (32 << 20, 32 << 20), (0, None)])
def test_what_a_c_library_refuses_falls_back(monkeypatch, most, kept):
    """A C library that returns 0, and changes nothing, for thresholds of blocks above `most`."""
    thresholds = {}

    def mallopt(which, value):
        if which == MMAP and value > most:
            return 0
        thresholds[which] = value
        return 1

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    keep_freed_memory.__wrapped__()
    assert thresholds.get(MMAP) == kept
    assert thresholds[TRIM] == 1 << 30


def test_without_mallopt_nothing_happens(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    keep_freed_memory.__wrapped__()
