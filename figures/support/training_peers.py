"""One training step of other tools: Pyro and bayesian-torch, where they are installed.

Each function makes the network that refbnn's layers describe, and the step that the tool's own
documentation shows: one posterior sample, Gaussian mean field, prior N(0, 1), Adam at its defaults.
The losses differ, the work does not: Pyro's `Trace_ELBO` takes log q − log p of the sample for KL;
bayesian-torch 0.5 takes the closed form, averaged and not summed over each array.

Pyro checks arguments of distributions in every step by default; without these checks it is a fifth
faster.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from kernels.bench.peers import as_torch, to_bayesian_torch
from refbnn.layers import Layer

Step = Callable[[], Any]

LEARNING_RATE = 1e-3


def absent() -> list[str]:
    """Names of the tools that are not installed."""
    return [name for name, (package, _) in _TOOLS.items() if find_spec(package) is None]


def steps(layers: Sequence[Layer], x: np.ndarray, y: np.ndarray, n_data: int) -> dict[str, Step]:
    """Return one training step of every installed tool, by the tool's name.

    The layers are of kinds that `kernels.bench.peers.as_torch` converts; x (B, ...) is float32,
    y (B,) int, and `n_data` the size of the whole data set.
    """
    made = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tools warn on import
        for name, (package, make) in _TOOLS.items():
            if find_spec(package) is None:
                continue
            import torch

            torch.manual_seed(0)
            net, tensors = as_torch(layers), (torch.from_numpy(x), torch.from_numpy(y))
            made[name] = make(net, *tensors, n_data)
    return made


def set_threads(n_threads: int) -> None:
    """Set PyTorch's number of threads, where it is installed."""
    if find_spec("torch") is not None:
        import torch

        torch.set_num_threads(n_threads)


def _pyro(net, x, y, n_data: int) -> Step:
    import pyro
    import torch
    from pyro import distributions
    from pyro.infer import SVI, Trace_ELBO
    from pyro.infer.autoguide import AutoNormal
    from pyro.nn import PyroSample
    from pyro.nn.module import to_pyro_module_

    pyro.clear_param_store()
    pyro.enable_validation(True)  # Pyro's default
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
    from bayesian_torch.models.dnn_to_bnn import get_kl_loss

    to_bayesian_torch(net)
    adam = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)

    def step() -> float:
        adam.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x), y) + get_kl_loss(net) / n_data
        loss.backward()
        adam.step()
        return loss.item()

    return step


_TOOLS = {"Pyro": ("pyro", _pyro), "bayesian-torch": ("bayesian_torch", _bayesian_torch)}
