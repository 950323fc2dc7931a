"""Labelled images: a pair of IDX files, as MNIST and Fashion-MNIST are published.

The images are uint8 of 28 by 28 pixels (0 background, 255 ink), the labels uint8 in 0..9, in the
same order.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from refbnn.data.idx import read_idx
from refbnn.errors import InputError

SIDE = 28  # pixels
N_CLASSES = 10


def read_labelled(images_path: Path, labels_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read images (N, 28, 28) and their labels (N,), both uint8, from IDX files, plain or gzip.

    Raises
    ------
    InputError
        A file is absent, broken, empty or of another kind; the two differ in length; a label is
        above 9.
    """
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE) or images.dtype != np.uint8:
        raise InputError(
            f"{images_path}: {images.dtype} of shape {images.shape}; "
            f"expected uint8 images of {SIDE} by {SIDE}"
        )
    if labels.shape != images.shape[:1] or labels.dtype != np.uint8:
        raise InputError(
            f"{labels_path}: {labels.dtype} of shape {labels.shape}; "
            f"expected one uint8 label for each of {len(images)} images"
        )
    if len(images) == 0:
        raise InputError(f"{images_path}: holds no image; expected at least one")
    if labels.max() >= N_CLASSES:
        raise InputError(
            f"{labels_path}: holds the label {labels.max()}; expected 0 to {N_CLASSES - 1}"
        )
    return images, labels
