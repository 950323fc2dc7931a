"""Make a network of named arrays.

The files of other tools hold weights, but neither layers nor activations. The layers are either
those of a named architecture, or assumed:

* arrays of two dimensions or more are weights, (out, in) of a dense layer or OIHW of a convolution,
  in their order; arrays of one dimension are biases, the i-th belongs to the i-th weight; without
  any, all biases are known to be 0;
* ReLU stands between layers, Flatten before the first dense layer after convolutions; convolutions
  have stride 1 and no padding.

Models that are written as x @ w keep dense weights as (in, out). The order is chosen in which sizes
chain, w₁: in → h₁, w₂: h₁ → h₂, ..., and fit the biases. Where both orders fit, as with square
weights alone, the caller has to say which.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refbnn.errors import InputError, quoted
from refbnn.layers import Conv2d, Dense, Flatten, Layer, ReLU
from refbnn.layers.posterior import Posterior
from refbnn.network.architectures import Architecture
from refbnn.network.interchange.sites import Sites
from refbnn.network.network import Network
from refbnn.prior import Prior

_DENSE, _CONVOLUTION = 2, 4  # dimensions of a weight


def assemble(
    sites: Sites,
    *,
    prior: Prior,
    architecture: Architecture | None = None,
    transpose: bool | None = None,
) -> Network:
    """Network of Gaussian noise from a posterior's sites.

    Parameters
    ----------
    sites : mapping of str to Posterior
        Posteriors in the order of the layers.
    prior : Prior
        Prior of the network; the files hold none.
    architecture : Architecture, optional
        Source of the layers; by default they are assumed, see the top of the file.
    transpose : bool, optional
        Whether dense weights are (in, out); by default the order that fits.

    Raises
    ------
    InputError
        If the sites fit no network, or, without `transpose`, two; the message names the site.
    """
    weights, biases = _split(sites)
    found: list[Network] = []
    errors: list[InputError] = []
    has_dense = any(len(p.shape) == _DENSE for p in weights.values())
    both = (False, True) if has_dense else (False,)
    for turned in both if transpose is None else (transpose,):
        oriented = {site: _oriented(p, turned) for site, p in weights.items()}
        *_, last = oriented.values()
        try:
            layers = architecture.layers(last.shape[0]) if architecture else _assumed(oriented)
            parameters = _placed(layers, oriented, biases)
        except InputError as error:
            errors.append(error)
            continue
        # A dense first layer tells the shape of its input by itself.
        images = architecture is not None and not architecture.flat
        input_shape = architecture.input_shape() if architecture and images else None
        net = Network(layers, prior=prior, input_shape=input_shape)
        net.set_parameters(parameters)
        found.append(net)
    if not found:
        raise errors[0]
    if len(found) > 1:
        raise InputError(
            "weights fit as (out, in) and as (in, out); expected --transpose or --no-transpose"
        )
    return found[0]


def _split(sites: Sites) -> tuple[Sites, Sites]:
    """Weights and biases, the i-th of each belonging together."""
    weights = {site: p for site, p in sites.items() if len(p.shape) > 1}
    biases = {site: p for site, p in sites.items() if len(p.shape) == 1}
    for site, p in sites.items():
        if not (len(p.shape) == 1 or len(p.shape) in (_DENSE, _CONVOLUTION)) or not p.mean.size:
            raise InputError(
                f"site {quoted(site)} has shape {p.shape}; expected a bias of one dimension, "
                "a dense weight of two or a convolution of four"
            )
    if not weights or len(biases) not in (0, len(weights)):
        raise InputError(
            f"{len(weights)} weights and {len(biases)} biases; "
            "expected a bias for every weight, or none at all"
        )
    return weights, biases


def _oriented(p: Posterior, turned: bool) -> Posterior:
    turn = turned and len(p.shape) == _DENSE
    return Posterior(p.mean.T.copy(), p.scale.T.copy()) if turn else p


def _assumed(weights: Sites) -> list[Layer]:
    """Layers that the shapes suggest; InputError if they do not chain."""
    layers: list[Layer] = []
    before = ""
    flat = channels = None
    for site, p in weights.items():
        out, width = p.shape[:2]
        if layers:
            layers.append(ReLU())
        if len(p.shape) == _CONVOLUTION:
            if flat is not None or channels not in (None, width):
                raise InputError(_no_chain(site, p.shape, before, weights))
            layers.append(Conv2d(width, out, (p.shape[2], p.shape[3])))
            channels = out
        else:
            if flat is None and channels is not None:
                fits = width % channels == 0  # channels × height × width
                layers.append(Flatten())
            else:
                fits = flat in (None, width)
            if not fits:
                raise InputError(_no_chain(site, p.shape, before, weights))
            layers.append(Dense(width, out))
            flat = out
        before = site
    return layers


def _no_chain(site: str, shape: tuple[int, ...], before: str, weights: Sites) -> str:
    return (
        f"site {quoted(site)} of shape {shape} does not follow {quoted(before)} of shape "
        f"{weights[before].shape}; expected sizes that chain, or a named architecture"
    )


def _placed(layers: Sequence[Layer], weights: Sites, biases: Sites) -> Sites:
    """Posterior of every parameter of the layers, by the network's names."""
    trained = [(i, layer.parameter_shapes()) for i, layer in enumerate(layers)]
    trained = [(i, shapes) for i, shapes in trained if shapes]
    if len(trained) != len(weights):
        raise InputError(
            f"{len(weights)} weights, {', '.join(weights)}; "
            f"expected {len(trained)}, one for each layer with weights"
        )
    placed: Sites = {}
    bias_sites: list[str | None] = [*biases] or [None] * len(weights)
    for (index, shapes), site, bias in zip(trained, weights, bias_sites, strict=True):
        own = {"weight": (site, weights[site])}
        if bias is not None:
            own["bias"] = (bias, biases[bias])
        elif "bias" in shapes:
            zeros = np.zeros(shapes["bias"])
            own["bias"] = (f"bias of {site}", Posterior(zeros, zeros))
        for name, (of, posterior) in own.items():
            if posterior.shape != shapes.get(name):
                raise InputError(
                    f"site {quoted(of)} has shape {posterior.shape}; "
                    f"expected {shapes.get(name, 'none')} for the {name} of layer {index}"
                )
            placed[f"{index}.{name}"] = posterior
    return placed
