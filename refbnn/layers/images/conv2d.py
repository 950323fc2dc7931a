"""Convolution of images: y = W ∗ x + b (as a correlation, the kernel not flipped).

Formulas
--------
Kernel (K, L), stride (s, t), padding (p, q) with zeros, and g groups: output channel o sees the
C/g input channels c of its own group only. W has shape (O, C/g, K, L). With x̄ the padded image,

    y_oij = b_o + Σ_c Σ_{a<K} Σ_{b<L}  W_ocab  x̄_{c, s·i+a, t·j+b}.

Backward, g = ∂L/∂y, each a sum over the places where the factor occurs:

    ∂L/∂W_ocab = Σ_batch Σ_ij g_oij x̄_{c, s·i+a, t·j+b}        ∂L/∂b_o = Σ_batch Σ_ij g_oij
    ∂L/∂x̄_chw = Σ_o Σ_{i,j,a,b: s·i+a = h, t·j+b = w}  g_oij W_ocab,   cut to the image.

Moments, for independent weights (mean µ, variance σ², any law) and independent inputs (mean m,
variance v), as in the dense layer from Var[wx] = σ²v + σ²m² + µ²v:

    m' = µ ∗ m + µ_b        v' = (µ² + σ²) ∗ v + σ² ∗ m² + σ_b²

Exact for each output by itself: all weights and all pixels in one window are different variables.
Outputs are correlated, because they share weights and pixels. Pooling behind takes account of that
where `refbnn.layers.images.max_pool2d` says so; other layers do not. For known inputs v = 0.

Linearised (`refbnn.layers.linearisation`): G is the convolution with µ. All positions share the
noise of the weights: Σ_w G_kw (θ_w − µ_w), with G_k = ∂(J_k y)/∂W the weight gradient of J_k at
the input means, has the covariance Σ_w σ_w² G_kw G_lw, and the biases Σ_o σ_b² (ΣJ_ko)(ΣJ_lo). The
product of both noises, (θ − µ) ∗ (x − m), adds J diag(σ² ∗ v) Jᵀ, with the correlation of its
positions left out (at most 0.4 % of C measured in a LeNet-5).

The functions of this file are the formulas in NumPy, for any type, complex numbers too.
`refbnn.layers.images.conv2d_loops` has the same three in Numba, several times as fast. The layer
computes with those of Numba; the two check each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from refbnn.errors import InputError
from refbnn.layers.images import conv2d_loops
from refbnn.layers.images.shared_weights import SharedWeights
from refbnn.layers.images.windows import Pair, WindowSizes, padded, windowed_shape, windows
from refbnn.layers.layer import Arrays, Shape, short_repr
from refbnn.layers.linearisation import quadratic_form
from refbnn.layers.moments import Moments, deterministic
from refbnn.layers.posterior import Posterior
from refbnn.numerics.arguments import whole_number


def forward(x, weight, bias, stride: Pair, padding: Pair, groups: int):
    """W ∗ x + b; x (..., B, C, H, W), weight (..., O, C/g, K, L), bias (..., O)."""
    kernel = weight.shape[-2:]
    columns = _grouped(windows(padded(x, padding), kernel, stride), groups, axis=-5)
    y = np.einsum("...ngcijab,...gocab->...ngoij", columns, _grouped(weight, groups, axis=-4))
    return _merged(y, axis=-4) + bias[..., np.newaxis, :, np.newaxis, np.newaxis]


def grad_input(weight, grad_y, image: Pair, stride: Pair, padding: Pair, groups: int):
    """∂L/∂x (..., B, C, H, W) from g = ∂L/∂y (..., B, O, OH, OW), for images of size (H, W)."""
    (p, q), (s, t), (height, width) = padding, stride, image
    rows, columns = grad_y.shape[-2:]
    by_group = _grouped(weight, groups, axis=-4), _grouped(grad_y, groups, axis=-3)
    terms = _merged(np.einsum("...gocab,...ngoij->...ngcabij", *by_group), axis=-6)
    grad = np.zeros((*terms.shape[:-4], height + 2 * p, width + 2 * q), terms.dtype)
    for a, b in np.ndindex(weight.shape[-2:]):
        grad[..., a : a + s * rows : s, b : b + t * columns : t] += terms[..., a, b, :, :]
    return grad[..., p : p + height, q : q + width]


def grad_weights(x, grad_y, kernel: Pair, stride: Pair, padding: Pair, groups: int):
    """∂L/∂W (..., O, C/g, K, L) and ∂L/∂b (..., O), summed over the batch."""
    columns = _grouped(windows(padded(x, padding), kernel, stride), groups, axis=-5)
    grad = np.einsum("...ngcijab,...ngoij->...gocab", columns, _grouped(grad_y, groups, axis=-3))
    return _merged(grad, axis=-5), grad_y.sum(axis=(-4, -2, -1))


def _grouped(array, groups, axis):
    """Split the channels at `axis` (negative) in two axes: (..., C, ...) -> (..., g, C/g, ...)."""
    before, (channels, *after) = array.shape[:axis], array.shape[axis:]
    return array.reshape(*before, groups, channels // groups, *after)


def _merged(array, axis):
    """Undo `_grouped`: (..., g, C/g, ...) -> (..., C, ...), g at `axis`."""
    before, (groups, per_group, *after) = array.shape[:axis], array.shape[axis:]
    return array.reshape(*before, groups * per_group, *after)


def moments(
    x: Moments, weight: Posterior, bias: Posterior, stride: Pair, padding: Pair, groups: int
) -> Moments:
    """Moments of y for random inputs (B, C, H, W); weight (O, C/g, K, L), bias (O,)."""
    known = moments_of_known(x.mean, weight, bias, stride, padding, groups)
    squares, no_bias = weight.mean**2 + weight.var, np.zeros_like(bias.mean)
    var = conv2d_loops.forward(x.var, squares, no_bias, stride, padding, groups)
    return Moments(known.mean, var + known.var)


def moments_of_known(
    x: np.ndarray, weight: Posterior, bias: Posterior, stride: Pair, padding: Pair, groups: int
) -> Moments:
    """Moments of y for known inputs, such as those of a first layer; shapes as in `moments`."""
    sizes = stride, padding, groups
    mean = conv2d_loops.forward(x, weight.mean, bias.mean, *sizes)
    return Moments(mean, conv2d_loops.forward(x**2, weight.var, bias.var, *sizes))


def linearise(
    x: Moments,
    weight: Posterior,
    bias: Posterior,
    J: np.ndarray,
    stride: Pair,
    padding: Pair,
    groups: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Own covariance (B, K, K) and J ∗ᵀ µ (K, B, C, H, W), for J (K, B, O, OH, OW)."""
    steps = stride, padding, groups
    n_outputs, n = J.shape[:2]
    kernel = weight.shape[-2], weight.shape[-1]
    # One example at a time is a batch: its weight gradients are not summed with those of others.
    grad, grad_bias = conv2d_loops.grad_weights(
        x.mean[np.newaxis, :, np.newaxis], J[:, :, np.newaxis], kernel, *steps
    )
    noise = [part * p.scale for part, p in ((grad, weight), (grad_bias, bias))]
    rows = [part.reshape(n_outputs, n, prod(part.shape[2:])) for part in noise]
    G = np.concatenate(rows, axis=2).swapaxes(0, 1)
    of_inputs = conv2d_loops.forward(x.var, weight.var, np.zeros_like(bias.mean), *steps)
    own = G @ G.swapaxes(1, 2) + quadratic_form(J, of_inputs)
    return own, conv2d_loops.grad_input(weight.mean, J, x.mean.shape[-2:], *steps)


@dataclass(frozen=True, repr=False)
class Conv2d(WindowSizes):
    """Convolution of images; see the formulas at the top of the file.

    Parameters
    ----------
    in_channels, out_channels : int
        C and O, multiples of `groups`.
    kernel_size, stride, padding : int or (int, int)
        (K, L), (s, t) and (p, q); one number stands for both. Kept as pairs.
    groups : int
        g; equal to C for a depthwise convolution.

    Raises
    ------
    InputError
        If a size is below 1, the padding below 0, or the groups do not divide the channels.

    Examples
    --------
    >>> from refbnn.layers import Conv2d
    >>> layer = Conv2d(1, 6, 5, padding=2)
    >>> layer.parameter_shapes()
    {'weight': (6, 1, 5, 5), 'bias': (6,)}
    >>> layer.output_shape((1, 28, 28))
    (6, 28, 28)
    """

    in_channels: int
    out_channels: int
    kernel_size: int | Pair
    stride: int | Pair = 1
    padding: int | Pair = 0
    groups: int = 1

    def __post_init__(self):
        self._make_pairs()
        for name in ("in_channels", "out_channels", "groups"):
            number = whole_number(getattr(self, name), 1, f"Conv2d: {name}")
            object.__setattr__(self, name, number)
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise InputError(f"{self}: expected channels that are multiples of groups")

    __repr__ = short_repr

    def parameter_shapes(self) -> dict[str, Shape]:
        """Shapes of `weight` and `bias`."""
        channels = self.in_channels // self.groups
        return {
            "weight": (self.out_channels, channels, *self.sizes[0]),
            "bias": (self.out_channels,),
        }

    def output_shape(self, shape: Shape) -> Shape:
        """(C, H, W) -> (O, OH, OW)."""
        channels, *size = windowed_shape(f"{self}", shape, *self.sizes)
        if channels != self.in_channels:
            raise InputError(f"{self}: image has {channels} channels; expected {self.in_channels}")
        return (self.out_channels, *size)

    def forward(self, x: np.ndarray, weights: Arrays) -> np.ndarray:
        """See `forward` of this module."""
        self.output_shape(x.shape[-3:])
        weight, bias = weights["weight"], weights["bias"]
        if weight.shape[-4:] != self.parameter_shapes()["weight"]:
            raise InputError(
                f"{self}: weight has shape {weight.shape}; "
                f"expected {self.parameter_shapes()['weight']}"
            )
        return conv2d_loops.forward(x, weight, bias, *self.steps)

    def backward(
        self, x: np.ndarray, weights: Arrays, grad_y: np.ndarray, need_grad_x: bool = True
    ) -> tuple[np.ndarray | None, dict[str, np.ndarray]]:
        """See `grad_input` and `grad_weights` of this module."""
        expected = self.output_shape(x.shape[-3:])
        if grad_y.shape[-3:] != expected:
            raise InputError(f"{self}: gradient has shape {grad_y.shape[-3:]}; expected {expected}")
        kernel, *_ = self.sizes
        grad_weight, grad_bias = conv2d_loops.grad_weights(x, grad_y, kernel, *self.steps)
        grad_x = None
        if need_grad_x:
            image = x.shape[-2:]
            grad_x = conv2d_loops.grad_input(weights["weight"], grad_y, image, *self.steps)
        return grad_x, {"weight": grad_weight, "bias": grad_bias}

    def moments(self, x: np.ndarray | Moments, posteriors: Mapping[str, Posterior]) -> Moments:
        """See `moments` and `moments_of_known` of this module."""
        self.output_shape(x.shape[-3:])
        own = posteriors["weight"], posteriors["bias"], *self.steps
        y = moments(x, *own) if isinstance(x, Moments) else moments_of_known(x, *own)
        return replace(y, shared=self.shared(x, posteriors))

    def shared(self, x: np.ndarray | Moments, posteriors: Mapping[str, Posterior]) -> SharedWeights:
        """Weights and inputs that the outputs for inputs x have in common within a channel."""
        if isinstance(x, Moments):
            x = replace(x, shared=None)  # or all activations before would stay in memory
        return SharedWeights(x, posteriors["weight"], posteriors["bias"], self.steps)

    def linearise(
        self,
        x: np.ndarray | Moments,
        y: Moments,
        posteriors: Mapping[str, Posterior],
        J: np.ndarray,
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """See `linearise` of this module."""
        random = x if isinstance(x, Moments) else deterministic(x)
        return linearise(random, posteriors["weight"], posteriors["bias"], J, *self.steps)

    @property
    def steps(self) -> tuple[Pair, Pair, int]:
        """Stride, padding and groups: what the functions of this module take last."""
        _, stride, padding = self.sizes
        return stride, padding, self.groups
