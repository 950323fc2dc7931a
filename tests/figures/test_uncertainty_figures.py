import json

import numpy as np
import pytest

from figures import reliability, softmax_error
from refbnn.cli.output import as_json


def no_tick(what):
    assert what


def test_ways_from_logits(tmp_path, monkeypatch):
    monkeypatch.setattr(softmax_error, "CLASSES", (2, 10))
    monkeypatch.setattr(softmax_error, "SPREADS", (0.1, 0.2, 1.0))
    numbers = softmax_error.make(tmp_path, 0, 0, no_tick)
    assert (tmp_path / "softmax_error.png").read_bytes().startswith(b"\x89PNG")
    json.loads(as_json(numbers))
    for case in numbers["cases"]:
        errors = case["rms_error"]
        assert errors["even draws"]["softmax"] < errors["independent draws"]["softmax"]
        assert errors["pairwise softmax"]["softmax"] < errors["scaled softmax"]["softmax"]
    small, twice = (numbers["cases"][i]["rms_error"]["delta method"] for i in (0, 1))
    # 2⁴ by the square of the variance; the inputs of the two are other ones.
    ratio = twice["mutual_information_nats"] / small["mutual_information_nats"]
    assert np.log2(ratio) == pytest.approx(4.0, abs=1.0)


def test_reliability_of_both_kinds(tmp_path, monkeypatch):
    monkeypatch.setattr(reliability, "EPOCHS", dict.fromkeys(reliability.EPOCHS, 1))
    monkeypatch.setattr(reliability, "_PASSES", 10)
    monkeypatch.setattr(reliability, "_HELD_OUT", 0.02)
    numbers = reliability.make(tmp_path, 0, 0, no_tick)
    assert (tmp_path / "reliability.png").read_bytes().startswith(b"\x89PNG")
    json.loads(as_json(numbers))
    for name in (reliability.SVI, reliability.PFP, reliability.FACTOR):
        classes, targets = (numbers[kind]["by_method"][name] for kind in ("classes", "targets"))
        assert 0.0 < classes["ece"] < 1.0
        assert classes["ece_if_calibrated"] > 0.0
        # A distribution function of the level.
        assert (np.diff([0.0, *targets["coverage"], 1.0]) >= 0.0).all()
