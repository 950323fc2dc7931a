"""Posteriors trained with other tools, read without those tools: one file a tool.

A reader of `READERS` turns a file into named sites; `pairing` and `assembly` make a network of them
and of layers that the caller states. `import_network` does all of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from refbnn.errors import InputError, suggestion
from refbnn.layers import Layer
from refbnn.layers.activations.elementwise import Elementwise
from refbnn.layers.activations.relu import ReLU
from refbnn.layers.layer import Shape
from refbnn.network.architectures import DIGITS, architecture_named
from refbnn.network.interchange import bayesian_torch, numpyro, pyro, torchbnn
from refbnn.network.interchange.assembly import Assembled, Choice, Posteriors, assemble, chain
from refbnn.network.interchange.sites import FlatGuide, Sites
from refbnn.network.interchange.state_dict import read_state_dict
from refbnn.network.layers_text import StatedLayer, as_text, parse
from refbnn.network.network import Network
from refbnn.numerics.arguments import whole_number

READERS: dict[str, Callable[..., Sites]] = {
    "pyro": pyro.read,
    "numpyro": numpyro.read,
    "bayesian-torch": partial(read_state_dict, convention=bayesian_torch.CONVENTION),
    "torchbnn": partial(read_state_dict, convention=torchbnn.CONVENTION),
}
_OUT_IN = ("bayesian-torch", "torchbnn")  # layers of these keep weights as (out, in)
_SORTED = ("numpyro",)  # files of these have lost the order of the layers
_LONGEST_TEXT = 300  # letters of assumed layers in a message
__all__ = ["READERS", "Imported", "import_network"]


@dataclass(frozen=True)
class Imported:
    """A network from a file of another tool.

    Parameters
    ----------
    network : Network
    sites : dict of str to Posterior, Statistics or FlatGuide
        What was read.
    places : dict of str to str
        Parameter or layer of the network for each site, or each part of a flat guide.
    layers : str
        The layers as `refbnn.network.layers_text` writes them; `BatchNorm2d` and `Normalise` that
        the caller stated are no text that it reads.
    """

    network: Network
    sites: Sites
    places: dict[str, str]
    layers: str


def import_network(
    path: str | os.PathLike[str],
    tool: str,
    *,
    layers: str | Sequence[StatedLayer] | None = None,
    arch: str | None = None,
    activation: str | Layer | None = None,
    assume: bool = False,
    input_shape: Sequence[int] | None = None,
    normalise: Layer | None = None,
    transpose: bool | None = None,
    order: Sequence[str] | None = None,
    skip: Collection[str] = (),
) -> Imported:
    """Read a posterior of another tool as a network of Gaussian noise, with the prior N(0, 1).

    A file says nothing of activations, pooling and strides: `layers`, `arch`, `activation` or
    `assume` states them.

    Parameters
    ----------
    path : str or path
    tool : str
        Key of `READERS`.
    layers : str or sequence of Layer
        All layers, as text or objects (`refbnn.network.layers_text`).
    arch : str
        Name of the architecture whose layers they are.
    activation : str or Layer
        The file's dense weights follow each other, this activation between them.
    assume : bool
        Take the weights for such a chain with ReLU, convolutions of stride 1 without padding.
    input_shape : sequence of int
        A network that begins with a dense layer can do without.
    normalise : Layer
        Layer without weights before the others, such as `refbnn.layers.Normalise`.
    transpose : bool
        Whether dense weights are (in, out); by default the one that fits.
    order : sequence of str
        All sites as the layers come, a bias right behind its weight. For a flat guide, the
        parameters of the layers, "0.weight", "0.bias" and so on, as the row holds them.
    skip : collection of str
        Sites and parameters that are no weights of the network.

    Raises
    ------
    InputError
        If the file cannot be read, nothing states its layers, or they and the weights do not fit.
        Messages name arguments by the options of `refbnn import`: --layers is `layers`.

    Examples
    --------
    >>> import tempfile
    >>> from refbnn.network.interchange import import_network
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "params.npz"
    ...     np.savez(file, w1_auto_loc=np.ones((3, 2)), w1_auto_scale=np.ones((3, 2)))
    ...     import_network(file, "numpyro", layers="dense 3 2, tanh").network.layers
    [Dense(3, 2), Tanh()]
    """
    read = _reader(tool)
    choice, shape = _choice(layers, arch, activation, assume, input_shape)
    sites = read(Path(path), skip)

    assembled = partial(
        assemble,
        sites,
        input_shape=shape,
        first=() if normalise is None else (normalise,),
        transpose=False if transpose is None and tool in _OUT_IN else transpose,
        order=order,
        keeps_order=tool not in _SORTED,
        skip=skip,
    )
    try:
        made = _proposed(sites, assembled, shape) if choice is None else assembled(choice)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return Imported(made.network, sites, made.places, as_text(made.layers))


def _reader(tool: str) -> Callable[..., Sites]:
    if tool not in READERS:
        raise InputError(
            f"tool {tool!r}; expected one of {', '.join(READERS)}{suggestion(tool, READERS)}"
        )
    return READERS[tool]


def _choice(
    layers: str | Sequence[StatedLayer] | None,
    arch: str | None,
    activation: str | Layer | None,
    assume: bool,
    input_shape: Sequence[int] | None,
) -> tuple[Choice | None, Shape | None]:
    """Layers for weights, None if the caller states nothing, and the shape of one input."""
    shape = None
    if input_shape is not None:
        shape = tuple(whole_number(size, 1, "input_shape") for size in input_shape)
    stated = {"layers": layers, "arch": arch, "activation": activation, "assume": assume or None}
    given = [f"--{name}" for name, value in stated.items() if value is not None]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)}; expected one of them")
    if layers is not None:
        own = parse(layers) if isinstance(layers, str) else _objects(layers)
        return lambda weights: own, shape
    if arch is not None:
        architecture = architecture_named(arch)
        image = DIGITS
        if shape is None or len(shape) == len(DIGITS):
            image = image if shape is None else shape
            shape = architecture.input_shape(image)
        return lambda weights: architecture.layers(_last(weights).shape[0], image), shape
    if activation is not None:
        between = _activation(activation)
        return lambda weights: _dense_chain(weights, between), shape
    return (lambda weights: chain(weights, ReLU())) if assume else None, shape


def _objects(layers: Sequence[StatedLayer]) -> list[StatedLayer]:
    """The layers; InputError if something else is among them."""
    if not isinstance(layers, Sequence):
        raise InputError(f"layers: {type(layers).__name__}; expected a sequence of layers, or text")
    for index, layer in enumerate(layers):
        if isinstance(layer, type) or not hasattr(layer, "parameter_shapes"):
            raise InputError(f"layers: {str(layer)[:40]!r} at {index}; expected a layer, as Tanh()")
    return list(layers)


def _last(weights: Posteriors):
    if not weights:
        raise InputError("all weights lie in one row, without shapes; expected --layers")
    return list(weights.values())[-1]


def _activation(given: str | Layer) -> Layer:
    try:
        found = parse(given) if isinstance(given, str) else [given]
    except InputError as error:
        raise InputError(f"--activation: {error}") from None
    if len(found) != 1 or not isinstance(found[0], Elementwise):
        raise InputError(f"--activation {str(given)[:80]!r}: expected one activation, such as tanh")
    return found[0]


def _dense_chain(weights: Posteriors, activation: Layer) -> Sequence[StatedLayer]:
    _last(weights)
    for site, p in weights.items():
        if len(p.shape) != 2:
            raise InputError(
                f"site {site!r} of shape {p.shape} is no dense weight, and --activation alone does "
                "not say what else lies between; expected --layers"
            )
    return chain(weights, activation)


def _proposed(
    sites: Sites, assembled: Callable[[Choice], Assembled], shape: Shape | None
) -> NoReturn:
    """InputError that says what would be assumed."""
    start = "the file says nothing of activations, pooling and strides"
    if any(isinstance(site, FlatGuide) for site in sites.values()):
        guide = next(iter(sites))
        raise InputError(f"{start}, and its guide {guide!r} nothing of shapes; expected --layers")
    proposed: list[Sequence[StatedLayer]] = []

    def choice(weights: Posteriors) -> Sequence[StatedLayer]:
        proposed.append(chain(weights, ReLU()))
        return proposed[-1]

    try:
        assembled(choice)
    except InputError as error:
        if not proposed:
            raise InputError(f"{start}; expected --layers ({error})") from None
    text = as_text(proposed[0])
    text = text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."
    with_shape = " with --input-shape" if "conv" in text and shape is None else ""
    raise InputError(
        f"{start}; expected --layers or --arch, or --activation for dense layers alone, or "
        f"--assume{with_shape} for {text!r}"
    )
