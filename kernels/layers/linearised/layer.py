"""Any layer of linearised propagation: applied forward, its backward put on a tape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from kernels.layers import dense, folding, normalise, residual
from kernels.layers.activations import elementwise
from kernels.layers.layer import add_layer as apply
from kernels.layers.layer import function_of
from kernels.layers.linearised import dense as dense_back
from kernels.layers.linearised import residual as residual_back
from kernels.layers.linearised.backward import Back, Backward, Jacobian
from kernels.program.program import Activation, Program
from refbnn.errors import InputError
from refbnn.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Flatten,
    Layer,
    MaxPool2d,
    Normalise,
    Residual,
)
from refbnn.layers.activations.elementwise import Elementwise
from refbnn.layers.posterior import Posterior


def add_layer(
    program: Program,
    name: str,
    layer: Layer,
    posteriors: Mapping[str, Posterior],
    x: Activation,
    tape: list[Back],
) -> Activation:
    """Apply a layer, and append its backward to the tape.

    Parameters are those of `kernels.layers.layer.add_layer`, and the tape.

    Raises
    ------
    InputError
        Also if the layer has no rule here.
    """
    known = x.var is None
    back_name = f"{name}_back"
    match layer:
        case Dense():
            y = dense.add(program, name, posteriors, x, "variance", own=not known)
            tape.append(_dense(back_name, posteriors, x, y))
            return y
        case Residual():
            branch: list[Back] = []
            inner = partial(add_layer, tape=branch)
            y = residual.add(program, name, layer, posteriors, x, inner)
            tape.append(partial(residual_back.back, name=back_name, x=x, tape=branch))
            return y
        case Elementwise() if not known and (f := function_of(layer)) is not None:
            y = elementwise.add(program, name, f, x, linearised=True)
            tape.append(partial(_elementwise, name=back_name, y=y))
            return y
        case Normalise() if not known:
            tape.append(partial(_normalise, name=back_name, layer=layer, x=x))
        case MaxPool2d() | AvgPool2d() | BatchNorm2d() | Conv2d() | Flatten() if not (
            known and isinstance(layer, Flatten)
        ):
            raise InputError(
                f"layer {name.removeprefix('layer')}: {type(layer).__name__} has no rule of "
                "linearised propagation as a kernel; expected the method 'pfp', or the reference, "
                "net.propagate(x, method='linearised')"
            )
    return apply(program, name, layer, posteriors, x)


def add_folded(
    program: Program,
    name: str,
    layers: Sequence[Layer],
    posteriors: Mapping[str, Posterior],
    x: Activation,
    tape: list[Back],
) -> Activation:
    """Apply layers that are one operator (`kernels.layers.folding`), likewise."""
    y = folding.add(program, name, layers, posteriors, x, "variance")
    tape.append(_dense(f"{name}_back", posteriors, x, y))
    return y


def _dense(name: str, posteriors: Mapping[str, Posterior], x: Activation, y: Activation) -> Back:
    return partial(dense_back.back, name=name, posteriors=posteriors, x=x, y=y)


def _elementwise(backward: Backward, J: Jacobian, name: str, y: Activation) -> Jacobian:
    """Gain and own variance that the forward pass has computed."""
    return backward.through(name, J, y.gain, y.own)


def _normalise(
    backward: Backward, J: Jacobian, name: str, layer: Normalise, x: Activation
) -> Jacobian:
    """The gain 1/s."""
    program = backward.program
    factor = normalise.numbers(program, f"{name}_factor", 1.0 / np.asarray(layer.sd), x)
    workload = f"normalise gain {'x'.join(map(str, x.layout.tensor_shape(program.batch)))}"
    gain = elementwise.computed(
        program, f"{name}_gain_of", workload, x.layout, lambda _, *i: factor(*i), True
    )
    return backward.through(name, J, gain.mean)
