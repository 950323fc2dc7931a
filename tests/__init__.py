"""Tests, in folders of the same names as the code."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
