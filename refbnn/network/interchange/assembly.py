"""Make a network of named arrays and of layers that somebody states.

The files of other tools hold weights, but neither activations nor pooling nor strides: the layers
come from the caller (`refbnn.network.layers_text`, a list, or a named architecture), and `chain`
only proposes them. Sites go to layers in order (`refbnn.network.interchange.pairing`), and every
shape has to fit.

Orientation
-----------
Models that are written as x @ w keep dense weights as (in, out). The order is chosen in which all
sizes fit. Where both do, as with square weights alone, the caller has to say which.

Batch normalisation
-------------------
Behind a convolution it stays a layer, `BatchNorm2d`, with the statistics of the file. On rows it
has no layer here. Right behind a dense layer it is folded into that layer's weights,

    a (W x + b − m) + β = (a W) x + a (b − m) + β,      a = γ/√(s² + ε),

with scales |a| σ: the same function of the same noise, since the noise of an imported posterior is
symmetric. The prior is then one of the folded weights. Elsewhere on rows it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from refbnn.errors import InputError
from refbnn.layers import BatchNorm2d, Conv2d, Dense, Flatten, Layer, Residual
from refbnn.layers.layer import Shape
from refbnn.layers.posterior import Posterior
from refbnn.network.interchange.pairing import Pair, paired, require_all
from refbnn.network.interchange.sites import FlatGuide, Sites, Statistics
from refbnn.network.layers_text import NormFromFile, StatedLayer
from refbnn.network.network import Network

_DENSE, _CONVOLUTION = 2, 4  # dimensions of a weight
Posteriors = Mapping[str, Posterior]
Choice = Callable[[Posteriors], Sequence[StatedLayer]]
"""Layers for weights of (out, in) by site, in their order."""


@dataclass(frozen=True)
class Assembled:
    """A network made of sites.

    Parameters
    ----------
    network : Network
    layers : list
        Layers as stated, with a mark where a batch normalisation takes its numbers from the file.
    places : dict of str to str
        Site -> what it became: a parameter of the network, or a layer.
    """

    network: Network
    layers: list[StatedLayer]
    places: dict[str, str]


def assemble(
    sites: Sites,
    choice: Choice,
    *,
    input_shape: Shape | None = None,
    first: Sequence[Layer] = (),
    transpose: bool | None = None,
    order: Sequence[str] | None = None,
    keeps_order: bool = True,
    skip: Collection[str] = (),
) -> Assembled:
    """Network of Gaussian noise from a posterior's sites.

    Parameters
    ----------
    sites : mapping of str to Posterior, Statistics or FlatGuide
    choice : callable
    input_shape : tuple of int, optional
        Only networks that begin with a dense layer can do without.
    first : sequence of Layer
        Layers without weights before the others, such as `Normalise`.
    transpose : bool, optional
        Whether dense weights are (in, out); by default the orientation that fits.
    order : sequence of str, optional
        All sites as the layers come; see `pairing`. Of a flat guide: the parameters of the layers,
        "0.weight", "0.bias" and so on, as the row holds them.
    keeps_order : bool
        Whether the file has the sites in the order of the layers.
    skip : collection of str
        Names in the order of a flat guide that are a scalar each, and no weight.

    Raises
    ------
    InputError
        If the sites fit no network, or two; the message names the site.
    """
    statistics, order = _normalisations(sites, order)
    posteriors = {name: s for name, s in sites.items() if isinstance(s, Posterior)}
    for guide, flat in sites.items():
        if isinstance(flat, FlatGuide):
            posteriors = _unflattened(guide, flat.posterior, choice, order, transpose, skip)
            order, transpose, keeps_order = None, False, True  # that of the layers by now
    pairs = paired(posteriors, order, keeps_order)
    found: list[Assembled] = []
    errors: list[InputError] = []
    has_dense = any(len(posteriors[pair.weight].shape) == _DENSE for pair in pairs)
    both = (False, True) if has_dense else (False,)
    for turned in both if transpose is None else (transpose,):
        oriented = {p.weight: _oriented(posteriors[p.weight], turned) for p in pairs}
        try:
            layers = list(choice(oriented))
            body = _Body(iter(statistics.items()))
            built = body.built(layers, len(first))
            body.require_all_used()
            placed = body.placed(pairs, posteriors | oriented)
            shape = _shape_of(layers, input_shape)
            _refuse_norms_of_rows(built, shape)
            net = Network([*first, *built], input_shape=shape)
        except InputError as error:
            errors.append(error)
            continue
        net.set_parameters(placed)
        found.append(Assembled(net, layers, body.places))
    if not found:
        raise errors[0]
    if len(found) > 1:
        raise InputError(
            "weights fit as (out, in) and as (in, out); expected --transpose or --no-transpose"
        )
    return found[0]


def _normalisations(
    sites: Sites, order: Sequence[str] | None
) -> tuple[dict[str, Statistics], Sequence[str] | None]:
    """Batch normalisations as they come, and the order of the other sites."""
    statistics = {name: s for name, s in sites.items() if isinstance(s, Statistics)}
    listed = [name for name in order or () if name in statistics]
    if order is None or not listed:  # only their own order counts: that of the file
        return statistics, order
    require_all(statistics, listed)
    others = [name for name in order if name not in statistics]
    return {name: statistics[name] for name in listed}, others


def chain(weights: Posteriors, activation: Layer) -> list[Layer]:
    """Layers in which weights follow each other, the activation between; InputError if none do.

    Convolutions have stride 1 and no padding, and Flatten stands before the first dense layer
    behind them.
    """
    layers: list[Layer] = []
    before = ""
    flat = channels = None
    for site, p in weights.items():
        out, width = p.shape[:2]
        if layers:
            layers.append(activation)
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


def _no_chain(site: str, shape: Shape, before: str, weights: Posteriors) -> str:
    return (
        f"site {site!r} of shape {shape} does not follow {before!r} of shape "
        f"{weights[before].shape}; expected sizes that chain, or --layers"
    )


def _oriented(p: Posterior, turned: bool) -> Posterior:
    turn = turned and len(p.shape) == _DENSE
    return Posterior(p.mean.T.copy(), p.scale.T.copy()) if turn else p


def _refuse_norms_of_rows(layers: Sequence[Layer], shape: Shape) -> None:
    """InputError if a batch normalisation that was not folded meets rows."""
    for layer in layers:
        if isinstance(layer, BatchNorm2d) and len(shape) == 1:
            raise InputError(
                f"batch_norm {len(layer.mean)} meets rows of {shape[0]} numbers; "
                "expected it right behind a dense layer, or behind a convolution"
            )
        if isinstance(layer, Residual):
            _refuse_norms_of_rows(layer.layers, shape)
        try:
            shape = layer.output_shape(shape)
        except InputError:
            return  # the network names the layer


def _shape_of(layers: Sequence[StatedLayer], given: Shape | None) -> Shape:
    """Shape of one input; InputError if neither the caller nor a dense layer tells it."""
    if given is not None:
        return given
    for layer in layers:
        if isinstance(layer, Dense):
            return (layer.in_features,)
        if isinstance(layer, Residual):
            return _shape_of(layer.layers, None)
        if layer.parameter_shapes() or isinstance(layer, Flatten):
            break
    raise InputError("the layers do not tell the shape of an input; expected --input-shape")


@dataclass
class _Slot:
    """A layer with weights, by its name in the network, and the normalisations folded into it."""

    name: str
    stated: str  # its index among the stated layers
    shapes: dict[str, Shape]
    folded: list[BatchNorm2d] = field(default_factory=list)


@dataclass
class _Body:
    """Layers as they are built: each batch normalisation takes its statistics from the file."""

    statistics: Iterator[tuple[str, Statistics]]
    slots: list[_Slot] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)

    def built(
        self, layers: Sequence[StatedLayer], start: int = 0, prefix: str = "", stated: str = ""
    ) -> list[Layer]:
        """Layers of a network; `start` stand before them, and names begin with the prefix."""
        built: list[Layer] = []
        for index, layer in enumerate(layers):
            name = f"{prefix}{start + len(built)}"
            own = f"{stated}{index}"
            if isinstance(layer, NormFromFile):
                site, norm = self._norm(own, layer)
                if built and isinstance(built[-1], Dense):
                    self.slots[-1].folded.append(norm)
                    name = f"folded into {self.slots[-1].name}"
                else:
                    built.append(norm)
                self.places[site] = name
            elif isinstance(layer, Residual):
                built.append(Residual(self.built(layer.layers, 0, f"{name}.", f"{own}.")))
            else:
                built.append(layer)
                if shapes := layer.parameter_shapes():
                    self.slots.append(_Slot(name, own, shapes))
        return built

    def _norm(self, stated: str, layer: NormFromFile) -> tuple[str, BatchNorm2d]:
        site, numbers = next(self.statistics, ("", None))
        if numbers is None:
            raise InputError(
                f"layer {stated}, batch_norm {layer.channels}: the file holds no more running "
                "statistics; expected as many as the layers state"
            )
        if numbers.mean.shape != (layer.channels,):
            raise InputError(
                f"normalisation {site!r} holds {numbers.mean.size} channels; "
                f"expected {layer.channels} for layer {stated}"
            )
        try:
            norm = BatchNorm2d(numbers.mean, numbers.var, numbers.gamma, numbers.beta, layer.eps)
        except InputError as error:
            raise InputError(f"normalisation {site!r}: {error}") from None
        return site, norm

    def require_all_used(self) -> None:
        """InputError if the file holds a normalisation that the layers do not state."""
        if left := [site for site, _ in self.statistics]:
            raise InputError(
                f"the file normalises by {', '.join(left)[:80]}; expected as many batch_norm in "
                "the layers"
            )

    def placed(self, pairs: Sequence[Pair], sites: Posteriors) -> dict[str, Posterior]:
        """Posterior of every parameter, by the network's names."""
        if len(self.slots) != len(pairs):
            raise InputError(
                f"{len(pairs)} weights, {', '.join(pair.weight for pair in pairs)}; "
                f"expected {len(self.slots)}, one for each layer with weights"
            )
        parameters: dict[str, Posterior] = {}
        for slot, pair in zip(self.slots, pairs, strict=True):
            weight = self._fitting(slot, "weight", pair.weight, sites)
            if pair.bias is None:
                zeros = np.zeros(slot.shapes["bias"])
                bias = Posterior(zeros, zeros)
            else:
                bias = self._fitting(slot, "bias", pair.bias, sites)
            for norm in slot.folded:
                weight, bias = _folded(weight, bias, norm)
            parameters |= {f"{slot.name}.weight": weight, f"{slot.name}.bias": bias}
        return parameters

    def _fitting(self, slot: _Slot, kind: str, site: str, sites: Posteriors) -> Posterior:
        if sites[site].shape != slot.shapes[kind]:
            raise InputError(
                f"site {site!r} has shape {sites[site].shape}; "
                f"expected {slot.shapes[kind]} for the {kind} of layer {slot.stated}"
            )
        self.places[site] = f"{slot.name}.{kind}"
        return sites[site]


def _folded(weight: Posterior, bias: Posterior, norm: BatchNorm2d) -> tuple[Posterior, Posterior]:
    """Weight (out, in) and bias (out,) of the dense layer and the normalisation behind it."""
    a = norm.slope
    if len(a) != len(bias.mean):
        raise InputError(
            f"batch_norm of {len(a)} channels behind a dense layer of {len(bias.mean)} outputs; "
            "expected the same number"
        )
    by_row = a[:, np.newaxis]
    return (
        Posterior(by_row * weight.mean, np.abs(by_row) * weight.scale),
        Posterior(a * (bias.mean - norm.mean) + norm.beta, np.abs(a) * bias.scale),
    )


def _unflattened(
    guide: str,
    row: Posterior,
    choice: Choice,
    order: Sequence[str] | None,
    transpose: bool | None,
    skip: Collection[str],
) -> dict[str, Posterior]:
    """Posteriors (out, in) of a row of all weights, by the layers' parameters in their order."""
    try:
        layers = choice({})
    except InputError as error:
        raise InputError(f"guide {guide!r}: {error}") from None
    shapes = {
        f"{index}.{name}": shape
        for index, layer in enumerate(layers)
        for name, shape in layer.parameter_shapes().items()
    }
    total = row.mean.size
    if order is None:
        raise InputError(
            f"guide {guide!r} holds {total} numbers in one row, without names; expected --order "
            f"with the parameters as the row holds them, such as {','.join(shapes)[:80]}"
        )
    weights = [name for name in shapes if not name.endswith("bias")]
    biases_at_0 = [name for name in shapes if name not in order and name not in weights]
    shapes |= {name: () for name in skip}
    require_all(shapes, [*order, *biases_at_0])
    sizes = {name: prod(shapes[name]) for name in order}
    if sum(sizes.values()) != total:
        raise InputError(
            f"guide {guide!r} holds {total} numbers; expected {sum(sizes.values())} for "
            f"{','.join(order)[:80]}"
        )
    if transpose is None and any(len(shapes[n]) == _DENSE and min(shapes[n]) > 1 for n in weights):
        raise InputError(
            f"guide {guide!r}: dense weights may lie as (out, in) or as (in, out); expected "
            "--transpose for (in, out) or --no-transpose"
        )
    cut = np.cumsum(list(sizes.values()))[:-1]
    found = {
        name: _shaped(Posterior(mean, scale), shapes[name], bool(transpose))
        for name, mean, scale in zip(
            sizes, np.split(row.mean, cut), np.split(row.scale, cut), strict=True
        )
    }
    return {name: found[name] for name in shapes if name in found and name not in skip}


def _shaped(p: Posterior, shape: Shape, turned: bool) -> Posterior:
    """Part of a row in the shape of a parameter, (out, in) also where it lies as (in, out)."""
    turned = turned and len(shape) == _DENSE
    stored = shape[::-1] if turned else shape
    return _oriented(Posterior(p.mean.reshape(stored), p.scale.reshape(stored)), turned)
