"""Forward passes of other tools, where they are installed (extra `peers`).

Each function builds the same network in float32, with the same means and scales, and returns the
call that the tool's documentation shows, without gradients. SVI-30 is thirty passes, each with a
new draw of the weights; all outputs are kept. Absent tools are named, not measured.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from refbnn.layers import AvgPool2d, Conv2d, Dense, Flatten, Layer, MaxPool2d, Normalise, ReLU
from refbnn.network.network import Network
from refbnn.numerics.softplus import inverse_softplus
from refbnn.prediction.predict import SVI_SAMPLES

Call = Callable[[], Any]


def calls(
    net: Network, x: np.ndarray, names: Collection[str] | None = None
) -> tuple[dict[str, Call], dict[str, str]]:
    """One prediction of every tool for x, (B, ...), and the reasons why tools are absent.

    With `names`, of these alone.
    """
    made: dict[str, Call] = {}
    absent: dict[str, str] = {}
    for name, (package, make) in _TOOLS.items():
        if names is not None and name not in names:
            continue
        if find_spec("torch") is None or find_spec(package) is None:
            absent[name] = "not installed"
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tools' own
            import torch

            torch.set_num_threads(1)  # as everything else in the comparison
            # Means that decayed to subnormal numbers take a hundred times as long, and count as 0
            # in our kernels.
            torch.set_flush_denormal(True)
            torch.manual_seed(0)
            try:
                call = partial(_without_gradients, make(net, _tensor(x)))
                call()
            except Exception as error:  # whatever a tool raises if it cannot run this network
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                absent[name] = f"cannot run it: {reason[:80]}"
            else:
                made[name] = call
    return made, absent


def as_torch(layers: Sequence[Layer]):
    """Build a PyTorch module of these layers, with weights of its own.

    Raises
    ------
    ValueError
        If a layer is not Dense, Conv2d, MaxPool2d, AvgPool2d, Flatten, ReLU or Normalise.
    """
    from torch import nn

    class Normalised(nn.Module):
        def __init__(self, layer: Normalise):
            super().__init__()
            self.mean, self.sd = (_tensor(np.asarray(v)) for v in (layer.mean, layer.sd))

        def forward(self, x):
            axes = (-1, 1, 1) if self.mean.ndim and x.ndim > 2 else self.mean.shape
            return (x - self.mean.reshape(axes)) / self.sd.reshape(axes)

    def module(layer: Layer):
        match layer:
            case Dense():
                return nn.Linear(layer.in_features, layer.out_features)
            case Conv2d():
                sizes = (layer.in_channels, layer.out_channels, layer.kernel_size)
                rest: dict[str, Any] = {"stride": layer.stride, "padding": layer.padding}
                return nn.Conv2d(*sizes, groups=layer.groups, **rest)
            case MaxPool2d():
                return nn.MaxPool2d(layer.kernel_size, layer.stride, layer.padding)
            case AvgPool2d():
                return nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding)
            case Flatten():
                return nn.Flatten()
            case ReLU():
                return nn.ReLU()
            case Normalise():
                return Normalised(layer)
        raise ValueError(f"no PyTorch layer for {type(layer).__name__}")

    return nn.Sequential(*map(module, layers))


def to_bayesian_torch(module) -> None:
    """Replace a module's layers by those of bayesian-torch, as its documentation does."""
    from bayesian_torch.models.dnn_to_bnn import dnn_to_bnn

    options = {"type": "Reparameterization", "moped_enable": False, "moped_delta": 0.5}
    options |= {"prior_mu": 0.0, "prior_sigma": 1.0}
    options |= {"posterior_mu_init": 0.0, "posterior_rho_init": -3.0}
    dnn_to_bnn(module, options)


def _of_means(net: Network):
    """Build the PyTorch module of the posterior means."""
    import torch

    module = as_torch(net.layers).eval()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(_tensor(net.parameters()[name].mean))
    return module


def _tensor(array: np.ndarray):
    import torch

    return torch.from_numpy(np.array(array, np.float32))


def _without_gradients(call: Call) -> Any:
    import torch

    with torch.inference_mode():
        return call()


def _deterministic(net: Network, x) -> Call:
    return partial(_of_means(net), x)


def _sampled(net: Network, x) -> Call:
    """Sample in plain PyTorch: each pass draws every weight anew."""
    import torch

    module = _of_means(net)
    posteriors = {n: (_tensor(p.mean), _tensor(p.scale)) for n, p in net.parameters().items()}

    def sample():
        drawn = {n: m + s * torch.randn_like(m) for n, (m, s) in posteriors.items()}
        return torch.func.functional_call(module, drawn, (x,))

    return lambda: torch.stack([sample() for _ in range(SVI_SAMPLES)])


def _bayesian_torch(net: Network, x) -> Call:
    import torch

    module = _of_means(net)
    to_bayesian_torch(module)
    with torch.no_grad():
        for name, parameter in module.named_parameters():  # "0.mu_weight", "0.rho_kernel", ...
            index, _, own = name.partition(".")
            kind, _, part = own.partition("_")
            posterior = net.parameters()[f"{index}.{part.replace('kernel', 'weight')}"]
            values = posterior.mean if kind == "mu" else inverse_softplus(posterior.scale)
            parameter.copy_(_tensor(values))
    module.eval()
    return lambda: torch.stack([module(x) for _ in range(SVI_SAMPLES)])


def _fastbnns(net: Network, x) -> Call:
    """Propagate moments in one pass."""
    from fastbnns.bnn.base import BNN
    from fastbnns.bnn.types import MuVar

    module = BNN(nn=_of_means(net), convert_in_place=False).eval()
    for name, parameter in module.named_parameters():
        # Names: "bnn.0._module.weight", "bnn.0._module_params.weight_rho". The latter shares one
        # number in memory, so parameters are replaced, not filled in place.
        _, index, _, part = name.split(".")
        posterior = net.parameters()[f"{index}.{part.removesuffix('_rho')}"]
        is_mean = not part.endswith("_rho")
        values = posterior.mean if is_mean else inverse_softplus(posterior.scale)
        parameter.data = _tensor(values)
    return lambda: module(MuVar(x))


def _pyro(net: Network, x) -> Call:
    import pyro
    from pyro import distributions
    from pyro.infer import Predictive
    from pyro.nn import PyroSample
    from pyro.nn.module import to_pyro_module_

    pyro.clear_param_store()
    module = _of_means(net)
    to_pyro_module_(module)
    posteriors = net.parameters()
    for prefix, part in list(module.named_modules()):
        for name, parameter in list(part.named_parameters(recurse=False)):
            own = posteriors[f"{prefix}.{name}"]
            law = distributions.Normal(_tensor(own.mean), _tensor(own.scale))
            setattr(part, name, PyroSample(law.to_event(parameter.dim())))
    predictive = Predictive(module, num_samples=SVI_SAMPLES, return_sites=("_RETURN",))
    return partial(predictive, x)


def _pyro_vectorised(net: Network, x) -> Call:
    """All samples in one pass, `Predictive(parallel=True)`, for which a layer takes many weights.

    Raises
    ------
    ValueError
        If a layer is not Dense, Flatten or ReLU: PyTorch's convolutions take one set of weights.
    """
    import pyro
    import torch
    from pyro import distributions
    from pyro.infer import Predictive
    from pyro.nn import PyroModule, PyroSample

    class Affine(PyroModule):
        def forward(self, x):
            return x @ self.weight.transpose(-1, -2) + self.bias.unsqueeze(-2)

    if not all(isinstance(layer, Dense | Flatten | ReLU) for layer in net.layers):
        raise ValueError("many sets of weights at once: expected Dense, Flatten and ReLU alone")
    pyro.clear_param_store()
    layers = []
    for layer, own in zip(net.layers, net.by_layer(net.parameters()), strict=True):
        if isinstance(layer, Dense):
            affine = Affine()
            for name, one in own.items():
                law = distributions.Normal(_tensor(one.mean), _tensor(one.scale))
                setattr(affine, name, PyroSample(law.to_event(one.mean.ndim)))
            layers.append(affine)
        elif isinstance(layer, ReLU):
            layers.append(torch.nn.ReLU())
    module = PyroModule[torch.nn.Sequential](*layers)
    predictive = Predictive(
        module, num_samples=SVI_SAMPLES, return_sites=("_RETURN",), parallel=True
    )
    return partial(predictive, x.flatten(1))


_TOOLS: dict[str, tuple[str, Callable[[Network, Any], Call]]] = {
    "PyTorch, deterministic": ("torch", _deterministic),
    f"PyTorch, SVI-{SVI_SAMPLES}": ("torch", _sampled),
    f"bayesian-torch, SVI-{SVI_SAMPLES}": ("bayesian_torch", _bayesian_torch),
    f"Pyro, SVI-{SVI_SAMPLES}": ("pyro", _pyro),
    f"Pyro, SVI-{SVI_SAMPLES}, vectorised": ("pyro", _pyro_vectorised),
    "fastbnns, propagation": ("fastbnns", _fastbnns),
}
