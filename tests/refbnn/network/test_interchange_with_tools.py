"""The tools themselves write, report, and are read; see the extra `peers` in setup.cfg."""

import warnings

import numpy as np
import pytest

from refbnn.files.torch_file import read_torch
from refbnn.network.interchange import READERS
from tests.helpers.torch_bytes import refused

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: peers)")


def ulps(reported, exact):
    """Distances in units of the reported float32's last place."""
    return np.abs(exact - reported.astype(float)) / np.spacing(np.abs(reported)).astype(float)


TYPES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8"]


@pytest.mark.parametrize("dtype", [*TYPES, "bool"])
def test_every_type_and_view_comes_back(tmp_path, dtype):
    torch.manual_seed(0)
    base = (100 * torch.randn(4, 5, 6)).to(getattr(torch, dtype))
    saved = {
        "whole": base,
        "turned": base.permute(2, 0, 1),
        "part": base[1:3, ::2, 4],
        "scalar": base[1, 2, 3],
        "empty": base[:0],
        "row": torch.nn.Parameter(base.float()[0], requires_grad=True),
    }
    torch.save(saved, tmp_path / "a.pt")
    read = read_torch(tmp_path / "a.pt")
    assert list(read) == list(saved)
    for name, tensor in saved.items():
        plain = tensor.detach()
        want = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
        np.testing.assert_array_equal(read[name], want)


def test_what_else_torch_saves_is_refused(tmp_path):
    older, module, sparse = (tmp_path / name for name in ("older.pt", "module.pt", "sparse.pt"))
    torch.save({"a": torch.ones(3)}, older, _use_new_zipfile_serialization=False)
    assert "older torch.save" in refused(older)
    torch.save(torch.nn.Linear(2, 3), module)
    assert "names 'torch.nn.modules.linear.Linear'" in refused(module)
    torch.save(torch.eye(3).to_sparse(), sparse)
    assert "names 'torch._utils._rebuild_sparse_tensor'" in refused(sparse)
    torch.save(torch.ones(3, dtype=torch.complex64), sparse)
    assert "names 'torch.ComplexFloatStorage'" in refused(sparse)


def test_softplus_of_torch_is_within_2_ulp():
    """The accuracy that `interchange.pyro` states holds where e^ρ is no subnormal float32."""
    from refbnn.numerics.softplus import softplus

    rho = np.random.default_rng(0).uniform(-87.0, 60.0, 200_003).astype(np.float32)
    tensor = torch.from_numpy(rho)
    exact = softplus(rho.astype(float))
    for reported in (
        torch.nn.functional.softplus(tensor),
        torch.log1p(torch.exp(tensor)),
        torch.stack([torch.nn.functional.softplus(r) for r in tensor[:500]]),
    ):
        assert ulps(reported.numpy(), exact[: len(reported)]).max() <= 2.0


@pytest.mark.parametrize("kind", ["softplus_positive", "positive"])
def test_pyro_reports_what_is_read(tmp_path, kind):
    pyro = pytest.importorskip("pyro", reason="Pyro is not installed (extra: peers)")
    from pyro.distributions import constraints
    from pyro.infer.autoguide import AutoNormal

    def model():
        for name, shape in (("fc1.weight", (6, 5)), ("fc1.bias", (6,))):
            normal = pyro.distributions.Normal(torch.zeros(shape), 1.0).to_event(len(shape))
            pyro.sample(name, normal)

    class Guide(AutoNormal):
        scale_constraint = getattr(constraints, kind)

    pyro.clear_param_store()
    guide = Guide(model, init_scale=0.3)
    guide()
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.add_(torch.randn(parameter.shape))
    pyro.get_param_store().save(tmp_path / "a.pt")
    sites = READERS["pyro"](tmp_path / "a.pt")
    assert list(sites) == ["fc1.weight", "fc1.bias"]
    for site, posterior in sites.items():
        loc, scale = guide._get_loc_and_scale(site)
        np.testing.assert_array_equal(posterior.mean, loc.detach().numpy())
        assert ulps(scale.detach().numpy(), posterior.scale).max() <= 2.0


def _softplus(rho):
    return torch.log1p(torch.exp(rho))


@pytest.mark.parametrize("tool", ["bayesian-torch", "torchbnn"])
def test_layers_report_what_is_read(tmp_path, tool):
    if tool == "bayesian-torch":
        pytest.importorskip("bayesian_torch", reason="bayesian-torch is not installed")
        from bayesian_torch.layers import Conv2dReparameterization, LinearReparameterization

        layers = [Conv2dReparameterization(1, 2, 3), LinearReparameterization(8, 3)]
        rhos, means, f = ("rho_kernel", "rho_weight"), ("mu_kernel", "mu_weight"), _softplus
    else:
        torchbnn = pytest.importorskip("torchbnn", reason="torchbnn is not installed")
        layers = [torchbnn.BayesConv2d(0, 0.1, 1, 2, 3), torchbnn.BayesLinear(0, 0.1, 8, 3)]
        rhos, means, f = ("weight_log_sigma",) * 2, ("weight_mu",) * 2, torch.exp
    net = torch.nn.Sequential(layers[0], torch.nn.ReLU(), torch.nn.Flatten(), layers[1])
    torch.save(net.state_dict(), tmp_path / "a.pt")
    sites = READERS[tool](tmp_path / "a.pt")
    assert list(sites) == ["0.weight", "0.bias", "3.weight", "3.bias"]
    for site, layer, mean, rho in zip(("0.weight", "3.weight"), layers, means, rhos, strict=True):
        np.testing.assert_array_equal(sites[site].mean, getattr(layer, mean).detach().numpy())
        reported = f(getattr(layer, rho)).detach().numpy()
        assert ulps(reported, sites[site].scale).max() <= 2.0


def test_numpyro_scales_are_scales(tmp_path):
    numpyro = pytest.importorskip("numpyro", reason="NumPyro is not installed")
    import jax
    from numpyro import distributions, infer

    def model():
        for i in (1, 10, 2):
            numpyro.sample(f"w{i}", distributions.Normal(0.0, 1.0).expand([3]).to_event(1))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX's own
        guide = infer.autoguide.AutoNormal(model, init_scale=0.3)
        svi = infer.SVI(model, guide, numpyro.optim.Adam(0.1), infer.Trace_ELBO())
        state = svi.init(jax.random.PRNGKey(0))
        for _ in range(3):
            state, _ = svi.update(state)
        params = svi.get_params(state)
        # The guide's own quantiles at Φ(0) and Φ(1): µ and µ + σ.
        low, high = (guide.quantiles(params, q) for q in (0.5, 0.8413447460685429))
    np.savez(tmp_path / "a.npz", **params)
    sites = READERS["numpyro"](tmp_path / "a.npz")
    assert list(sites) == ["w1", "w2", "w10"]
    for site, posterior in sites.items():
        np.testing.assert_allclose(posterior.mean, low[site][0], rtol=1e-6)
        # A difference of float32 numbers up to 1 or so, and a float32 quantile function.
        np.testing.assert_allclose(posterior.scale, (high[site] - low[site])[0], atol=1e-5)
