"""Any layer of linearised propagation: applied forward, its backward put on a tape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from kernels.layers import (
    conv2d,
    dense,
    folding,
    max_pool2d,
    normalise,
    residual,
    shared_weights,
    window_covariance,
)
from kernels.layers.activations import elementwise
from kernels.layers.activations.elementwise import function_of
from kernels.layers.layer import add_layer as apply
from kernels.layers.layer import with_shared
from kernels.layers.linearised import dense as dense_back
from kernels.layers.linearised import images as images_back
from kernels.layers.linearised import residual as residual_back
from kernels.layers.linearised.backward import Back, Backward, Jacobian
from kernels.program.program import Activation, Program
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


def add(
    program: Program,
    name: str,
    layers: Sequence[Layer],
    posteriors: Mapping[str, Posterior],
    x: Activation,
    tape: list[Back],
) -> Activation:
    """Apply the layers of one operator (`kernels.network.parts`), and append its backward.

    Parameters and errors are those of `add_layer`; the layers are one, a convolution with the
    pooling behind it (`kernels.layers.shared_weights`), or a dense layer with the normalisation
    before it (`kernels.layers.folding`).
    """
    if len(layers) == 1:
        return add_layer(program, name, layers[0], posteriors, x, tape)
    back_name = f"{name}_back"
    if isinstance(layers[0], Conv2d):
        y, pooled = shared_weights.add(program, name, layers, posteriors, x, linearised=True)
        assert pooled is not None  # as asked for
        back = images_back.pooled_convolution
        tape.append(partial(back, name=back_name, pooled=pooled, x=x))
    else:
        y = folding.add(program, name, layers, posteriors, x, "variance")
        tape.append(_dense(back_name, posteriors, x, y))
    return y


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
            return with_shared(y, layer, posteriors, x)
        case Normalise() if not known:
            tape.append(partial(_normalise, name=back_name, layer=layer, x=x))
        case Flatten() if not known:
            tape.append(partial(images_back.flatten, name=back_name, x=x))
        case BatchNorm2d() if not known:
            tape.append(partial(images_back.batch_norm, name=back_name, layer=layer, x=x))
        case AvgPool2d() if not known:
            n = layer.sizes[0][0] * layer.sizes[0][1]
            pool = partial(images_back.pool, own=None, weights=[1.0 / n] * n)
            tape.append(partial(pool, name=back_name, layer=layer, x=x))
        case MaxPool2d() if not known:
            return _max_pool(program, name, layer, x, tape)
        case Conv2d():
            return _convolution(program, name, layer, posteriors, x, tape)
    return apply(program, name, layer, posteriors, x)


def _convolution(
    program: Program,
    name: str,
    layer: Conv2d,
    posteriors: Mapping[str, Posterior],
    x: Activation,
    tape: list[Back],
) -> Activation:
    """A convolution alone, and σ² ∗ v, the own variance that is not of its weights."""
    products = None
    if x.var is not None:
        weight, bias = posteriors["weight"], posteriors["bias"]
        of_var = {
            "weight": Posterior(weight.var, np.zeros(weight.shape)),
            "bias": Posterior(np.zeros(bias.shape), np.zeros(bias.shape)),
        }
        v = Activation(x.layout, x.var, None)
        products = conv2d.add(program, f"{name}_products", layer, of_var, v, "mean").mean
    back = partial(images_back.convolution, posteriors=posteriors, products=products)
    tape.append(partial(back, name=f"{name}_back", layer=layer, x=x))
    return apply(program, name, layer, posteriors, x)


def _max_pool(
    program: Program, name: str, layer: MaxPool2d, x: Activation, tape: list[Back]
) -> Activation:
    """Max pooling alone."""
    n = layer.sizes[0][0] * layer.sizes[0][1]
    if n == 1:
        y, own, weights = apply(program, name, layer, {}, x), None, [1.0]
    elif layer.method == "tree" or (layer.method == "window" and x.shared is not None):
        y, own, *weights = window_covariance.max_pool(program, name, layer, x, linearised=True)
    else:
        y, own, *weights = max_pool2d.linearised(program, name, layer, x)
    pool = partial(images_back.pool, own=own, weights=weights)
    tape.append(partial(pool, name=f"{name}_back", layer=layer, x=x))
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
