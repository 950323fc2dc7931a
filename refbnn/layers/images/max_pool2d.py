"""Max pooling: the greatest entry of every window of an image.

Formulas
--------
Forward, kernel (K, L), stride (s, t), padding (p, q); entries outside the image count as −∞:

    y_ij = max over a < K, b < L of x[s·i − p + a, t·j − q + b],
    i < (H + 2p − K)//s + 1,  j < (W + 2q − L)//t + 1.

Backward: ∂L/∂y_ij goes to the pixel of the maximum; among equal entries to the first in row order.
A NaN counts as greatest: it reaches the output, and takes the gradient.

Moments by method:

"window", the default: behind a convolution, its outputs in one window share weights and pixels. The
maximum is that of dependent Gaussians with the window's covariance
(`refbnn.layers.images.shared_weights`), by pairs (`refbnn.numerics.correlated_maximum`): exact for
windows of two, else Clark's approximation, which is good where entries are strongly correlated, as
neighbours are. A monotone activation between is moved behind (`refbnn.layers.images.pool_first`);
another one leaves the covariance to first order. Elsewhere entries count as independent, as below.

"exact": the greatest of independent Gaussians by quadrature
(`refbnn.numerics.gaussian_maximum`), to 3e-12; 12 µs a window of 2×2 and 27 µs one of 3×3. Behind a
convolution that is the wrong law: in a LeNet-5 the means of the second pooling are off by 0.3
deviations, with the window's covariance by 0.08.

"tree": the greatest of independent Gaussians by Clark's pairs, 50 times faster than quadrature, and
wrong. Its errors against it in a million windows with means from N(0, 1) and variances uniform on
[0.1, 2]: the variance relative, the mean in standard deviations; root mean square, and the bound
that 99 % of windows keep (the worst of the million were off by 41 to 55 %, and by 0.08 to 0.16):

    entries    variance, rms   99 %      mean, rms   99 %
    4          8.6 %           22.7 %    0.007       0.027
    9          18.9 %          35.7 %    0.023       0.061

Windows that overlap have dependent outputs: each mean and variance is right, but later layers take
the outputs for independent.

Linearised (`refbnn.layers.linearisation`): G holds π_i = ∂E/∂m_i, the probability of each entry to
be the greatest; own variance r = Var − πᵀ C_w π ≥ 0, C_w the covariance of the window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit

from refbnn.errors import InputError
from refbnn.layers.images.pooling import Pool2d
from refbnn.layers.images.windows import padded, windows
from refbnn.layers.linearisation import Rule, quadratic_form
from refbnn.layers.moments import Moments, deterministic
from refbnn.layers.posterior import Posterior
from refbnn.numerics import correlated_maximum, gaussian_maximum
from refbnn.numerics.arguments import require_known

METHODS = ("window", "exact", "tree")
# Entries of a window behind a convolution, whose pairs all have a covariance: 0.1 s for one window
# of 8 × 8, 0.8 s for 16 × 16, 4 s for 28 × 28.
_MOST = 1024


@njit(cache=True, nogil=True)
def forward_loops(x, y, window, stride, padding):
    """Fill y (N, OH, OW) with the greatest entry of every window of x (N, H, W).

    An index outside the image is moved to the nearest one inside. For padding below the kernel's
    size that one lies in the window too, so nothing but repetitions joins it.

    Parameters
    ----------
    window : tuple of two tuples of zeros, K and L long
        Numba compiles for the length of a tuple: the loops over a window are unrolled.
    """
    n_images, height, width = x.shape
    _, rows, columns = y.shape
    for n in range(n_images):
        for i in range(rows):
            for j in range(columns):
                best = x.dtype.type(-np.inf)
                for a in range(len(window[0])):
                    r = min(max(stride[0] * i - padding[0] + a, 0), height - 1)
                    for b in range(len(window[1])):
                        c = min(max(stride[1] * j - padding[1] + b, 0), width - 1)
                        value = x[n, np.uint64(r), np.uint64(c)]
                        best = best if best >= value or best != best else value
                y[n, i, j] = best


@njit(cache=True, nogil=True)
def backward_loops(x, grad_y, grad_x, window, stride, padding):
    """Add ∂L/∂y (N, OH, OW) to grad_x (N, H, W), each entry at the maximum of its window.

    The index a·L + b of the maximum is found for a row of windows first, so that the search is
    vectorised. An index outside is moved as in `forward_loops`; the first of equal entries stays
    the first.
    """
    n_images, height, width = x.shape
    _, rows, columns = grad_y.shape
    place = np.empty(columns, np.int32)
    for n in range(n_images):
        for i in range(rows):
            top = stride[0] * i - padding[0]
            for j in range(columns):
                left = stride[1] * j - padding[1]
                best, first = x.dtype.type(-np.inf), np.int32(0)
                for a in range(len(window[0])):
                    r = min(max(top + a, 0), height - 1)
                    for b in range(len(window[1])):
                        c = min(max(left + b, 0), width - 1)
                        value = x[n, np.uint64(r), np.uint64(c)]
                        keep = best >= value or best != best
                        best = best if keep else value
                        first = first if keep else np.int32(a * len(window[1]) + b)
                place[j] = first
            for j in range(columns):
                r = min(max(top + place[j] // len(window[1]), 0), height - 1)
                c = stride[1] * j - padding[1] + place[j] % len(window[1])
                c = min(max(c, 0), width - 1)
                grad_x[n, np.uint64(r), np.uint64(c)] += grad_y[n, i, j]


@dataclass(frozen=True, repr=False)
class MaxPool2d(Pool2d):
    """Max pooling; see the formulas at the top of the file.

    Parameters
    ----------
    kernel_size, stride, padding : int or (int, int)
        Sizes as in `refbnn.layers.images.pooling.Pool2d`. The padding, −∞, is at most half the
        kernel: every window must reach into the image.
    method : {"window", "exact", "tree"}
        How moments are computed, see the top of the file.

    Raises
    ------
    InputError
        If a size is wrong or the method unknown; by moments, if a window behind a convolution has
        more than 1024 entries.

    Examples
    --------
    >>> from refbnn import Moments
    >>> from refbnn.layers import MaxPool2d
    >>> MaxPool2d(2).forward(np.arange(8.0).reshape(1, 2, 4), {})
    array([[[5., 7.]]])
    >>> image = Moments(np.zeros((1, 2, 2)), np.ones((1, 2, 2)))
    >>> MaxPool2d(2).moments(image, {}).var.round(4)
    array([[[0.4917]]])
    """

    method: str = "window"

    def __post_init__(self):
        super().__post_init__()
        kernel, _, padding = self.sizes
        if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
            raise InputError(
                f"MaxPool2d: padding {padding} with kernel size {kernel}; "
                "expected at most half the kernel size, or a window could be all padding"
            )
        require_known(self.method, METHODS, "MaxPool2d: method")

    def value(self, x: np.ndarray) -> np.ndarray:
        """See `forward_loops` of this module; x (..., C, H, W)."""
        y = np.empty((*x.shape[:-3], *self.output_shape(x.shape[-3:])), x.dtype)
        forward_loops(_images(x), _images(y), *self._loop_sizes())
        return y

    def grad_input(self, x: np.ndarray, grad_y: np.ndarray) -> np.ndarray:
        """See `backward_loops` of this module; x (..., C, H, W)."""
        x = np.broadcast_to(x, (*grad_y.shape[:-3], *x.shape[-3:]))
        grad_x = np.zeros(x.shape, grad_y.dtype)
        backward_loops(_images(x), _images(grad_y), _images(grad_x), *self._loop_sizes())
        return grad_x

    def propagated(self, x: Moments) -> Moments:
        """Moments of the greatest entries; x (..., C, H, W)."""
        self.output_shape(x.shape[-3:])
        mean, var = self._windows(x)
        if self._covered(x):
            return Moments(*correlated_maximum.maximum(mean, self._covariance(x))[:2])
        of_independent = gaussian_maximum.tree if self.method == "tree" else gaussian_maximum.exact
        return Moments(*of_independent(mean, var))

    def moments(self, x: np.ndarray | Moments, posteriors: Mapping[str, Posterior]) -> Moments:
        """See `propagated`; known inputs need no quadrature."""
        return self.propagated(x) if isinstance(x, Moments) else deterministic(self.value(x))

    def linearise(
        self,
        x: np.ndarray | Moments,
        y: Moments,
        posteriors: Mapping[str, Posterior],
        J: np.ndarray,
    ) -> Rule:
        """J π by the entries, and the own variance of each window."""
        if not isinstance(x, Moments):
            return None, None
        mean, var = self._windows(x)
        cov = None
        if self._covered(x):
            cov = self._covariance(x)
        elif self.method == "tree":
            cov = var[..., np.newaxis] * np.eye(var.shape[-1])
        if cov is not None:
            weights = correlated_maximum.maximum(mean, cov)[2]
            linear = np.einsum("...i,...ij,...j->...", weights, cov, weights)
        else:
            weights = gaussian_maximum.weights(mean, var)
            linear = (np.square(weights) * var).sum(axis=-1)
        parts = (J * weights[..., i] for i in range(weights.shape[-1]))
        J_x = self.to_entries(parts, (*J.shape[:-2], *x.shape[-2:]), J.dtype)
        return quadratic_form(J, np.maximum(y.var - linear, 0.0)), J_x

    def _windows(self, x: Moments) -> tuple[np.ndarray, np.ndarray]:
        """Means and variances of the entries of every window, (..., C, OH, OW, K·L)."""
        kernel, stride, padding = self.sizes
        mean = windows(padded(x.mean, padding, -np.inf), kernel, stride)
        var = windows(padded(x.var, padding), kernel, stride)
        shape = (*mean.shape[:-2], kernel[0] * kernel[1])
        return mean.reshape(shape), var.reshape(shape)

    def _covered(self, x: Moments) -> bool:
        return self.method == "window" and x.shared is not None

    def _covariance(self, x: Moments) -> np.ndarray:
        """Covariance of every window behind a convolution."""
        (rows, columns), *_ = self.sizes
        if rows * columns > _MOST:
            raise InputError(
                f"{self}: a window of {rows * columns} entries behind a convolution; expected at "
                f"most {_MOST} (or method='exact', which leaves out their covariance)"
            )
        assert x.shared is not None
        return x.shared.of_windows(x.var, *self.sizes)

    def _loop_sizes(self):
        kernel, stride, padding = self.sizes
        return ((0,) * kernel[0], (0,) * kernel[1]), stride, padding


def _images(x):
    """(..., H, W) -> (N, H, W), contiguous; a view where it is so already."""
    return np.ascontiguousarray(x).reshape(-1, *x.shape[-2:])
