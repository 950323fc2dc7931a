"""Make the packaged images again: the first few of each class of MNIST and of Fashion-MNIST.

    python -m refbnn.data.subset MNIST_FOLDER FASHION_FOLDER OUT_FOLDER

writes the packaged files, byte for byte, from the published IDX files (plain or gzip, as
`train-images-idx3-ubyte` or with `.gz`). Taking the first n of each class needs no random numbers
and keeps the classes balanced. The images stay in the order of the original file, so that the
classes are mixed as they are there.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from refbnn.data.idx import write_idx
from refbnn.data.labelled import N_CLASSES, read_labelled
from refbnn.errors import InputError

# (data set, part of it, split, images of each class)
PARTS = (
    ("mnist", "train", "train", 500),
    ("mnist", "t10k", "test", 100),
    ("fashion", "t10k", "test", 100),
)


def first_of_each_class(labels: np.ndarray, n: int) -> np.ndarray:
    """Ascending indices of the first n ≥ 1 examples of each class 0..9, shape (10 n,), int64.

    Raises
    ------
    InputError
        A class has fewer than n examples.
    """
    per_class = [np.flatnonzero(labels == label)[:n] for label in range(N_CLASSES)]
    for label, indices in enumerate(per_class):
        if len(indices) < n:
            raise InputError(f"class {label}: {len(indices)} examples; expected at least {n}")
    return np.sort(np.concatenate(per_class))


def make_subset(mnist: Path, fashion: Path, out: Path) -> list[Path]:
    """Write the six packaged files of images and labels to a folder, which is made if absent.

    `mnist` and `fashion` are folders of the published files: training and test files of MNIST, test
    files of Fashion-MNIST. InputError if a file is absent or is not what it should be.
    """
    folders, written = {"mnist": mnist, "fashion": fashion}, []
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: {error.strerror}; expected a folder to write to") from error
    for name, part, split, n in PARTS:
        images_path, labels_path = (
            _published(folders[name], f"{part}-{kind}-ubyte")
            for kind in ("images-idx3", "labels-idx1")
        )
        images, labels = read_labelled(images_path, labels_path)
        try:
            chosen = first_of_each_class(labels, n)
        except InputError as error:
            raise InputError(f"{labels_path}: {error}") from error
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            written.append(out / f"{name}-subset-{split}-{kind}-ubyte.gz")
            write_idx(written[-1], values[chosen])
    return written


def _published(folder: Path, name: str) -> Path:
    """The file as published (gzip), or unpacked where only that is there."""
    packed, plain = folder / f"{name}.gz", folder / name
    return plain if plain.is_file() and not packed.is_file() else packed


def main(argv: list[str] | None = None) -> int:
    """Run the command line above; 0 done, 2 an input is wrong (one line on standard error)."""
    parser = argparse.ArgumentParser(
        prog="python -m refbnn.data.subset", description="Make the packaged image files again."
    )
    for folder in ("MNIST_FOLDER", "FASHION_FOLDER", "OUT_FOLDER"):
        parser.add_argument(folder, type=Path)
    try:
        print(*make_subset(*vars(parser.parse_args(argv)).values()), sep="\n")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
