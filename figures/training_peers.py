"""One training step of other tools: Pyro and bayesian-torch, where they are installed.

Each function makes the same network as refbnn's layers say, and the step that the tool's own
documentation shows: one posterior sample, Gaussian mean field, prior N(0, 1), Adam at its defaults.
They differ in the loss, not in the work: Pyro's `Trace_ELBO` takes log q − log p of the sample for
the KL; bayesian-torch 0.5 takes its closed form, averaged and not summed over each array.

Pyro checks arguments of distributions in every step unless told not to; here it is told not to,
as a user in a hurry would, which makes it a fifth faster.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from refbnn.layers import Conv2d, Dense, Flatten, Layer, MaxPool2d, ReLU

Step = Callable[[], Any]

LEARNING_RATE = 1e-3


def absent() -> list[str]:
    """Tools that are not installed here."""
    return [name for name, (package, _) in _TOOLS.items() if find_spec(package) is None]


def steps(layers: Sequence[Layer], x: np.ndarray, y: np.ndarray, n_data: int) -> dict[str, Step]:
    """One training step of every tool that is installed, by its name.

    Parameters
    ----------
    layers : sequence of Layer
        Dense, Conv2d, MaxPool2d, Flatten and ReLU.
    x : (B, ...) of float32
    y : (B,) of int
    n_data : int
        N, the size of the whole data set.
    """
    missing = absent()
    made = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tools' own, on import
        for name, (_, make) in _TOOLS.items():
            if name not in missing:
                import torch

                torch.manual_seed(0)
                made[name] = make(
                    _as_torch(layers), torch.from_numpy(x), torch.from_numpy(y), n_data
                )
    return made


def set_threads(n_threads: int) -> None:
    """PyTorch's threads, where it is installed."""
    if find_spec("torch") is not None:
        import torch

        torch.set_num_threads(n_threads)


def _as_torch(layers: Sequence[Layer]):
    from torch import nn

    def one(layer: Layer):
        match layer:
            case Dense():
                return nn.Linear(layer.in_features, layer.out_features)
            case Conv2d():
                sizes = (layer.in_channels, layer.out_channels, layer.kernel_size)
                rest: dict[str, Any] = {"stride": layer.stride, "padding": layer.padding}
                return nn.Conv2d(*sizes, groups=layer.groups, **rest)
            case MaxPool2d():
                return nn.MaxPool2d(layer.kernel_size, layer.stride, layer.padding)
            case Flatten():
                return nn.Flatten()
            case ReLU():
                return nn.ReLU()
        raise TypeError(f"no PyTorch layer for {layer}")

    return nn.Sequential(*map(one, layers))


def _pyro(net, x, y, n_data: int) -> Step:
    import pyro
    import torch
    from pyro import distributions
    from pyro.infer import SVI, Trace_ELBO
    from pyro.infer.autoguide import AutoNormal
    from pyro.nn import PyroSample
    from pyro.nn.module import to_pyro_module_

    pyro.clear_param_store()
    pyro.enable_validation(True)  # its default, which a user gets
    to_pyro_module_(net)
    for module in list(net.modules()):
        for name, parameter in list(module.named_parameters(recurse=False)):
            prior = distributions.Normal(torch.zeros(parameter.shape), 1.0)
            setattr(module, name, PyroSample(prior.to_event(parameter.dim())))

    def model(x, y):
        logits = net(x)
        with pyro.plate("data", n_data, subsample_size=len(x)):
            pyro.sample("y", distributions.Categorical(logits=logits), obs=y)

    guide = AutoNormal(model, init_scale=0.05)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": LEARNING_RATE}), Trace_ELBO())
    return partial(svi.step, x, y)


def _bayesian_torch(net, x, y, n_data: int) -> Step:
    import torch
    from bayesian_torch.models.dnn_to_bnn import dnn_to_bnn, get_kl_loss

    options = {
        "prior_mu": 0.0,
        "prior_sigma": 1.0,
        "posterior_mu_init": 0.0,
        "posterior_rho_init": -3.0,
        "type": "Reparameterization",
        "moped_enable": False,
        "moped_delta": 0.5,
    }
    dnn_to_bnn(net, options)
    adam = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)

    def step() -> float:
        adam.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x), y) + get_kl_loss(net) / n_data
        loss.backward()
        adam.step()
        return loss.item()

    return step


_TOOLS = {"Pyro": ("pyro", _pyro), "bayesian-torch": ("bayesian_torch", _bayesian_torch)}
