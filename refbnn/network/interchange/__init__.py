"""Posteriors trained with other tools, read without those tools: one file a tool."""

from refbnn.network.interchange import bayesian_torch, numpyro, pyro, torchbnn

READERS = {
    "pyro": pyro.read,
    "numpyro": numpyro.read,
    "bayesian-torch": bayesian_torch.read,
    "torchbnn": torchbnn.read,
}
__all__ = ["READERS"]
