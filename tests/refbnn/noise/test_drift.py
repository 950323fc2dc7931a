"""Laws that move with time: at the knots, between them, and outside."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kstest

from refbnn import Network, train
from refbnn.errors import InputError
from refbnn.layers import Dense, ReLU
from refbnn.noise import Bimodal, DeviceLaw, DriftingLaw, fit, fit_drift, read_measurements
from refbnn.noise import drift as drift_module
from refbnn.noise.fitting.placing import family_of

TIMES = (0.0, 0.01, 100.0)

TABLES = {
    "Gaussian": (("mean", "sd"), ((50.0, 1.0), (49.0, 2.0), (40.0, 8.0))),
    "bimodal": (
        ("m1", "m2", "s1", "s2", "w1"),
        ((1.0, 3.0, 0.5, 1.0, 0.5), (1.5, 1.0, 0.5, 2.0, 0.6), (1.5, -4.0, 0.5, 3.0, 0.2)),
    ),
    "three normals": (
        ("m1", "m2", "m3", "s1", "s2", "s3", "w1", "w2"),
        (
            (1.0, 3.0, 5.0, 0.5, 1.0, 2.0, 0.3, 0.3),
            (1.0, 2.0, 5.0, 0.5, 1.5, 2.5, 0.1, 0.3),
            (1.0, 0.0, 5.0, 0.5, 2.0, 3.0, 0.3, 0.69),
        ),
    ),
    "heavy-tailed": (
        ("mean", "sd", "xi", "chi"),
        ((50.0, 1.0, 0.1, 0.05), (49.0, 2.0, 0.9, -0.89), (40.0, 8.0, 0.99, 0.9)),
    ),
    "device, degree 1": (
        ("a", "b", "alpha", "beta", "c1"),
        ((0.0, 1.0, -0.5, 0.0, 1.0), (5.0, 6.0, 2.0, -0.9, 0.0), (-3.0, 9.0, 10.0, 0.5, -2.0)),
    ),
}


def drifting(family):
    names, table = TABLES[family]
    return DriftingLaw(family, names, TIMES, table, (1, 1, 1), (1.0, 1.0, 1.0), {})


@pytest.mark.parametrize("family", TABLES)
def test_the_law_is_the_fitted_one_at_the_knots_and_between_them_in_between(family):
    drift = drifting(family)
    line = family_of(family)
    for time, theta in zip(TIMES, drift.parameters, strict=True):
        assert drift.at(time) == line.place(np.array(theta))
        np.testing.assert_allclose(line.from_line(line.to_line(np.array(theta))), theta, rtol=1e-12)
    # Half-way in log(1 + t/0.01) between 0 and 0.01: √2 = 1 + t/0.01.
    halfway = 0.01 * (np.sqrt(2.0) - 1.0)
    ends = [line.to_line(np.array(theta)) for theta in drift.parameters[:2]]
    expected = line.place(line.from_line(0.5 * (ends[0] + ends[1])))
    found = drift.at(halfway)
    assert found.location == pytest.approx(expected.location, rel=1e-10)
    assert found.scale == pytest.approx(expected.scale, rel=1e-10)
    z = np.linspace(-0.5, 0.5, 5)
    np.testing.assert_allclose(found.law.cdf(z), expected.law.cdf(z), rtol=1e-9)
    # Continuous at a knot, and a law anywhere.
    values = np.array([0.5, 2.0, 40.0, 50.0])
    before, after = drift.at(0.01 * (1 - 1e-9)), drift.at(0.01 * (1 + 1e-9))
    np.testing.assert_allclose(before.cdf(values), after.cdf(values), atol=1e-6)
    for time in (1e-6, 0.003, 0.5, 77.0):
        place = drift.at(time)
        assert place.scale > 0.0
        assert place.law.cdf(np.array(place.law.support)) == pytest.approx([0.0, 1.0], abs=1e-12)


def test_a_gaussian_between_is_geometric_in_scale_and_even_in_the_mean():
    drift = drifting("Gaussian")
    # λ = log(1 + t/t₀) from log 2 at 0.01 to log 10001 at 100: at t = 1, (log 101 − log 2)/...
    share = (np.log(101.0) - np.log(2.0)) / (np.log(10001.0) - np.log(2.0))
    found = drift.at(1.0)
    assert found.location == pytest.approx(49.0 - 9.0 * share, rel=1e-12)
    assert found.scale == pytest.approx(2.0 * 4.0**share, rel=1e-12)
    shift, ratio = drift.change(0.01, 100.0)
    assert shift == pytest.approx((40.0 - 49.0) / 2.0, rel=1e-12)
    assert ratio == pytest.approx(4.0, rel=1e-12)
    assert drift.change(1.0, 1.0) == (0.0, 1.0)


@pytest.mark.parametrize("time", [-1e-9, 100.1, np.nan])
def test_times_outside_the_measured_ones_are_refused(time):
    with pytest.raises(InputError, match="expected one within the measured times, 0 to 100"):
        drifting("Gaussian").at(time)


def test_a_drifting_law_is_plain_data():
    drift = drifting("three normals")
    assert DriftingLaw(**json.loads(json.dumps(asdict(drift)))) == drift


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"times": (0.0, 100.0, 0.01)}, "ascending"),
        ({"times": (0.0,)}, "at least two"),
        ({"times": (-1.0, 0.0, 1.0)}, "from 0 or later"),
        ({"names": ("mean",)}, "expected a table"),
        ({"parameters": ((1.0, 1.0), (1.0, 1.0))}, "expected a table"),
        ({"family": "cauchy"}, "family 'cauchy'"),
    ],
)
def test_numbers_that_make_no_drift_are_refused(change, words):
    with pytest.raises(InputError, match=words):
        DriftingLaw(**{**asdict(drifting("Gaussian")), **change})


def test_one_family_is_chosen_for_all_times_by_its_total():
    rng = np.random.default_rng(0)
    groups = [rng.normal(50.0, 1.0, 300), 50.0 + Bimodal(0.95).sample(rng, (300,))]
    drift = fit_drift((0.0, 1.0), groups, families=["Gaussian", "bimodal"])
    assert drift.family == "bimodal"
    assert drift.fits
    for family, total in drift.total_bic.items():
        single = [fit(g, families=[family]).candidates[0].bic for g in groups]
        assert total == pytest.approx(sum(single), rel=1e-12)
    assert drift.at(1.0).location == pytest.approx(groups[1].mean(), abs=1e-4)
    assert drift.n_values == (300, 300)


def test_components_keep_their_identity_where_their_means_cross():
    rng = np.random.default_rng(1)
    groups = [
        np.concatenate([rng.normal(50.0, 0.5, 400), rng.normal(c, 3.0, 400)]) for c in (53.0, 47.0)
    ]
    drift = fit_drift((0.0, 1.0), groups, families=["bimodal"])
    k = drift.names.index("standard deviation 1")
    narrow = [int(np.argmin(row[k : k + 2])) for row in drift.parameters]
    assert narrow[0] == narrow[1]
    # Half-way the narrow component is still narrow, and both means meet.
    law, _, scale = drift.at(np.sqrt(2.0) - 1.0)
    assert isinstance(law, Bimodal)
    assert scale == pytest.approx(np.sqrt(0.5 * 0.25 + 0.5 * 9.0), rel=0.1)
    assert max(law.ratio, 1.0 / law.ratio) == pytest.approx(6.0, rel=0.2)


def test_bad_groups_are_named_by_their_time():
    good = np.random.default_rng(2).normal(size=100)
    with pytest.raises(InputError, match="at time 5: fit: every value is 1"):
        fit_drift((0.0, 5.0), (good, np.ones(50)))
    with pytest.raises(InputError, match="2 times and 1 groups"):
        fit_drift((0.0, 5.0), (good,))
    with pytest.raises(InputError, match="ascending"):
        fit_drift((5.0, 0.0), (good, good), families=["Gaussian"])


def test_a_family_that_cannot_be_tested_at_one_time_is_passed_over(monkeypatch):
    rng = np.random.default_rng(6)
    groups = [rng.normal(50.0, 1.0, 100), rng.normal(50.0, 2.0, 100)]
    choose = drift_module.choose

    def too_sharp(found, sample, seed):
        if found[0].family == "Gaussian" and sample.deviation > 1.5:
            raise InputError("too sharp for its panels")
        return choose(found, sample, seed)

    assert fit_drift((0.0, 1.0), groups, families=["Gaussian", "bimodal"]).family == "Gaussian"
    monkeypatch.setattr(drift_module, "choose", too_sharp)
    assert fit_drift((0.0, 1.0), groups, families=["Gaussian", "bimodal"]).family == "bimodal"
    with pytest.raises(InputError, match="no family comes near the values at every time"):
        fit_drift((0.0, 1.0), groups, families=["Gaussian"])


def test_a_network_trained_under_one_law_runs_under_the_other():
    """Samples of the moved weights, in units of the device, are those of the later law."""
    drift = drifting("heavy-tailed")
    start, end = drift.times[0], drift.times[-1]
    before, after = drift.at(start), drift.at(end)
    net = Network([Dense(3, 4), ReLU(), Dense(4, 2)], law=before.law, seed=0)
    x, y = np.random.default_rng(3).normal(size=(8, 3)), np.arange(8) % 2
    train(net, x, y, epochs=2, seed=0)
    later = net.with_noise(after.law)
    change = drift.change(start, end)
    later.set_parameters({name: p.moved(*change) for name, p in net.parameters().items()})
    theta, _ = later.draw(np.random.default_rng(4), 4000)
    programmed = net.parameters()["0.weight"]
    # The device value behind each weight: location + scale·z, z = (θ − µ)/σ at programming.
    z = (theta["0.weight"] - programmed.mean) / programmed.scale
    device = before.location + before.scale * z
    error = after.scale / np.sqrt(device.size)
    assert device.mean() == pytest.approx(after.location, abs=5 * error)
    assert kstest((device.ravel() - after.location) / after.scale, after.law.cdf).pvalue > 1e-4
    assert later.sample(x, n_samples=3, rng=np.random.default_rng(5)).shape == (3, 8, 2)


def test_measured_relaxation_drifts():
    folder = os.environ.get("REFBNN_DATA")
    if not folder:
        pytest.skip("REFBNN_DATA is not set: it names a folder with device_noise/")
    path = Path(folder) / "device_noise" / "rram_techB_relaxation.csv.gz"
    times = (0.0, 0.01, 1.0, 1000.0)
    groups = [
        read_measurements(path, "conductance_uS", {"range": 30, "elapsed_s": t})[0] for t in times
    ]
    drift = fit_drift(times, groups, max_degree=1, bounds=(0.0, np.inf))
    assert drift.fits
    scales = [drift.at(t).scale for t in times]
    np.testing.assert_allclose(scales, [g.std() for g in groups], rtol=0.05)
    shift, ratio = drift.change(0.0, 30.0)
    assert drift.change(0.0, 1.0).ratio < ratio < drift.change(0.0, 1000.0).ratio
    assert abs(shift) < 0.2
    assert isinstance(drift.at(0.0).law, type(drift.at(1000.0).law))
    assert not isinstance(drift.at(0.0).law, DeviceLaw)
    # Flat at first and heavy-tailed later: least BIC is refuted, the next family is not.
    later_times = (0.0, 1.0, 1000.0)
    groups = [
        read_measurements(path, "conductance_uS", {"range": 12, "elapsed_s": t})[0]
        for t in later_times
    ]
    drift = fit_drift(later_times, groups, families=("bimodal", "three normals"))
    assert drift.fits
    assert drift.family == "three normals"
