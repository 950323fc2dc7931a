"""Order of layers in propagation: max pooling before a monotone activation.

Formula
-------
For a function f that does not decrease, max_i f(x_i) = f(max_i x_i) exactly. Sampled passes keep
the order that the user gave. Propagation takes the maximum of what is closer to Gaussian, with the
covariance that a convolution's outputs have (`refbnn.layers.images.shared_weights`); then the
activation, at fewer entries. Neither layer has weights, so the places of all others stay.
"""

from __future__ import annotations

from collections.abc import Sequence

from refbnn.layers.activations.elementwise import Elementwise
from refbnn.layers.images.max_pool2d import MaxPool2d
from refbnn.layers.layer import Layer


def pool_first(layers: Sequence[Layer]) -> list[Layer]:
    """Layers in the order of propagation: the same function.

    Pooling by the methods that take entries as independent stays where it is.

    Examples
    --------
    >>> from refbnn.layers import ELU, GELU, MaxPool2d, ReLU
    >>> pool_first([ReLU(), MaxPool2d(2), GELU(), MaxPool2d(2)])
    [MaxPool2d(2), ReLU(), GELU(), MaxPool2d(2)]
    """
    order = list(layers)
    for i in range(len(order) - 2, -1, -1):  # from behind: it may pass several
        f, pool = order[i], order[i + 1]
        of_window = isinstance(pool, MaxPool2d) and pool.method == "window"
        if of_window and isinstance(f, Elementwise) and f.monotone:
            order[i], order[i + 1] = pool, f
    return order
