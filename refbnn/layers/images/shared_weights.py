"""Covariance of a convolution's outputs within one channel: all positions share its weights.

Formulas
--------
With the kernel W (mean µ, variance σ²) and the bias b of one output channel, stride s, and the
padded input x̄ of independent entries (means m, variances v), the outputs at positions p and
q = p + d ≠ p are y_p = b + Σ_w W_w x̄_{sp+w} and y_q. The law of total covariance over W gives

    Cov(y_p, y_q) = σ_b² + Σ_w σ_w² m_{sp+w} m_{sq+w} + Σ_a µ_a µ_{a−sd} v_{sp+a},

the sums over the input channels of the group; the last one over the a for which a − sd lies in the
kernel too: the pixels that both windows read. Exact for any law, up to the independence of the
inputs. Each sum is a convolution: the first of the product of the image and the image shifted by
sd, with σ²; the second of v with the product of the kernel and the kernel shifted.

Behind layers that act entry by entry, f_n(… f_1(y)), the covariance is Π g_p g_q times that of y,
with the gains g = E[f′]: exact for batch normalisation, first order for an activation
(`refbnn.layers.linearisation`). An activation leaves out up to ρ² √(r_p r_q), for ρ = 1 all of it:
entries of a uniform area lose their own variances r (`refbnn.network.linearised`, "Error").

Cost: two convolutions an offset d where windows overlap, else two an unordered pair of entries at
the windows alone. A window of 2 × 2 and stride 2 has six pairs, each at a quarter of the positions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refbnn.layers.images import conv2d_loops
from refbnn.layers.images.windows import Pair, output_size, padded, windows
from refbnn.layers.moments import Moments
from refbnn.layers.posterior import Posterior

_MANY = 64  # pairs of a window, whose calls take longer than their sums


@dataclass(frozen=True, eq=False)
class SharedWeights:
    """The convolution whose outputs some moments are, and the layers passed since.

    Parameters
    ----------
    x : (B, C, H, W), known, or Moments
        Inputs of the convolution.
    weight, bias : Posterior
    steps : ((s, t), (p, q), g)
        Stride, padding and groups.
    passed : tuple of (layer, Moments)
        Layers behind it that act entry by entry, with their inputs; each has a method `gain`.
    """

    x: np.ndarray | Moments
    weight: Posterior
    bias: Posterior
    steps: tuple[Pair, Pair, int]
    passed: tuple[tuple[Any, Moments], ...] = ()

    def behind(self, layer: Any, x: Moments) -> SharedWeights:
        """These weights behind one more layer, whose inputs are x."""
        return replace(self, passed=(*self.passed, (layer, replace(x, shared=None))))

    def __getitem__(self, rows) -> SharedWeights:
        """The same for some rows of the outputs: an index, a slice, a mask or indices."""
        passed = tuple((layer, x[rows]) for layer, x in self.passed)
        return replace(self, x=self.x[rows], passed=passed)

    def of_windows(self, var: np.ndarray, kernel: Pair, stride: Pair, padding: Pair) -> np.ndarray:
        """Covariance of the entries of every window of the outputs.

        Parameters
        ----------
        var : (B, O, OH, OW)
            Variances of these outputs.
        kernel, stride, padding : (int, int)
            Windows; entries outside have variance and covariances 0.

        Returns
        -------
        (B, O, rows, columns, K·L, K·L)
        """
        n = kernel[0] * kernel[1]
        of_windows = windows(padded(var, padding), kernel, stride)
        cov = np.empty((*of_windows.shape[:-2], n, n))
        diagonal = np.arange(n)
        cov[..., diagonal, diagonal] = of_windows.reshape(cov.shape[:-1])
        for i, j, between in self._between_pairs(var.shape, kernel, stride, padding):
            cov[..., i, j] = cov[..., j, i] = between
        return cov

    def sum_between(
        self, shape: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair
    ) -> np.ndarray:
        """Sum of the covariances of different entries of every window.

        Parameters as in `of_windows`, `shape` that of the outputs (B, O, OH, OW);
        (B, O, rows, columns).
        """
        total = np.zeros((*shape[:-2], *output_size(shape[-2:], kernel, stride, padding)))
        for _, _, between in self._between_pairs(shape, kernel, stride, padding):
            total += 2.0 * between
        return total

    def _between_pairs(
        self, shape: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield i < j and the covariance of the entries i and j, behind all layers passed."""
        gains = []
        for layer, x in self.passed:
            gain = np.broadcast_to(layer.gain(x), shape)
            gains.append(windows(padded(gain, padding), kernel, stride))
        for i, j, between in self._pairs(shape[-2:], kernel, stride, padding):
            for gain in gains:
                (a, b), (c, d) = divmod(i, kernel[1]), divmod(j, kernel[1])
                between = between * gain[..., a, b] * gain[..., c, d]
            yield i, j, between

    def _pairs(
        self, size: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield i < j and the covariance of the entries i and j of every window."""
        by_offset = defaultdict(list)
        n = kernel[0] * kernel[1]
        for i in range(n):
            for j in range(i + 1, n):
                (a, b), (c, d) = divmod(i, kernel[1]), divmod(j, kernel[1])
                by_offset[c - a, d - b].append((i, j))
        rows, columns = output_size(size, kernel, stride, padding)
        everywhere = padding != (0, 0) or stride == (1, 1) or n * (n - 1) // 2 > _MANY
        for (d, e), pairs in by_offset.items():
            if not everywhere:
                for i, j in pairs:
                    start = divmod(i, kernel[1])
                    yield i, j, self._between((d, e), start, stride, (rows, columns))
                continue
            if d >= size[0] or abs(e) >= size[1]:
                for i, j in pairs:
                    yield i, j, np.zeros(1)  # one of the two lies outside
                continue
            # Positions p of which p + (d, e) lies in the image too, the others 0.
            left = max(0, -e)
            inside = size[0] - d, size[1] - abs(e)
            whole = self._between((d, e), (0, left), (1, 1), inside)
            rows_around = padding[0], d + padding[0]
            columns_around = left + padding[1], max(0, e) + padding[1]
            around = [(0, 0)] * (whole.ndim - 2) + [rows_around, columns_around]
            of_windows = windows(np.pad(whole, around), kernel, stride)
            for i, j in pairs:
                a, b = divmod(i, kernel[1])
                yield i, j, of_windows[..., a, b]

    def _between(self, d: Pair, start: Pair, step: Pair, count: Pair) -> np.ndarray:
        """Cov(y_p, y_{p+d}) at `count` positions p from `start` on in steps; (B, O, rows, columns).

        All p and p + d lie in the image of outputs.
        """
        steps, padding, groups = self.steps
        x, size = self.x, self.weight.shape[-2:]
        of_one = (np.newaxis,) * (4 - len(x.shape))  # an image that an index took out of a batch
        mean = padded(x.mean if isinstance(x, Moments) else x, padding)[of_one]
        (r, c), (rows, columns) = (
            [s * at for s, at in zip(steps, place, strict=True)] for place in (start, d)
        )
        stride = steps[0] * step[0], steps[1] * step[1]
        height, width = (s * (n - 1) + k for s, n, k in zip(stride, count, size, strict=True))
        here = mean[..., r : r + height, c : c + width]
        r_there, c_there = r + rows, c + columns
        there = mean[..., r_there : r_there + height, c_there : c_there + width]
        every = stride, (0, 0), groups
        cov = conv2d_loops.forward(here * there, self.weight.var, self.bias.var, *every)
        if isinstance(x, Moments) and rows < size[0] and abs(columns) < size[1]:
            var = padded(x.var, padding)[of_one][..., r : r + height, c : c + width]
            squares = times_shifted(self.weight.mean, (rows, columns))
            cov += conv2d_loops.forward(var, squares, np.zeros(self.bias.shape), *every)
        return cov[0] if of_one else cov


def times_shifted(kernel: np.ndarray, shift: Pair) -> np.ndarray:
    """µ_a µ_{a−shift}, 0 where a − shift lies outside; (O, C/g, K, L), shift[0] >= 0."""
    (d, e), (height, width) = shift, kernel.shape[-2:]
    product = np.zeros_like(kernel)
    columns = slice(max(e, 0), width + min(e, 0))
    moved = slice(max(-e, 0), width - max(e, 0))
    product[..., d:, columns] = kernel[..., d:, columns] * kernel[..., : height - d, moved]
    return product
