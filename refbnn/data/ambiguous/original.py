"""Ambiguous-MNIST as its authors publish it.

Two PyTorch files: `amnist_samples.pt`, pictures of shape (N, 1, 28, 28) with values in [0, 1], and
`amnist_labels.pt`, shape (N, 10), ten labels a picture. Pictures and labels are flattened to 10 N
examples, picture by picture; the first 60,000 are for training, the others for testing. The
authors' loader also adds Gaussian noise of standard deviation 0.05 to the pictures by default; none
is added here.

Source: J. Mukhoti, A. Kirsch, J. van Amersfoort, P. Torr, Y. Gal, "Deep Deterministic Uncertainty:
A Simple Baseline" (2021), and its package ddu_dirty_mnist, class AmbiguousMNIST.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from refbnn.errors import InputError

N_TRAIN = 60_000  # examples


def read_original(
    samples_path: Path, labels_path: Path, split: str
) -> tuple[np.ndarray, np.ndarray]:
    """Read a split, "train" or "test": x (examples, 1, 28, 28), float32, and y (examples,), int64.

    Pictures of uint8 (0 to 255), pictures without an axis of channels, and one label a picture, of
    shape (N,), are read too.

    Raises
    ------
    InputError
        A file holds something else.
    """
    from refbnn.files.torch_file import read_torch

    samples, labels = read_torch(samples_path), read_torch(labels_path)
    if (
        not isinstance(samples, np.ndarray)
        or samples.shape[-2:] != (28, 28)
        or samples.shape[1:-2] not in ((), (1,))
        or not (samples.dtype == np.uint8 or np.issubdtype(samples.dtype, np.floating))
    ):
        raise InputError(
            f"{samples_path}: holds {_described(samples)}; "
            "expected pictures, (N, 1, 28, 28), uint8 or floating-point"
        )
    if (
        not isinstance(labels, np.ndarray)
        or labels.ndim not in (1, 2)
        or len(labels) != len(samples)
        or not np.issubdtype(labels.dtype, np.integer)
        or not labels.size
    ):
        raise InputError(
            f"{labels_path}: holds {_described(labels)}; "
            f"expected whole numbers, ({len(samples)}, labels a picture), at least one"
        )
    labels = labels.reshape(len(labels), -1)
    split_at = N_TRAIN // labels.shape[1]
    rows = slice(None, split_at) if split == "train" else slice(split_at, None)
    x = samples.reshape(-1, 1, 28, 28)[rows]
    x = x / np.float32(255.0) if x.dtype == np.uint8 else x.astype(np.float32)
    return x.repeat(labels.shape[1], axis=0), labels[rows].reshape(-1).astype(np.int64)


def _described(thing: object) -> str:
    if isinstance(thing, np.ndarray):
        return f"{thing.dtype} of shape {thing.shape}"
    return f"a {type(thing).__name__}"
