"""The data that come with the library; `files/README.md` states their origin and licences."""

from importlib.resources import files
from pathlib import Path

import numpy as np

from refbnn.data.idx import read_idx, write_idx
from refbnn.errors import InputError

__all__ = ["fashion_subset", "mnist_subset", "packaged", "read_idx", "write_idx"]


def packaged(name: str) -> Path:
    """Path of a packaged file.

    Parameters
    ----------
    name
        Its name, such as ``mtj_conductance.csv``.

    Raises
    ------
    InputError
        No file of that name is packaged.
    """
    folder = Path(str(files("refbnn.data").joinpath("files")))
    names = sorted(path.name for path in folder.iterdir())
    if name not in names:
        raise InputError(f"{name}: not a packaged file; expected one of {', '.join(names)}")
    return folder / name


def mnist_subset() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Read 5000 training and 1000 test images of MNIST, the digits equally often.

    Returns
    -------
    x_train : ndarray
        Shape (5000, 784), float64 in [0, 1]: 28 by 28 pixels row by row, 0 background, 1 ink.
    y_train : ndarray
        Shape (5000,), int64 in 0..9.
    x_test, y_test : ndarray
        The same for the 1000 test images.
    """
    return *_read_split("mnist", "train"), *_read_split("mnist", "test")


def fashion_subset() -> tuple[np.ndarray, np.ndarray]:
    """Read 1000 test images of Fashion-MNIST, the classes equally often.

    Returns
    -------
    x : ndarray
        Shape (1000, 784), float64 in [0, 1].
    y : ndarray
        Shape (1000,), int64 in 0..9.
    """
    return _read_split("fashion", "test")


def _read_split(name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    images = read_idx(packaged(f"{name}-subset-{split}-images-idx3-ubyte.gz"))
    labels = read_idx(packaged(f"{name}-subset-{split}-labels-idx1-ubyte.gz"))
    return images.reshape(len(images), -1) / 255.0, labels.astype(np.int64)
