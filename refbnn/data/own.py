"""A user's own data: a folder of IDX files under MNIST's names, or one .npz file of arrays.

    folder   train-images-idx3-ubyte, train-labels-idx1-ubyte, and for the test split
             t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte, plain or with .gz
    .npz     x, y and, for the test split, x_test, y_test, as `numpy.savez` writes them

Inputs x are rows (N, features), grey images (N, height, width) or images (N, channels, height,
width). Pixels of type uint8 are divided by 255, floats stay as they are. Other integers are
refused: nothing says in what unit they are. Labels y are integers 0, 1, … of shape (N,); the
greatest of both splits gives the number of classes. Targets of a regression are floats of shape
(N,) or (N, targets).

No axis is moved: images with channels last (`refbnn.numerics.arrays.channels_last`) are refused,
with the order that would fit. A last axis of length 1 behind more than four is that of grey images,
(N, height, width, 1), whose numbers lie in the same order as those of (N, 1, height, width).

Files from outside are hostile until they are parsed. Pickles are refused; sizes are checked before
memory is asked for (`refbnn.files.archive`, `refbnn.files.npy`, `refbnn.data.idx`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from refbnn.data.dataset import Dataset
from refbnn.data.idx import read_idx
from refbnn.data.published import IDX_FILES
from refbnn.errors import InputError
from refbnn.files import archive, npy
from refbnn.numerics.arrays import MOST_CHANNELS, channels_last

MOST_CLASSES = 10_000  # above: integers that are no labels, such as years or prices
_NAMES = {"train": ("x", "y"), "test": ("x_test", "y_test")}


@dataclass(frozen=True)
class _Part:
    """Inputs and answers of one split as they were read, and where from."""

    x: np.ndarray
    y: np.ndarray
    source: str


def is_own(name: str) -> bool:
    """Whether a name of a data set is a path: of a folder, a .npz file, or with a separator."""
    return name.endswith(".npz") or os.sep in name or Path(name).is_dir()


def load_own(name: str, split: str) -> Dataset:
    """Load one split, "train" or "test".

    A .npz file without x_test and y_test has one split, which is returned for both; `source` says
    so.

    Raises
    ------
    InputError
        If a file is absent or broken, or its arrays are no such data.

    Examples
    --------
    >>> import tempfile
    >>> from refbnn.data import load
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/own.npz", x=np.eye(3), y=[0, 1, 1])
    ...     own = load(f"{folder}/own.npz", "train")
    >>> own.x.shape, own.task, own.n_outputs
    ((3, 3), 'classes', 2)
    """
    path = Path(name)
    parts = _of_folder(path, split) if path.is_dir() else _of_file(path)
    part = parts[split] if split in parts else parts["train"]
    x = _inputs(part.x, part.source)
    answers = [_answers(one.y, one.source) for one in (part, *parts.values())]
    y = answers[0]
    if len({answer.dtype.kind for answer in answers}) > 1:
        raise InputError(f"{name}: y of its splits differ in type; expected labels or targets")
    if y.dtype.kind == "f":
        return Dataset(name, x, y, "regression", y.shape[1], part.source)
    if min(int(answer.min()) for answer in answers) > 0 or min(map(np.min, answers)) < 0:
        low, high = min(map(np.min, answers)), max(map(np.max, answers))
        raise InputError(f"{name}: labels lie in {low} ... {high}; expected 0, 1, ... from 0 on")
    n_classes = max(2, 1 + max(int(answer.max()) for answer in answers))
    if n_classes > MOST_CLASSES:
        raise InputError(
            f"{name}: integers up to {n_classes - 1} in y; expected labels of at most "
            f"{MOST_CLASSES} classes, or floats for a regression"
        )
    return Dataset(name, x, y, "classes", n_classes, part.source)


def _of_folder(folder: Path, split: str) -> dict[str, _Part]:
    """Splits of a folder of IDX files: that for training, where it is here, and the one asked."""
    parts = {}
    for one, names in (("train", IDX_FILES[:2]), ("test", IDX_FILES[2:])):
        images, labels = (_present(folder, name) for name in names)
        if images is not None and labels is not None:
            parts[one] = _Part(read_idx(images), read_idx(labels), str(images))
        elif one == split or images is not None or labels is not None:
            missing = names[0] if images is None else names[1]
            raise InputError(
                f"{folder}: {missing} is not here, with or without .gz; expected MNIST's names"
            )
    return parts


def _present(folder: Path, name: str) -> Path | None:
    """The file of that name, packed or plain; None if it is not in the folder."""
    candidates = (folder / name, folder / name.removesuffix(".gz"))
    return next((path for path in candidates if path.is_file()), None)


def _of_file(path: Path) -> dict[str, _Part]:
    """Splits of a .npz file."""
    if path.suffix != ".npz":
        raise InputError(f"{path}: expected a folder of IDX files, or a file .npz of x and y")
    members = archive.read_members(path, "a .npz file of x and y", stored=False)
    arrays = {name.removesuffix(".npy"): raw for name, raw in members.items()}
    parts = {}
    for split, names in _NAMES.items():
        missing = [name for name in names if name not in arrays]
        if missing and (split == "train" or len(missing) == 1):
            held = ", ".join(arrays)[:80] or "nothing"
            raise InputError(f"{path}: {missing[0]} is missing among {held}; expected {names}")
        if not missing:
            x, y = (npy.parse(arrays[name], f"{path}: {name}") for name in names)
            parts[split] = _Part(x, y, f"{', '.join(names)} of {path}")
    return parts


def _inputs(x: np.ndarray, source: str) -> np.ndarray:
    """Inputs in real numbers, images as (N, C, H, W)."""
    found = f"{source}: inputs are {x.dtype} of shape {x.shape}"
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise InputError(f"{found}; expected uint8 pixels, which are divided by 255, or floats")
    if not 2 <= x.ndim <= 4 or not x.size:
        raise InputError(
            f"{found}; expected rows (N, features) or images (N, channels, height, width), N > 0"
        )
    if channels_last(x.shape[1:]):
        n, height, width, channels = x.shape
        raise InputError(
            f"{found}; expected {(n, channels, height, width)}: transpose with (0, 3, 1, 2)"
        )
    if x.ndim == 4 and x.shape[3] == 1 and x.shape[1] > MOST_CHANNELS:
        x = x[..., 0]
    if x.ndim == 3:
        x = x[:, np.newaxis]  # grey images
    if x.dtype == np.uint8:
        return x / np.float32(255.0)
    return np.ascontiguousarray(x, np.float64 if x.dtype.itemsize > 4 else np.float32)


def _answers(y: np.ndarray, source: str) -> np.ndarray:
    """Labels (N,) of int64, or targets (N, D) of floats."""
    found = f"{source}: answers are {y.dtype} of shape {y.shape}"
    if not y.size or y.ndim not in (1, 2):
        raise InputError(f"{found}; expected labels (N,) or targets (N, D), N > 0")
    if y.dtype.kind == "f":
        targets = y.reshape(len(y), -1)
        return np.ascontiguousarray(targets, np.float64 if y.dtype.itemsize > 4 else np.float32)
    if y.dtype.kind not in "iu":
        raise InputError(f"{found}; expected integers, or floats for a regression")
    if y.ndim == 2:
        how = "y[:, 0]" if y.shape[1] == 1 else "y.argmax(axis=1) of one-hot rows"
        raise InputError(f"{found}; expected labels (N,): {how}")
    return y.astype(np.int64)
