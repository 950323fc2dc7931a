"""Train two networks with other tools, and write down what these tools compute with them.

    python tests/data/peers/make.py

needs the extra `peers`, and takes a minute. Beside the files that the tools save, each network has
an `.expected.npz` with the tool's own numbers for the 1,000 test digits of `mnist-subset`:

    labels, accuracy                 with every weight at its mean
    at_means (1000, 10)              probabilities, with every weight at its mean
    drawn (2, 1000, 10)              probabilities under the weights µ + σ z, see `noise`
    auroc_entropy                    digits against the pictures of `fashion-subset`, by the entropy
                                     of `at_means`
    auroc_mutual_information         the same, by the mutual information of the two of `drawn`

The tools train on (x − 0.1307)/0.3081.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyro
import torch
from bayesian_torch.layers import Conv2dReparameterization, LinearFlipout
from pyro import distributions
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoDiagonalNormal
from pyro.nn import PyroModule, PyroSample
from torch import nn

from refbnn import data

FOLDER = Path(__file__).parent
MEAN, SD = 0.1307, 0.3081
BATCH = 100
SETS = (1, 2)
Logits = Callable[[torch.Tensor], torch.Tensor]


def noise(n: int, number: int) -> np.ndarray:
    """z of weight set `number`: uniform of variance 1, from multiples of the golden ratio."""
    k = np.arange(1, n + 1, dtype=float)
    fraction = np.modf(k * (np.sqrt(5.0) - 1.0) / 2.0 + number / np.pi)[0]
    return np.sqrt(3.0) * (2.0 * fraction - 1.0)


def inputs(name: str, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised images of a data set, and their labels."""
    found = data.load(name, split)
    return torch.from_numpy((found.x - MEAN) / SD).float(), torch.from_numpy(found.y)


class LeNet5(nn.Module):
    """LeNet-5 with batch normalisation, narrowed to 25,000 weights."""

    def __init__(self):
        super().__init__()
        prior = {"posterior_rho_init": -4.0}
        self.conv1 = Conv2dReparameterization(1, 6, 5, padding=2, **prior)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = Conv2dReparameterization(6, 12, 5, bias=False, **prior)
        self.bn2 = nn.BatchNorm2d(12)
        self.fc1 = LinearFlipout(300, 64, **prior)
        self.bn3 = nn.BatchNorm1d(64)
        self.fc2 = LinearFlipout(64, 40, **prior)
        self.fc3 = LinearFlipout(40, 10, **prior)

    def forward(self, x):
        """Logits, and the KL divergence of all layers."""
        kl = 0.0
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2)):
            x, own = conv(x)
            x = torch.max_pool2d(torch.relu(norm(x)), 2)
            kl = kl + own
        x, own = self.fc1(x.flatten(1))
        x = torch.relu(self.bn3(x))
        kl = kl + own
        x, own = self.fc2(x)
        kl = kl + own
        x, own = self.fc3(torch.relu(x))
        return x, kl + own


def train_lenet5() -> LeNet5:
    """LeNet-5 by variational inference, a few epochs."""
    x, y = inputs("mnist-subset", "train")
    net = LeNet5()
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(4):
        for rows in torch.randperm(len(x)).split(BATCH):
            optimiser.zero_grad()
            logits, kl = net(x[rows])
            (nn.functional.cross_entropy(logits, y[rows]) + 0.1 * kl / len(x)).backward()
            optimiser.step()
    return net.eval()


def lenet5_with(net: LeNet5, number: int | None) -> Logits:
    """The network with weights µ + σ z of a set, or µ without: its own layers, σ next to 0."""
    fixed = copy.deepcopy(net)
    state = fixed.state_dict()
    means = [name for name in state if ".mu_" in name]
    z = noise(sum(state[name].numel() for name in means), 0 if number is None else number)
    start = 0
    for name in means:
        rho, end = name.replace(".mu_", ".rho_"), start + state[name].numel()
        scale = torch.log1p(torch.exp(state[rho]))
        own = torch.from_numpy(z[start:end]).float().reshape(scale.shape)
        state[name] += 0.0 if number is None else scale * own
        state[rho].fill_(-100.0)
        start = end
    return lambda x: fixed(x)[0]


def _linear(n_in: int, n_out: int) -> PyroModule:
    layer = PyroModule[nn.Linear](n_in, n_out)
    layer.weight = PyroSample(distributions.Normal(0.0, 0.3).expand([n_out, n_in]).to_event(2))
    layer.bias = PyroSample(distributions.Normal(0.0, 0.3).expand([n_out]).to_event(1))
    return layer


class Mlp(PyroModule):
    """784-24-10 with tanh."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = _linear(784, 24), _linear(24, 10)

    def forward(self, x, y=None):
        """Logits; with labels, also their likelihood."""
        logits = self.fc2(torch.tanh(self.fc1(x.flatten(1))))
        if y is not None:
            with pyro.plate("data", 5000, subsample=torch.arange(len(x))):
                pyro.sample("labels", distributions.Categorical(logits=logits), obs=y)
        return logits


def train_mlp() -> tuple[Mlp, AutoDiagonalNormal]:
    """The tanh network by variational inference with a flat guide, a few epochs."""
    x, y = inputs("mnist-subset", "train")
    model = Mlp()
    guide = AutoDiagonalNormal(model, init_scale=0.02)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 3e-3}), Trace_ELBO())
    for _ in range(15):
        for rows in torch.randperm(len(x)).split(BATCH):
            svi.step(x[rows], y[rows])
    return model, guide


def mlp_with(model: Mlp, guide: AutoDiagonalNormal, number: int | None) -> Logits:
    """The network with the weights of a row µ + σ z, which the guide itself takes apart."""
    row = guide.loc.detach().clone()
    if number is not None:
        row += guide.scale.detach() * torch.from_numpy(noise(len(row), number)).float()
    sites = {site["name"]: value for site, value in guide._unpack_latent(row)}
    return pyro.condition(model, data=sites)


def expected(name: str, fixed: Callable[[int | None], Logits]) -> None:
    """Write what the tool computes, see the top of the file."""
    digits, y = inputs("mnist-subset", "test")
    others, _ = inputs("fashion-subset", "test")

    def probabilities(x: torch.Tensor, number: int | None) -> np.ndarray:
        with torch.no_grad():
            return torch.softmax(fixed(number)(x), dim=1).numpy()

    def entropy(p: np.ndarray) -> np.ndarray:
        return -(p.astype(float) * np.log(np.maximum(p.astype(float), 1e-300))).sum(axis=-1)

    def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
        pairs = outside[:, np.newaxis] - inside
        return np.mean(pairs > 0) + 0.5 * np.mean(pairs == 0)

    at_means = [probabilities(x, None) for x in (digits, others)]
    drawn = [np.stack([probabilities(x, s) for s in SETS]) for x in (digits, others)]
    information = [entropy(p.mean(axis=0)) - entropy(p).mean(axis=0) for p in drawn]
    labels = at_means[0].argmax(axis=1)
    numbers = {
        "accuracy": np.mean(labels == y.numpy()),
        "auroc_entropy": auroc(*(entropy(p) for p in at_means)),
        "auroc_mutual_information": auroc(*information),
    }
    np.savez_compressed(
        FOLDER / f"{name}.expected.npz",
        labels=labels.astype("u1"),
        at_means=at_means[0],
        drawn=drawn[0],
        **numbers,
    )
    print(name, numbers)


def main() -> None:
    """Write all files."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = train_lenet5()
    torch.save({"epoch": 4, "state_dict": net.state_dict()}, FOLDER / "bayesian_torch_lenet5.pt")
    expected("bayesian_torch_lenet5", lambda number: lenet5_with(net, number))
    pyro.set_rng_seed(0)
    pyro.clear_param_store()
    model, guide = train_mlp()
    pyro.get_param_store().save(FOLDER / "pyro_mlp_tanh.pt")
    expected("pyro_mlp_tanh", lambda number: mlp_with(model, guide, number))


if __name__ == "__main__":
    main()
