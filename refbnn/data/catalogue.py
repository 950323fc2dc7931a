"""The data sets by name: `load("mnist-subset", "train")`.

A name that ends in `-subset` stands for data that come with the library or are made from them, so
it works everywhere. The other names stand for the full files, which `refbnn data fetch` downloads.
One never replaces the other. `ambiguous-mnist` is the published data set where its files are here,
and is made from MNIST otherwise; `Dataset.source` says which.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from refbnn.data.ambiguous.make import N_LABELS, cached_ambiguous
from refbnn.data.ambiguous.original import read_original
from refbnn.data.dataset import Dataset
from refbnn.data.faces import load_faces
from refbnn.data.labelled import N_CLASSES, read_labelled
from refbnn.data.own import is_own, load_own
from refbnn.data.packaged_files import packaged_split
from refbnn.data.published import (
    AMBIGUOUS_MNIST,
    FASHION_MNIST,
    IDX_FILES,
    MNIST,
    Publication,
    find,
    require,
)
from refbnn.data.rotated import rotated
from refbnn.errors import InputError, quoted, suggestion
from refbnn.numerics.random.streams import stream

SPLITS = ("train", "test")
FACES = "utkface:"  # a folder's name follows


@dataclass(frozen=True)
class Entry:
    """A data set as the catalogue lists it.

    Attributes
    ----------
    kind : str
        "plain" images, "rotated" ones (`refbnn.data.rotated`), "ambiguous" ones made from them
        (`refbnn.data.ambiguous.make`), or "dirty": plain and ambiguous together.
    images : Publication or str
        Source of the images: a publication, or the name of a packaged subset.
    sizes : dict of str to int
        Examples in each split.
    name, origin, licence : str
        Columns of the table that `refbnn data list` prints.
    """

    name: str
    kind: Literal["plain", "rotated", "ambiguous", "dirty"]
    images: Publication | str
    sizes: dict[str, int]
    origin: str
    licence: str = "CC BY-SA 3.0"

    @property
    def task(self) -> str:
        """Task of a network that learns from it: "classes" or "regression"."""
        return "regression" if self.kind == "rotated" else "classes"

    def is_here(self, split: str) -> bool:
        """Whether the split can be loaded without fetching anything."""
        if split not in self.sizes:
            return False
        if isinstance(self.images, str):
            return True
        if self.kind == "ambiguous" and all(map(_find_original, AMBIGUOUS_MNIST.checksums)):
            return True
        return all(find(self.images, name) for name in _file_names(split))


_FULL, _PART = {"train": 60_000, "test": 10_000}, {"train": 5_000, "test": 1_000}
_FULL_DIRTY, _PART_DIRTY = ({split: 2 * n for split, n in one.items()} for one in (_FULL, _PART))
_FETCH, _SUBSET, _MADE = "refbnn data fetch", "mnist-subset", "made from mnist"

ENTRIES = (
    Entry("mnist", "plain", MNIST, _FULL, f"{_FETCH} mnist"),
    Entry("mnist-subset", "plain", _SUBSET, _PART, "packaged"),
    Entry("fashion-mnist", "plain", FASHION_MNIST, _FULL, f"{_FETCH} fashion-mnist", "MIT"),
    Entry("fashion-subset", "plain", "fashion-subset", {"test": 1_000}, "packaged", "MIT"),
    Entry("ambiguous-mnist", "ambiguous", MNIST, _FULL, f"{_FETCH} ambiguous-mnist, or {_MADE}"),
    Entry("ambiguous-mnist-subset", "ambiguous", _SUBSET, _PART, f"{_MADE}-subset"),
    Entry("dirty-mnist", "dirty", MNIST, _FULL_DIRTY, "mnist and ambiguous-mnist"),
    Entry("dirty-mnist-subset", "dirty", _SUBSET, _PART_DIRTY, "the two subsets"),
    Entry("rotated-mnist", "rotated", MNIST, _FULL, _MADE),
    Entry("rotated-mnist-subset", "rotated", _SUBSET, _PART, f"{_MADE}-subset"),
)


def load(name: str, split: str) -> Dataset:
    """Load one split of a data set.

    Parameters
    ----------
    name
        A name of ENTRIES, "utkface:FOLDER" (see `refbnn.data.faces`), or the path of a folder of
        IDX files or of a .npz file (see `refbnn.data.own`).
    split
        "train" or "test".

    Returns
    -------
    Dataset
        Images as float32 of shape (N, 1, 28, 28), faces (N, 3, 32, 32), in [0, 1]; own data as
        they are.

    Raises
    ------
    InputError
        The name or the split is unknown, or a file is absent (the message says what to do) or is
        not what it should be.

    Examples
    --------
    >>> from refbnn.data import load
    >>> digits = load("mnist-subset", "test")
    >>> digits.x.shape, digits.y[:5]
    ((1000, 1, 28, 28), array([7, 2, 1, 0, 4]))
    """
    if split not in SPLITS:
        raise InputError(f"{name}: split {quoted(split)}; expected train or test")
    if name.startswith(FACES):
        return load_faces(Path(name.removeprefix(FACES)), split)
    entry = next((entry for entry in ENTRIES if entry.name == name), None)
    if entry is None and is_own(name):
        return load_own(name, split)
    if entry is None:
        names = [entry.name for entry in ENTRIES]
        raise InputError(
            f"{name}: no data set of that name; expected {', '.join(names)}, {FACES}FOLDER, a "
            f"folder of IDX files or a file .npz{suggestion(name, names)}"
        )
    if split not in entry.sizes:
        raise InputError(
            f"{name}: has no {split} split; expected {' or '.join(entry.sizes)}, "
            "or another of the names that `refbnn data list` prints"
        )
    found = _load(entry, split)
    low, high = found.x.min(), found.x.max()
    if low < 0.0 or high > 1.0:
        raise InputError(f"{name}: inputs lie in {low:g} ... {high:g}; expected numbers in [0, 1]")
    return found


def _load(entry: Entry, split: str) -> Dataset:
    if entry.kind == "plain":
        images, labels, source = _images(entry, split)
        return _classes(entry.name, _scaled(images), labels, source)
    if entry.kind == "rotated":
        images, _, source = _images(entry, split)
        x, y = rotated(images, stream(0, f"rotated digits, {split}"))
        return Dataset(entry.name, x, y, "regression", 1, f"{source}, turned")
    if entry.kind == "ambiguous":
        x, labels, source = _ambiguous(entry, split)
        return _classes(entry.name, x, labels, source)
    images, labels, source = _images(entry, split)
    x, ambiguous_labels, ambiguous_source = _ambiguous(entry, split)
    return _classes(
        entry.name,
        np.concatenate([_scaled(images), x]),
        np.concatenate([labels, ambiguous_labels]),
        f"{source}; {ambiguous_source}",
    )


def _classes(name: str, x: np.ndarray, labels: np.ndarray, source: str) -> Dataset:
    return Dataset(name, x, labels.astype(np.int64), "classes", N_CLASSES, source)


def _scaled(images: np.ndarray) -> np.ndarray:
    """x in [0, 1] of shape (N, 1, 28, 28) from uint8 images of shape (N, 28, 28)."""
    return images[:, None] / np.float32(255.0)


def _images(entry: Entry, split: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Images (N, 28, 28) and labels (N,) in uint8, and their source in words."""
    if isinstance(entry.images, str):
        return *packaged_split(entry.images, split), "comes with the library"
    paths = [require(entry.images, name) for name in _file_names(split)]
    return *read_labelled(*paths), str(paths[0].parent)


def _ambiguous(entry: Entry, split: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Ambiguous examples: x (N, 1, 28, 28), labels (N,), and their source in words."""
    names = list(AMBIGUOUS_MNIST.checksums)
    if entry.images is MNIST and any(map(_find_original, names)):
        samples, labels = (require(AMBIGUOUS_MNIST, name) for name in names)
        return *read_original(samples, labels, split), str(samples)
    digits, classes, source = _images(entry, split)
    images, drawn = cached_ambiguous(digits, classes, split)
    return (
        _scaled(images).repeat(N_LABELS, axis=0),
        drawn.reshape(-1),
        f"barycentres of digits ({source})",
    )


def _find_original(name: str) -> Path | None:
    return find(AMBIGUOUS_MNIST, name)


def _file_names(split: str) -> list[str]:
    """Names of the published files of images and labels."""
    return IDX_FILES[:2] if split == "train" else IDX_FILES[2:]
