"""Posteriors trained with other tools, read without those tools: one file a tool.

A reader of `READERS` turns a file into named posteriors; `assembly` makes a network of them.
"""

from collections.abc import Callable
from functools import partial

from refbnn.network.interchange import bayesian_torch, numpyro, pyro, torchbnn
from refbnn.network.interchange.sites import Sites
from refbnn.network.interchange.state_dict import read_state_dict

READERS: dict[str, Callable[..., Sites]] = {
    "pyro": pyro.read,
    "numpyro": numpyro.read,
    "bayesian-torch": partial(read_state_dict, convention=bayesian_torch.CONVENTION),
    "torchbnn": partial(read_state_dict, convention=torchbnn.CONVENTION),
}
__all__ = ["READERS"]
