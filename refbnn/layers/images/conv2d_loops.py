"""Convolution of images, forward and backward, in Numba: one matrix product an image and group.

For one image and one group, let X be the matrix of columns: its row (c, a, b) holds the pixel
x̄_{c, s·i+a, t·j+b} of every window (i, j), so that, with the weights as a matrix too,

    y = W X + b,    ∂L/∂W = g Xᵀ,    ∂L/∂X = Wᵀ g.

X carries a last row of ones, so that b is one more column of W, and ∂L/∂b one more of ∂L/∂W.

X of one image stays in the processor's cache, where that of a batch would pass through memory, and
BLAS computes the product at close to the processor's peak. The remaining cost is that of filling X,
which has K·L times as many entries as the image. `_fill` does it in two steps. The image is first
cut to the OW columns that belong to the horizontal shift b (short copies, one a row of pixels). In
the result, the pixels of a vertical shift a are OH·OW contiguous numbers (one long copy). Copying
each row of every window by itself takes at least six times as long. For strides s > 1 the rows
h ≡ 0, 1, ..., s − 1 (mod s) are kept apart, so that the windows stay contiguous. One thread adds
up the images in their order.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numba import njit

from refbnn.layers.images.windows import Pair, output_size


def forward(x, weight, bias, stride: Pair, padding: Pair, groups: int):
    """Compute `refbnn.layers.images.conv2d.forward`."""
    n_out, per_group, *kernel = weight.shape[-4:]
    size = output_size(x.shape[-2:], kernel, stride, padding)
    of_weights = np.broadcast_shapes(weight.shape[:-4], bias.shape[:-1])
    samples = np.broadcast_shapes(x.shape[:-4], of_weights)
    dtype = np.result_type(x, weight, bias)
    matrix = np.empty((*of_weights, n_out, per_group * prod(kernel) + 1), dtype)
    matrix[..., :-1] = weight.reshape(*weight.shape[:-3], -1)
    matrix[..., -1] = bias
    matrix = matrix.reshape(*of_weights, groups, n_out // groups, -1)
    x = x.reshape(*x.shape[:-3], groups, per_group, *x.shape[-2:])
    y = np.empty((prod(samples), x.shape[-5], groups, n_out // groups, prod(size)), dtype)
    steps = (*kernel,), stride, padding, size[1]
    _forward(_stacked(x, 5, samples, dtype), _stacked(matrix, 3, samples, dtype), y, *steps)
    return y.reshape(*samples, x.shape[-5], n_out, *size)


def grad_input(weight, grad_y, image: Pair, stride: Pair, padding: Pair, groups: int):
    """Compute `refbnn.layers.images.conv2d.grad_input`."""
    n_out, per_group, *kernel = weight.shape[-4:]
    n_images, _, *size = grad_y.shape[-4:]
    samples = np.broadcast_shapes(weight.shape[:-4], grad_y.shape[:-4])
    dtype = np.result_type(weight, grad_y)
    matrix = weight.reshape(*weight.shape[:-4], groups, n_out // groups, -1)
    grad_y = grad_y.reshape(*grad_y.shape[:-3], groups, n_out // groups, prod(size))
    grad = np.zeros((prod(samples), n_images, groups, per_group, *image), dtype)
    steps = (*kernel,), stride, padding, size[1]
    matrix, grad_y = _stacked(matrix, 3, samples, dtype), _stacked(grad_y, 4, samples, dtype)
    _grad_input(matrix, grad_y, grad, *steps)
    return grad.reshape(*samples, n_images, groups * per_group, *image)


def grad_weights(x, grad_y, kernel: Pair, stride: Pair, padding: Pair, groups: int):
    """Compute `refbnn.layers.images.conv2d.grad_weights`."""
    n_out, *size = grad_y.shape[-3:]
    per_group = x.shape[-3] // groups
    samples = np.broadcast_shapes(x.shape[:-4], grad_y.shape[:-4])
    dtype = np.result_type(x, grad_y)
    x = x.reshape(*x.shape[:-3], groups, per_group, *x.shape[-2:])
    grad_y = grad_y.reshape(*grad_y.shape[:-3], groups, n_out // groups, prod(size))
    grad = np.zeros((prod(samples), groups, per_group * prod(kernel) + 1, n_out // groups), dtype)
    steps = (*kernel,), stride, padding, size[1]
    _grad_weights(_stacked(x, 5, samples, dtype), _stacked(grad_y, 4, samples, dtype), grad, *steps)
    grad = np.swapaxes(grad, -1, -2).reshape(*samples, n_out, grad.shape[2])
    return grad[..., :-1].reshape(*samples, n_out, per_group, *kernel), grad[..., -1].copy()


def _stacked(array, n_own, samples, dtype):
    """Merge the sample axes, all but the last n_own, into one of length 1 or ∏ samples."""
    leading, own = array.shape[:-n_own], array.shape[-n_own:]
    if prod(leading) == 1:
        array = array.reshape(1, *own)
    else:
        array = np.broadcast_to(array, (*samples, *own)).reshape(prod(samples), *own)
    return np.require(array, dtype, ["C", "W"])  # writeable, though only read: one compiled type


# The shapes of the arrays below: x (S, B, g, C/g, H, W), weight (S, g, O/g, C/g·K·L), with the bias
# (S, g, O/g, C/g·K·L + 1), y and grad_y (S, B, g, O/g, OH·OW); width is OW. An array that all
# samples share has 1 instead of S. Slices are taken before the innermost loops: an index that
# counts from 0 is never negative, which lets the compiler use vectors.


@njit(cache=True, nogil=True)
def _forward(x, weight, y, kernel, stride, padding, width):
    """Fill y, weight with the bias."""
    n_samples, n_images, n_groups, _, n_windows = y.shape
    columns = np.ones((weight.shape[-1], n_windows), y.dtype)
    shifted = _shifted_image(x.shape, y.dtype, kernel, stride, padding, width)
    for s in range(n_samples):
        for n in range(n_images):
            for g in range(n_groups):
                _fill(columns, x[s % len(x), n, g], shifted, kernel, stride, padding, width)
                np.dot(weight[s % len(weight), g], columns, y[s, n, g])


@njit(cache=True, nogil=True)
def _grad_weights(x, grad_y, grad, kernel, stride, padding, width):
    """Add (∂L/∂W, ∂L/∂b)ᵀ to grad (S, g, C/g·K·L + 1, O/g)."""
    n_samples, n_groups, n_rows, n_out = grad.shape
    columns = np.ones((n_rows, grad_y.shape[-1]), grad.dtype)
    product = np.empty((n_rows, n_out), grad.dtype)
    shifted = _shifted_image(x.shape, grad.dtype, kernel, stride, padding, width)
    for s in range(n_samples):
        for n in range(x.shape[1]):
            for g in range(n_groups):
                _fill(columns, x[s % len(x), n, g], shifted, kernel, stride, padding, width)
                np.dot(columns, grad_y[s % len(grad_y), n, g].T, product)
                grad[s, g] += product


@njit(cache=True, nogil=True)
def _grad_input(weight, grad_y, grad, kernel, stride, padding, width):
    """Add ∂L/∂x to grad, of the shape of x; weight without the bias."""
    n_samples, n_images, n_groups = grad.shape[:3]
    columns = np.empty((weight.shape[-1], grad_y.shape[-1]), grad.dtype)
    shifted = _shifted_image(grad.shape, grad.dtype, kernel, stride, padding, width)
    for s in range(n_samples):
        for n in range(n_images):
            for g in range(n_groups):
                np.dot(weight[s % len(weight), g].T, grad_y[s % len(grad_y), n, g], columns)
                _add_back(columns, grad[s, n, g], shifted, kernel, stride, padding, width)


@njit(cache=True, nogil=True)
def _shifted_image(shape, dtype, kernel, stride, padding, width):
    """Space for one channel, cut for every horizontal shift: (L, s, ⌈(H + 2p)/s⌉·OW), zeros."""
    n_rows = (shape[-2] + 2 * padding[0] + stride[0] - 1) // stride[0]
    return np.zeros((kernel[1], stride[0], n_rows * width), dtype)


@njit(cache=True, nogil=True)
def _inside(shift, n_pixels, stride, padding, width):
    """First window whose pixel at this shift is in the image, their number, the first pixel."""
    first = max(0, -((shift - padding) // stride))
    last = min(width, (n_pixels - 1 + padding - shift) // stride + 1)
    return first, max(0, last - first), first * stride + shift - padding


@njit(cache=True, nogil=True)
def _fill(columns, x, shifted, kernel, stride, padding, width):
    """Fill the rows of X for one image x (C/g, H, W); the zeros around `shifted` stay zero."""
    n_channels, height, n_pixels = x.shape
    n_windows = columns.shape[1]
    for c in range(n_channels):
        for b in range(kernel[1]):
            first, count, pixel = _inside(b, n_pixels, stride[1], padding[1], width)
            for h in range(height):
                i, phase = divmod(h + padding[0], stride[0])
                row, target = x[c, h, pixel:], shifted[b, phase, i * width + first :]
                if stride[1] == 1:
                    for j in range(count):
                        target[j] = row[j]
                else:
                    for j in range(count):
                        target[j] = row[j * stride[1]]
        for a in range(kernel[0]):
            i, phase = divmod(a, stride[0])
            for b in range(kernel[1]):
                target = columns[(c * kernel[0] + a) * kernel[1] + b]
                window = shifted[b, phase, i * width :]
                for j in range(n_windows):
                    target[j] = window[j]


@njit(cache=True, nogil=True)
def _add_back(columns, grad, shifted, kernel, stride, padding, width):
    """Add each entry of ∂L/∂X to the pixel of grad (C/g, H, W) that `_fill` takes it from."""
    n_channels, height, n_pixels = grad.shape
    n_windows = columns.shape[1]
    for c in range(n_channels):
        shifted[:] = 0
        for a in range(kernel[0]):
            i, phase = divmod(a, stride[0])
            for b in range(kernel[1]):
                source = columns[(c * kernel[0] + a) * kernel[1] + b]
                window = shifted[b, phase, i * width :]
                for j in range(n_windows):
                    window[j] += source[j]
        for b in range(kernel[1]):
            first, count, pixel = _inside(b, n_pixels, stride[1], padding[1], width)
            for h in range(height):
                i, phase = divmod(h + padding[0], stride[0])
                row, source = grad[c, h, pixel:], shifted[b, phase, i * width + first :]
                if stride[1] == 1:
                    for j in range(count):
                        row[j] += source[j]
                else:
                    for j in range(count):
                        row[j * stride[1]] += source[j]
