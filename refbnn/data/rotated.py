"""Rotated digits: regression of the angle by which a digit was turned.

    x = digit turned about its centre by θ ~ U(-45°, 45°), bilinear;    y = θ / 45° in [-1, 1]

θ is positive where the digit leans to the left (anticlockwise as seen, rows counted downwards).
Digits as written lean by themselves, by some ten degrees, so the angle cannot be known exactly: a
regression of images with noise, made from the digits that are here.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import rotate

LARGEST_ANGLE = 45.0  # degrees; y = 1


def rotated(images: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Turn every image by an angle of its own.

    Images (N, 28, 28), uint8, give x (N, 1, 28, 28) in [0, 1] and y (N, 1) in [-1, 1], float32.
    """
    y = rng.uniform(-1.0, 1.0, len(images))
    x = np.empty((len(images), 1, *images.shape[1:]), np.float32)
    for i, image in enumerate(images / np.float32(255.0)):
        # Order 1 interpolates between pixels, so values stay in [0, 1] but for their last bit.
        rotate(image, LARGEST_ANGLE * y[i], reshape=False, order=1, output=x[i, 0])
    return x.clip(0.0, 1.0), y[:, None].astype(np.float32)
