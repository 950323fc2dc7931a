"""Rotated digits: regression of the angle by which a digit was turned.

    x = digit turned about its centre by θ ~ U(-45°, 45°), bilinear;    y = θ / 45° in [-1, 1]

θ is positive where the digit leans to the left (anticlockwise as seen, rows counted downwards).
Digits as written lean by themselves, by some ten degrees, so the angle cannot be told exactly: a
regression with noise, of images, that can be made from whatever digits are here.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import rotate

LARGEST_ANGLE = 45.0  # degrees; y = 1


def rotated(images: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Turn every image by an angle of its own.

    Parameters
    ----------
    images
        Shape (N, 28, 28), uint8.
    rng

    Returns
    -------
    x : ndarray
        Shape (N, 1, 28, 28), float32 in [0, 1].
    y : ndarray
        Shape (N, 1), float32 in [-1, 1].
    """
    y = rng.uniform(-1.0, 1.0, len(images))
    x = np.empty((len(images), 1, *images.shape[1:]), np.float32)
    for i, image in enumerate(images / np.float32(255.0)):
        # Order 1 interpolates between pixels, so values stay in [0, 1] but for their last bit.
        rotate(image, LARGEST_ANGLE * y[i], reshape=False, order=1, output=x[i, 0])
    return x.clip(0.0, 1.0), y[:, None].astype(np.float32)
