import contextlib
import gzip
import io
import json
import math

import numpy as np
import pytest
from scipy import integrate, stats

from figures import (
    fits,
    high_epistemic,
    inverse_cdf,
    kl_error,
    pfp_error,
    speed,
    training_speed,
)
from figures.support import inverse_ways, training_peers
from refbnn import cli
from refbnn.network.architectures import ARCHITECTURES
from refbnn.network.network import Network
from refbnn.noise import DeviceLaw, Gaussian

UNCORRECTED_IS_BAD = ("singular and vanishing edge", "two vanishing edges")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder of two figures made by the command, and their numbers by name."""
    folder = tmp_path_factory.mktemp("figures") / "new"
    names = ("inverse_cdf", "kl_error")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert cli.main(["figures", *names, "-o", str(folder), "--mc-samples", "50000"]) == 0
    files = ["inverse_cdf.png", "kl_error_narrow.png", "kl_error_wide.png"]
    files += [f"{name}.json" for name in names]
    assert said.getvalue().splitlines() == [str(folder / file) for file in files]
    return folder, {name: json.loads((folder / f"{name}.json").read_text()) for name in names}


def test_the_command_writes_pictures_and_numbers(made):
    folder, _ = made
    pictures = {path.name for path in folder.glob("*.png")}
    assert pictures == {"inverse_cdf.png", "kl_error_narrow.png", "kl_error_wide.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in folder.glob("*.png"))


def test_edges_factored_out_are_what_makes_the_inverse_accurate(made):
    laws = {law["name"]: law["methods"] for law in made[1]["inverse_cdf"]["laws"]}
    assert set(laws) == set(inverse_cdf.LAWS)
    for name, methods in laws.items():
        ours = methods[inverse_cdf.WITH]
        # The accuracy that refbnn.numerics.inverse_cdf promises.
        assert ours["greatest_u_error_beyond_rounding_of_x"] <= 1e-12
        assert ours["share_of_u_falling_or_outside"] == 0.0
        # Rounding of x near a singular edge, times its share of u.
        assert abs(ours["kl_sampled_from_law_nats"]) <= 1e-10
        assert ours["mc_chi_square_p_value"] > 1e-3
        if name in UNCORRECTED_IS_BAD:
            uncorrected = methods[inverse_cdf.WITHOUT]
            assert uncorrected["greatest_u_error_beyond_rounding_of_x"] >= 1e-6


@pytest.mark.parametrize(("alpha", "beta"), [(-0.5, -0.5), (3.0, 2.0), (-0.7, 1.5)])
@pytest.mark.parametrize("side", [0, 1])
def test_exact_probabilities_are_those_of_the_beta_law(alpha, beta, side):
    exact = inverse_ways.Exact(DeviceLaw(alpha, beta))
    d = exact.width * np.array([1e-20, 1e-8, 0.01, 0.3, 0.5, 0.8])
    a, b = (alpha + 1, beta + 1) if side == 0 else (beta + 1, alpha + 1)
    t = d / exact.width
    np.testing.assert_allclose(exact.probability(side, d), stats.beta.cdf(t, a, b), rtol=1e-12)
    want = stats.beta.logpdf(t, a, b) - np.log(exact.width)
    np.testing.assert_allclose(exact.log_density(side, d), want, rtol=1e-12, atol=1e-12)


def test_divergence_of_a_uniform_sampler_from_the_arcsine_law():
    # KL(uniform ‖ arcsine) on [−1, 1]: log(π/2) + E[log √(1 − y²)] = log π − 1.
    exact = inverse_ways.Exact(DeviceLaw(-0.5, -0.5))
    kl, bad = inverse_cdf._divergence(
        exact, lambda side, u: exact.width * u, lambda side, u: np.full_like(u, exact.width)
    )
    # Left out: u < 2⁻⁵⁰ on either side, where the integrand is below 20.
    assert kl == pytest.approx(math.log(math.pi) - 1.0, abs=1e-12)
    assert bad == 0.0


def test_a_sampler_that_leaves_the_support_has_no_divergence():
    exact = inverse_ways.Exact(DeviceLaw(0.0, 0.0))
    kl, bad = inverse_cdf._divergence(
        exact, lambda side, u: exact.width * (u - 0.25), lambda side, u: np.ones_like(u)
    )
    assert kl is None
    assert bad == pytest.approx(0.5, abs=1e-6)


def test_sampled_counts_refute_a_wrong_sampler():
    law = DeviceLaw(1.0, 2.0)
    exact, distance = inverse_ways.Exact(law), inverse_ways.by_pieces(law).distance

    def p_value(draw):
        return inverse_cdf._count(exact, distance, law, draw, 0, 50_000)

    assert p_value(lambda rng, n: law.sample(rng, (n,))) > 1e-3
    assert p_value(lambda rng, n: law.icdf(rng.random(n) ** 1.05)) < 1e-6


def test_rules_are_exact_in_the_end_for_a_narrow_weight_only(made):
    cases = made[1]["kl_error"]["cases"]
    assert len(cases) == 2 * (5 * 5 - 3)  # a device-shaped prior takes the two bounded laws alone
    for case in cases:
        last = {key: errors[-1] for key, errors in case["error"].items()}
        if case["weight"] == "narrow":
            assert max(last.values()) <= 1e-10, case["law"]
        elif case["prior"].startswith("Laplace"):  # the kink: a node's weight
            assert last["sigma_dkl_dmu_nats"] >= 1e-3, case["law"]
        elif case["prior"].startswith("Gaussian"):
            assert max(max(errors[1:]) for errors in case["error"].values()) <= 1e-12
        # 132 z-scores, all of them below 4.5 with probability 1 − 1e-3; a constant has rounding.
        for key, error in case["mc_standard_error"].items():
            assert abs(case["mc_minus_truth"][key]) <= 4.5 * error + 1e-12


def test_errors_of_a_rule_against_integration(made):
    # Gaussian law, wide weight, Student's t prior: both the truth and the rules in other ways.
    (case,) = (
        case
        for case in made[1]["kl_error"]["cases"]
        if (case["law"], case["weight"]) == ("Gaussian", "wide")
        and case["prior"].startswith("Student")
    )
    mu, sigma = kl_error.WEIGHTS["wide"]

    def log_p(z):
        return stats.t.logpdf(mu + sigma * z, 3)

    def integrand(z):
        return stats.norm.pdf(z) * log_p(z)

    constant = -stats.norm.entropy() - math.log(sigma)
    truth = constant - integrate.quad(integrand, -12, 12, epsabs=1e-13)[0]
    assert case["truth"]["kl_nats"] == pytest.approx(truth, abs=1e-12)
    for n in (2, 8, 32):
        z, w = np.polynomial.hermite_e.hermegauss(n)
        found = constant - w @ log_p(z) / w.sum()
        error = case["error"]["kl_nats"][kl_error.NODES.index(n)]
        assert error == pytest.approx(abs(found - truth), abs=1e-12)


def test_the_same_seed_gives_the_same_bytes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        kl_error, "laws", lambda: {"Gaussian": Gaussian(), "device": DeviceLaw(1, 2)}
    )
    student = {name: of for name, of in kl_error.priors().items() if name.startswith("Student")}
    monkeypatch.setattr(kl_error, "priors", lambda: student)
    for folder in "ab":
        words = ["figures", "kl_error", "-o", str(tmp_path / folder), "--mc-samples", "50000"]
        assert cli.main([*words, "--seed", "3"]) == 0
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["kl_error.json", "kl_error_narrow.png", "kl_error_wide.png"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_residuals_and_band_of_a_fit(tmp_path, capsys):
    values = stats.norm.rvs(3.0, 2.0, size=300, random_state=1)
    found = fits.fitted(values, 0, ("Gaussian",))
    for edge, got in zip(found.cells.edges[::97], found.residual()[::97], strict=True):
        share = sum(v <= edge for v in values) / 300
        assert got == pytest.approx(share - stats.norm.cdf(edge, values.mean(), values.std()))
    assert np.abs(found.residual()).max() == pytest.approx(found.fit.ks_distance)
    # Lilliefors 1967 with Stephens' 1974 correction: 0.895/(√n − 0.01 + 0.85/√n) at 5 %. The band
    # is a quantile of 1000 replicates, known to some 2 %.
    root = math.sqrt(300)
    assert found.band(0) == pytest.approx(0.895 / (root - 0.01 + 0.85 / root), rel=0.06)
    fits.draw({"normal": found}, 1, 0, tmp_path / "one.png")
    fits.draw_groups({("B", 6, 0.0): found, ("C", 12, 0.1): found}, tmp_path / "all.png")
    assert all((tmp_path / name).stat().st_size > 10_000 for name in ("one.png", "all.png"))


def test_memory_is_read_where_it_is_at_hand(tmp_path, monkeypatch):
    monkeypatch.delenv("REFBNN_DATA", raising=False)
    assert fits.groups() == {}
    (tmp_path / "device_noise").mkdir()
    rows = [(level, t, level + i / 7) for level in (6, 12, 21, 30) for t in (0, 0.01, 1, 4)
            for i in range(5)]  # fmt: skip
    text = "range,elapsed_s,conductance_uS\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows)
    for technology in "BC":
        path = tmp_path / "device_noise" / f"rram_tech{technology}_relaxation.csv.gz"
        path.write_bytes(gzip.compress(text.encode()))
    monkeypatch.setenv("REFBNN_DATA", str(tmp_path))
    groups = fits.groups()
    assert len(groups) == 32
    np.testing.assert_allclose(groups["C", 12, 0.01], 12 + np.arange(5) / 7)


def test_the_speed_table_is_complete(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "VALUES", 2000)
    ticks: list[str] = []
    numbers = speed.make(tmp_path, 0, 0, ticks.append)
    assert len(ticks) == speed.STEPS
    assert len(numbers["samples_per_second"]) == 7
    assert all(v > 0.0 for row in numbers["samples_per_second"].values() for v in row.values())
    assert sum(map(len, numbers["kl_with_gradients_seconds"].values())) == 9
    assert speed.as_text(numbers).count("\n") == 1 + (2 + 9) + (2 + 9) - 1
    assert (tmp_path / "speed.png").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["figures", "fits", "nonsense"], "figure nonsense: expected one of fits, inv"),
        (["figures", "fits", "-o", __file__], "expected a folder"),
    ],
)
def test_wrong_calls_are_one_line(words, said, capsys):
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_the_table_of_training_steps_names_what_is_absent(tmp_path, monkeypatch):
    monkeypatch.setattr(training_peers, "find_spec", lambda package: None)
    ticks: list[str] = []
    monkeypatch.setattr(training_speed, "TURNS", 1)
    numbers = training_speed.make(tmp_path, 0, 0, ticks.append)
    assert len(ticks) == training_speed.STEPS == len(numbers["cases"])
    assert numbers["absent"] == ["Pyro", "bayesian-torch"]
    for case in numbers["cases"]:
        (times,) = case["step_ms"].values()
        assert 0.0 < times["lower_quartile"] <= times["median"] <= times["upper_quartile"]
    rows = training_speed.as_text(numbers).splitlines()
    assert len(rows) == 2 + len(ticks)
    assert all(row.split()[-2:] == ["absent", "absent"] for row in rows[2:])
    assert (tmp_path / "training_speed.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("network", ["mlp", "lenet5"])
def test_other_tools_train_the_same_network(network):
    """Their steps run, and Pyro's parameters are of this network's shapes."""
    pytest.importorskip("torch", reason="PyTorch is not installed (extra: peers)")
    pyro = pytest.importorskip("pyro", reason="Pyro is not installed (extra: peers)")
    chosen = ARCHITECTURES[network]
    rng = np.random.default_rng(0)
    x, y = rng.random((8, *chosen.input_shape()), dtype=np.float32), rng.integers(0, 10, 8)
    net = Network(chosen.layers(10), input_shape=chosen.input_shape())
    steps = training_peers.steps(net.layers, x, y, 8)
    assert set(steps) <= {"Pyro", "bayesian-torch"}
    for step in steps.values():
        assert np.isfinite(step())
    params = pyro.get_param_store()
    shapes = sorted(tuple(v.shape) for n, v in params.items() if ".locs." in n)
    assert shapes == sorted(p.shape for p in net.parameters().values())


def test_high_epistemic_figure(tmp_path, monkeypatch):
    monkeypatch.setattr(high_epistemic, "LOGITS", (8.0, 10.0))
    monkeypatch.setattr(high_epistemic, "SCALES", (1.0,))
    monkeypatch.setattr(high_epistemic, "_SAMPLES", 100)
    monkeypatch.setattr(high_epistemic, "_INPUTS", 20)
    exact = high_epistemic.trained_network
    monkeypatch.setattr(high_epistemic, "trained_network", lambda seed: exact(seed, epochs=1))
    ticks: list[str] = []
    numbers = high_epistemic.make(tmp_path, 0, 50_000, ticks.append)
    assert len(ticks) == high_epistemic.STEPS
    for row in numbers["constructed"]["rows"]:
        assert row["diagonal_mi_nats"] < row["full_mi_nats"] < row["mi_nats"]
    (logit,) = numbers["constructed"]["logits_of_44_percent"]
    assert 8.0 < logit < 10.0
    (separation,) = numbers["trained"]["digits_from_clothes_by_mi"]
    assert set(separation) > {"sampled_auroc", "diagonal_auroc", "full_auroc", "conditional_auroc"}
    assert (tmp_path / "high_epistemic.png").exists()


def test_propagation_error_figure(tmp_path, monkeypatch):
    monkeypatch.setattr(pfp_error, "WIDTHS", (1, 2, 512, 1024))
    monkeypatch.setattr(pfp_error, "NETWORK_WIDTHS", (4, 64))
    monkeypatch.setattr(pfp_error, "_DRAWS", 1 << 17)
    ticks: list[str] = []
    numbers = pfp_error.make(tmp_path, 0, 50_000, ticks.append)
    assert len(ticks) == pfp_error.STEPS
    slopes = numbers["slopes_512_to_1024"]
    # The next order of the expansion, 1/n times cumulants of size 10.
    for name, slope in (("bimodal", -2), ("device", -1), ("heavy-tailed", -2)):
        assert slopes[name] == pytest.approx(slope, abs=0.02)
    for rows in numbers["sums"].values():
        for row in rows:
            gap = abs(row["sampled_kl_nats"] - row["binned_kl_nats"])
            assert gap <= 5.0 * row["sampled_kl_se_nats"]
            if "w1_over_spread" in row:
                bound = min(row["berry_esseen_w1_over_spread"], row["talagrand_w1_over_spread"])
                assert row["relu_mean_error"] <= row["w1_over_spread"] <= bound
    floor = numbers["networks"]["exact_propagation_shows"]
    for case in numbers["networks"]["cases"]:
        if case["depth"] == 1:  # exact: the pre-activation of known inputs and normal weights
            for key, value in floor.items():
                assert case[key] < 1.6 * value
    assert (tmp_path / "pfp_error.png").exists()
    assert (tmp_path / "pfp_law.png").exists()
