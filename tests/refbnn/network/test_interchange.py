import io
import re
import struct
import zipfile
from pathlib import Path

import mpmath
import numpy as np
import pytest

from refbnn.errors import InputError
from refbnn.files import archive
from refbnn.files.torch_file import read_torch
from refbnn.layers.posterior import Posterior
from refbnn.network.interchange import READERS
from refbnn.network.interchange.numpyro import read as read_numpyro
from refbnn.network.interchange.pyro import read as read_pyro
from tests.helpers.torch_bytes import refused, tensor, text, write

FILES = Path(__file__).parents[2] / "data" / "checkpoints"
PYRO, NUMPYRO = FILES / "pyro_autonormal_tiny.pt", FILES / "numpyro_autonormal_tiny.npz"
BAYESIAN_TORCH = FILES / "bayesian_torch_tiny.pt"


def ulps(reported, exact):
    """Greatest distance in units of the reported float32's last place."""
    assert reported.dtype == np.float32
    return np.max(np.abs(exact - reported.astype(float)) / np.spacing(reported).astype(float))


@pytest.mark.parametrize(("tool", "path"), [("pyro", PYRO), ("bayesian-torch", BAYESIAN_TORCH)])
def test_sites_are_what_the_tool_reports(tool, path):
    sites = READERS[tool](path)
    expected = np.load(path.with_suffix(".expected.npz"))
    assert [f"{site}.{what}" for site in sites for what in ("loc", "scale")] == list(expected)
    for site, posterior in sites.items():
        assert posterior.mean.dtype == posterior.scale.dtype == np.float64
        np.testing.assert_array_equal(posterior.mean, expected[f"{site}.loc"])
        # The tool rounds e^ρ (relative error 2⁻²⁴, up to 2⁻²³ by the faster routines), which
        # changes σ by no more in relative terms, and σ itself, again by up to 1 ulp.
        assert ulps(expected[f"{site}.scale"], posterior.scale) <= 2.0


@pytest.mark.parametrize(("tool", "path"), [("pyro", PYRO), ("bayesian-torch", BAYESIAN_TORCH)])
def test_scales_are_softplus_to_the_last_digits(tool, path):
    raw = read_torch(path)
    raw = raw.get("params", raw)
    rhos = [array for name, array in raw.items() if "scales" in name or "rho_" in name]
    for rho, posterior in zip(rhos, READERS[tool](path).values(), strict=True):
        with mpmath.workdps(40):
            exact = [float(mpmath.log1p(mpmath.exp(mpmath.mpf(float(r))))) for r in rho.flat]
        # exp, log1p and a sum, each within an ulp or so.
        np.testing.assert_allclose(posterior.scale.ravel(), exact, rtol=1e-15)


def test_numpyro_arrays_are_taken_as_they_are():
    sites, arrays = read_numpyro(NUMPYRO), np.load(NUMPYRO)
    assert list(sites) == ["fc1.bias", "fc1.weight", "fc2.bias", "fc2.weight"]
    for site, posterior in sites.items():
        np.testing.assert_array_equal(posterior.mean, arrays[f"{site}_auto_loc"])
        np.testing.assert_array_equal(posterior.scale, arrays[f"{site}_auto_scale"])


def store(constraint=b"cpyro.distributions.constraints\n_SoftplusPositive\n)\x81", names=None):
    """A parameter store of one site, its scales under the given constraint."""
    loc, scale = names or ("AutoNormal.locs.w", "AutoNormal.scales.w")
    real = b"ctorch.distributions.constraints\n_Real\n)\x81"
    params = b"}" + text(loc) + tensor() + b"s" + text(scale) + tensor() + b"s"
    kept = b"}" + text(loc) + real + b"s" + text(scale) + constraint + b"s"
    return b"}" + text("params") + params + b"s" + text("constraints") + kept + b"s"


BOUND = b"}" + text("lower_bound") + b"G" + struct.pack(">d", 0.5) + b"sb"
CONSTRAINTS = {
    "lower Cholesky": b"cpyro.distributions.constraints\n_SoftplusLowerCholesky\n)\x81",
    "real scale": b"ctorch.distributions.constraints\n_Real\n)\x81",
    "another bound": b"ctorch.distributions.constraints\n_GreaterThan\n)\x81" + BOUND,
    "text": text("positive"),
}


def test_the_constraint_says_what_the_scale_is(tmp_path):
    rho = np.arange(6.0).reshape(2, 3)
    softplus = read_pyro(write(tmp_path / "a.pt", store()))["w"]
    np.testing.assert_allclose(softplus.scale, np.log(1 + np.exp(rho)), rtol=1e-15)
    positive = b"ctorch.distributions.constraints\n_GreaterThan\n)\x81"
    exp = read_pyro(write(tmp_path / "b.pt", store(positive)))["w"]
    np.testing.assert_allclose(exp.scale, np.exp(rho), rtol=1e-15)


@pytest.mark.parametrize("constraint", CONSTRAINTS.values(), ids=CONSTRAINTS.keys())
def test_other_constraints_are_refused(tmp_path, constraint):
    message = refused(write(tmp_path / "a.pt", store(constraint)), read_pyro)
    assert "'AutoNormal.scales.w' has the constraint" in message


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("AutoNormal.locs.w", "AutoNormal.scales.v"), "expected 'AutoNormal.scales.w' beside"),
        (("AutoDelta.w", "w"), "'AutoDelta.w' is no loc or scale; .*, or --skip AutoDelta.w"),
        (("G.loc", "G.scale_tril"), "'G.scale_tril' is of a guide with covariances"),
        (("fc_mu", "fc_sigma"), "'fc_mu' is no loc or scale"),
        (("G.scales.v", "G.scales.w"), "expected 'G.locs.v' beside"),
        (("G.locs.\n", "G.scales.\n"), "all printable, in the parameter store"),
        (("G.locs." + 200 * "x", "G.scales.x"), "name .* of 207 letters; expected at most 200"),
        (("G.locs.w_decentered", "G.scales.w_decentered"), "is of a reparameterised model"),
        (("G.locs.w", "G.scale_trils.w"), "is of a guide with covariances"),
    ],
)
def test_other_parameter_stores_are_refused(tmp_path, names, said):
    assert re.search(said, refused(write(tmp_path / "a.pt", store(names=names)), read_pyro))


def state(**arrays):
    """State dict of the given names, each a float32 tensor of shape (2, 3)."""
    items = (text(name.replace("__", ".")) + tensor() + b"s" for name in arrays)
    return b"ccollections\nOrderedDict\n)R" + b"".join(items)


def test_buffers_are_ignored_and_what_is_unknown_is_named(tmp_path):
    known = {"a__mu_weight": 0, "a__rho_weight": 0}
    buffers = known | {"a__eps_weight": 0, "a__prior_weight_mu": 0}
    sites = READERS["bayesian-torch"](write(tmp_path / "a.pt", state(**buffers)))
    assert list(sites) == ["a.weight"]
    for extra, said in [
        ({"bn__running_mean": 0}, "expected 'bn.running_var' beside it"),
        ({"bn__running_mean": 0, "bn__running_var": 0}, "'bn' holds arrays of shapes"),
        ({"a__running_mean": 0, "a__running_var": 0}, "a random factor of a batch normalisation"),
        ({"log_noise": 0}, "'log_noise' is unknown; .*, or --skip log_noise"),
        ({"b__mu_bias": 0}, "expected 'b.rho_bias' beside it"),
        ({"b__rho_bias": 0}, "'b.rho_bias' has no mean"),
        ({"a__mu_kernel": 0, "a__rho_kernel": 0}, "is there twice"),
    ]:
        path = write(tmp_path / "b.pt", state(**known, **extra))
        assert re.search(said, refused(path, READERS["bayesian-torch"]))


def test_torchbnn_scales_are_exponentials(tmp_path):
    path = write(tmp_path / "a.pt", state(fc__weight_mu=0, fc__weight_log_sigma=0))
    posterior = READERS["torchbnn"](path)["fc.weight"]
    np.testing.assert_allclose(posterior.scale.ravel(), np.exp(np.arange(6.0)), rtol=1e-15)


def test_numbers_that_are_no_posterior_are_named(tmp_path):
    data = np.array([0, 1, np.nan, 3, 4, 5], "<f4").tobytes()
    path = write(tmp_path / "nan.pt", state(a__mu_weight=0, a__rho_weight=0), data)
    assert "site 'a.weight' holds NaN" in refused(path, READERS["bayesian-torch"])
    data = np.full(6, 1e4, "<f4").tobytes()  # e^10000
    path = write(tmp_path / "inf.pt", state(a__weight_mu=0, a__weight_log_sigma=0), data)
    assert "site 'a.weight': posterior: NaN or infinity" in refused(path, READERS["torchbnn"])
    path = write(
        tmp_path / "int.pt", state(a__mu_weight=0, a__rho_weight=0).replace(b"Float", b"Int")
    )
    assert "of type int32" in refused(path, READERS["bayesian-torch"])


def test_numpyro_files_that_are_wrong(tmp_path):
    one = np.ones((2, 2))
    cases: list[tuple[dict, str]] = [
        ({"w_auto_loc": one}, "expected 'w_auto_scale' beside"),
        ({"w_auto_scale": one}, "expected 'w_auto_loc' beside"),
        ({"w": one}, "'w' is no loc or scale"),
        ({"w_auto_loc": one, "w_auto_scale": -one}, "negative scale"),
        ({"w_auto_loc": one, "w_auto_scale": one[0]}, "expected the same shape"),
        ({"w_auto_loc": np.array([{}])}, "expected a plain array"),
        ({"w_auto_loc": one.astype(int), "w_auto_scale": one}, "of type int64"),
    ]
    for arrays, said in cases:
        np.savez(tmp_path / "a.npz", **arrays)
        assert said in refused(tmp_path / "a.npz", read_numpyro)
    header = io.BytesIO()
    claim = {"descr": "<f8", "fortran_order": False, "shape": (2**40, 2**40)}
    np.lib.format.write_array_header_1_0(header, claim)
    broken = header.getvalue().replace(b"}", b" ")
    for data in (header.getvalue(), broken, b"", b"\x93NUMPY\x09\x00", b"PK"):
        with zipfile.ZipFile(tmp_path / "b.npz", "w") as file:
            file.writestr("w_auto_loc.npy", data)
        assert "expected" in refused(tmp_path / "b.npz", read_numpyro)


def test_numpyro_sites_come_in_natural_order(tmp_path):
    names = [f"fc{i}" for i in (10, 1, 2)]
    arrays: dict = {f"{n}_auto_{what}": np.ones(2) for n in names for what in ("loc", "scale")}
    np.savez(tmp_path / "a.npz", **arrays)
    assert list(read_numpyro(tmp_path / "a.npz")) == ["fc1", "fc2", "fc10"]


def test_an_archive_of_numbers_that_unpacks_to_too_much(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "bomb.npz", a_auto_loc=np.zeros(1_000_000))
    monkeypatch.setattr(archive, "LARGEST", 1_000_000)
    assert "expected at most 1000000" in refused(tmp_path / "bomb.npz", read_numpyro)


@pytest.mark.parametrize("tool", ["pyro", "bayesian-torch", "numpyro"])
def test_a_file_broken_off_anywhere(tmp_path, tool):
    source = {"pyro": PYRO, "bayesian-torch": BAYESIAN_TORCH, "numpyro": NUMPYRO}[tool]
    data, path = source.read_bytes(), tmp_path / "part"
    for length in [*range(0, len(data), 100), *range(len(data) - 100, len(data))]:
        path.write_bytes(data[:length])
        refused(path, READERS[tool])


@pytest.mark.parametrize("tool", ["pyro", "bayesian-torch", "numpyro"])
def test_a_file_with_wrong_bytes(tmp_path, tool):
    """Loads, or is an InputError; checksums are taken away so that parsers see the bytes."""
    source = {"pyro": PYRO, "bayesian-torch": BAYESIAN_TORCH, "numpyro": NUMPYRO}[tool]
    data, path = source.read_bytes(), tmp_path / "wrong"
    rng = np.random.default_rng(1)
    loaded = 0
    for _ in range(600):
        wrong = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            wrong[place] = rng.integers(256)
        path.write_bytes(wrong)
        loaded += _loads(path, READERS[tool])
    assert loaded < 600


def test_a_pickle_with_wrong_bytes(tmp_path):
    with zipfile.ZipFile(PYRO) as file:
        members = {name.partition("/")[2]: file.read(name) for name in file.namelist()}
    path = tmp_path / "wrong.pt"
    rng = np.random.default_rng(2)
    loaded = 0
    for _ in range(1500):
        wrong = bytearray(members["data.pkl"])
        for place in rng.integers(0, len(wrong), rng.integers(1, 4)):
            wrong[place] = rng.integers(256)
        with zipfile.ZipFile(path, "w") as file:
            for name, data in members.items():
                file.writestr(f"m/{name}", wrong if name == "data.pkl" else data)
        loaded += _loads(path, read_pyro)
    assert 0 < loaded < 1500


def _loads(path, reader):
    try:
        sites = reader(path)
    except InputError:
        return False
    assert all(isinstance(p, Posterior) for p in sites.values())
    return True


SOME = {"a__mu_weight": 0, "a__rho_weight": 0}


def with_vectors(path, *, gamma=True):
    """State dict of a weight and a batch normalisation of six channels, all numbers 0 to 5."""
    names = ["running_mean", "running_var", *(["weight", "bias"] if gamma else [])]
    vectors = b"".join(text(f"bn.{name}") + tensor((6,), (1,)) + b"s" for name in names)
    counted = text("bn.num_batches_tracked") + tensor((), ()) + b"s"
    return write(path, state(**SOME) + vectors + counted)


@pytest.mark.parametrize("gamma", [True, False])
def test_statistics_of_a_batch_normalisation(tmp_path, gamma):
    sites = READERS["bayesian-torch"](with_vectors(tmp_path / "a.pt", gamma=gamma))
    assert list(sites) == ["a.weight", "bn"]
    found, numbers = sites["bn"], np.arange(6.0)
    for name, want in [
        ("mean", numbers),
        ("var", numbers),
        ("gamma", numbers if gamma else np.ones(6)),
        ("beta", numbers if gamma else np.zeros(6)),
    ]:
        np.testing.assert_array_equal(getattr(found, name), want)


def test_known_weights_have_scale_0_and_are_no_posterior_alone(tmp_path):
    reader = READERS["bayesian-torch"]
    sites = reader(write(tmp_path / "a.pt", state(**SOME, fc__weight=0)))
    assert not sites["fc.weight"].scale.any()
    np.testing.assert_array_equal(sites["fc.weight"].mean.ravel(), np.arange(6.0))
    assert "weights without scales" in refused(
        write(tmp_path / "b.pt", state(fc__weight=0)), reader
    )
    row = b"ccollections\nOrderedDict\n)R" + text("ln.weight") + tensor((6,), (1,)) + b"s"
    assert "without running statistics" in refused(write(tmp_path / "c.pt", row), reader)
    assert "holds no parameters" in refused(write(tmp_path / "d.pt", state()), reader)


def test_the_state_dict_is_found_in_a_checkpoint_or_the_choice_is_asked_for(tmp_path):
    reader = READERS["bayesian-torch"]
    part = state(**{f"module__{name}": 0 for name in SOME})
    other = b"}" + text("lr") + b"K\x01s"
    one = b"}" + text("epoch") + b"K\x03s" + text("net") + part + b"s" + text("opt") + other + b"s"
    assert list(reader(write(tmp_path / "a.pt", one))) == ["a.weight"]
    two = one + text("ema") + part + b"s"
    assert "'net', 'ema' all hold weights" in refused(write(tmp_path / "b.pt", two), reader)


def test_parameters_are_skipped_by_name(tmp_path):
    reader = READERS["bayesian-torch"]
    path = write(tmp_path / "a.pt", state(**SOME, b__mu_weight=0, b__rho_weight=0, log_noise=0))
    assert list(reader(path, skip=["log_noise", "b.weight"])) == ["a.weight"]
    said = refused(path, lambda p: reader(p, skip=["log_noise", "c.weight"]))
    assert "--skip c.weight: expected one of a.weight, b.weight, log_noise; did you mean" in said


def test_a_row_of_a_flat_guide(tmp_path):
    np.savez(tmp_path / "a.npz", auto_loc=np.arange(3.0), auto_scale=np.ones(3))
    (row,) = read_numpyro(tmp_path / "a.npz").values()
    np.testing.assert_array_equal(row.posterior.mean, np.arange(3.0))
    np.savez(tmp_path / "b.npz", auto_loc=np.arange(3.0))
    assert "expected 'auto_scale' beside" in refused(tmp_path / "b.npz", read_numpyro)
    ones = np.ones(3)
    np.savez(tmp_path / "c.npz", auto_loc=ones, auto_scale=ones, auto_cov_factor=ones)
    assert "guide with covariances" in refused(tmp_path / "c.npz", read_numpyro)


def test_two_types_of_floats_and_their_limits(tmp_path):
    half = state(**SOME).replace(b"Float", b"Half")
    data = np.arange(6, dtype="<f2").tobytes()
    sites = READERS["bayesian-torch"](write(tmp_path / "a.pt", half, data))
    np.testing.assert_array_equal(sites["a.weight"].mean.ravel(), np.arange(6.0))
    quantised = state(**SOME).replace(b"Float", b"Char")
    path = write(tmp_path / "b.pt", quantised, bytes(range(6)))
    assert "of type int8; expected floats" in refused(path, READERS["bayesian-torch"])
