"""The data sets by name: `load("mnist-subset", "train")`.

A name that ends in `-subset` stands for data that come with the library or are made from them, so
it works everywhere; the other names stand for the full files, which `refbnn data fetch` downloads.
One never stands in for the other.
"""

from __future__ import annotations

from refbnn.data import published
from refbnn.data.dataset import Dataset
from refbnn.data.labelled import as_dataset, read_labelled
from refbnn.data.packaged_files import packaged_split
from refbnn.errors import InputError

SPLITS = ("train", "test")


def load(name: str, split: str) -> Dataset:
    """Load one split of a data set.

    Parameters
    ----------
    name
        One of those listed above.
    split
        "train" or "test".

    Raises
    ------
    InputError
        The name or the split is unknown, or a file is absent (the message says what to do) or is
        not what it should be.
    """
    if split not in SPLITS:
        raise InputError(f"{name}: split {split!r}; expected train or test")
    if name == "mnist":
        return _published(published.MNIST, split)
    if name == "fashion-mnist":
        return _published(published.FASHION_MNIST, split)
    if name in ("mnist-subset", "fashion-subset"):
        return _packaged(name, split)
    raise InputError(
        f"{name}: no data set of that name; "
        "expected mnist, fashion-mnist, mnist-subset or fashion-subset"
    )


def _published(publication: published.Publication, split: str) -> Dataset:
    part = "train" if split == "train" else "t10k"
    names = f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz"
    images, labels = (published.require(publication, name) for name in names)
    return as_dataset(publication.name, *read_labelled(images, labels), str(images.parent))


def _packaged(name: str, split: str) -> Dataset:
    if (name, split) == ("fashion-subset", "train"):
        raise InputError(f"{name}: has no train split; expected test, or the name fashion-mnist")
    return as_dataset(name, *packaged_split(name, split), "comes with the library")
