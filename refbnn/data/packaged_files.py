"""The data that come with the library; `files/README.md` states their origin and licences."""

from importlib.resources import files
from pathlib import Path

import numpy as np

from refbnn.data.labelled import read_labelled
from refbnn.errors import InputError


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


def packaged_split(name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Read the images and labels of a packaged subset, as `read_labelled` gives them.

    Parameters
    ----------
    name, split
        "mnist-subset" with "train" or "test", or "fashion-subset" with "test".
    """
    return read_labelled(
        packaged(f"{name}-{split}-images-idx3-ubyte.gz"),
        packaged(f"{name}-{split}-labels-idx1-ubyte.gz"),
    )


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
    return *_flat("mnist-subset", "train"), *_flat("mnist-subset", "test")


def fashion_subset() -> tuple[np.ndarray, np.ndarray]:
    """Read 1000 test images of Fashion-MNIST, the classes equally often.

    Returns
    -------
    x : ndarray
        Shape (1000, 784), float64 in [0, 1].
    y : ndarray
        Shape (1000,), int64 in 0..9.
    """
    return _flat("fashion-subset", "test")


def _flat(name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    images, labels = packaged_split(name, split)
    return images.reshape(len(images), -1) / 255.0, labels.astype(np.int64)
