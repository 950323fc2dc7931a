"""The packaged images: the first few of each class of MNIST and of Fashion-MNIST.

    python -m refbnn.data.subset MNIST_FOLDER FASHION_FOLDER OUT_FOLDER

makes the packaged files again, byte for byte, from the published IDX files (plain or gzip, as
`train-images-idx3-ubyte` or with `.gz`). Taking the first n of each class needs no random numbers
and keeps the classes balanced; the images stay in the order of the original file, so that the
classes are mixed as they are there.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from refbnn.data.idx import write_idx
from refbnn.data.labelled import N_CLASSES, read_labelled
from refbnn.errors import InputError

# (data set, part of it, images of each class)
PARTS = (("mnist", "train", 500), ("mnist", "t10k", 100), ("fashion", "t10k", 100))


def first_of_each_class(labels: np.ndarray, n: int) -> np.ndarray:
    """Indices of the first n examples of each class 0..9, ascending.

    Parameters
    ----------
    labels
        Shape (N,), integers.
    n
        At least 1.

    Returns
    -------
    ndarray
        Shape (10 n,), int64.

    Raises
    ------
    InputError
        A class has fewer than n examples.
    """
    per_class = []
    for label in range(N_CLASSES):
        indices = np.flatnonzero(labels == label)[:n]
        if len(indices) < n:
            raise InputError(f"class {label}: {len(indices)} examples; expected at least {n}")
        per_class.append(indices)
    return np.sort(np.concatenate(per_class))


def make_subset(mnist: Path, fashion: Path, out: Path) -> list[Path]:
    """Write the packaged image and label files.

    Parameters
    ----------
    mnist, fashion
        Folders that hold the published IDX files: training and test files of MNIST, test files of
        Fashion-MNIST.
    out
        Folder to write to; made if absent.

    Returns
    -------
    list of Path
        The six files written.

    Raises
    ------
    InputError
        A file is absent or is not what it should be.
    """
    folders, written = {"mnist": mnist, "fashion": fashion}, []
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: {error.strerror}; expected a folder to write to") from error
    for name, part, n in PARTS:
        images_path = _published(folders[name], f"{part}-images-idx3-ubyte")
        labels_path = _published(folders[name], f"{part}-labels-idx1-ubyte")
        images, labels = read_labelled(images_path, labels_path)
        try:
            chosen = first_of_each_class(labels, n)
        except InputError as error:
            raise InputError(f"{labels_path}: {error}") from error
        split = "train" if part == "train" else "test"
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            path = out / f"{name}-subset-{split}-{kind}-ubyte.gz"
            write_idx(path, values[chosen])
            written.append(path)
    return written


def _published(folder: Path, name: str) -> Path:
    """Return the file as published (gzip), or unpacked where only that is there."""
    packed, plain = folder / f"{name}.gz", folder / name
    return plain if plain.is_file() and not packed.is_file() else packed


def main(argv: list[str] | None = None) -> int:
    """Run the command line above; 0 done, 2 an input is wrong (one line on standard error)."""
    parser = argparse.ArgumentParser(
        prog="python -m refbnn.data.subset", description="Make the packaged image files again."
    )
    parser.add_argument("mnist", type=Path, metavar="MNIST_FOLDER")
    parser.add_argument("fashion", type=Path, metavar="FASHION_FOLDER")
    parser.add_argument("out", type=Path, metavar="OUT_FOLDER")
    arguments = parser.parse_args(argv)
    try:
        for path in make_subset(arguments.mnist, arguments.fashion, arguments.out):
            print(path)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
