import numpy as np

from figures import scale
from refbnn import data


def test_networks_have_their_width_and_depth():
    shapes = [p.mean.shape for n, p in scale.network(32, 2, 0).parameters().items() if "w" in n]
    assert shapes == [(32, 784), (32, 32), (10, 32)]


def test_digits_stand_for_the_data_set():
    zeros = (data.load("mnist-subset", "test").x == 0.0).mean()
    assert abs((scale.digits(100) == 0.0).mean() - zeros) < 0.005  # of ranks, not of chance
    (one,) = scale.digits(1)
    assert abs((one == 0.0).mean() - zeros) < 0.02  # the median is near the mean


def test_the_figure(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "WIDTHS", (8, 16))
    monkeypatch.setattr(scale, "DEPTHS", (1,))
    monkeypatch.setattr(scale, "BATCHES", (1,))
    monkeypatch.setattr(scale.peers, "_TOOLS", {})
    words: list[str] = []
    numbers = scale.make(tmp_path, 0, 0, words.append)
    assert words == ["scale: batch 1"]
    assert {file.name for file in tmp_path.iterdir()} == {"scale.png", "scale.svg"}
    for row, width in zip(numbers["networks"], (8, 16), strict=True):
        assert (row["batch"], row["depth"], row["width"]) == (1, 1, width)
        assert row["seconds"].keys() == {"mean", "PFP", "linearised"}
        assert all(np.isfinite(s) and s > 0.0 for s in row["seconds"].values())
    assert "PFP / mean" in scale.as_text(numbers["networks"])


def test_networks_that_take_too_long_are_left_out():
    assert scale.measured(2048, 2, 256, 0) is None
