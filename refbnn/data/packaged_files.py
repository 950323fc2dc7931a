"""Files that come with the library; `files/README.md` states their origin and licences."""

from importlib.resources import files
from pathlib import Path

import numpy as np

from refbnn.data.labelled import read_labelled
from refbnn.errors import InputError


def packaged(name: str) -> Path:
    """Path of a packaged file, such as mtj_conductance.csv; InputError if there is none."""
    folder = Path(str(files("refbnn.data").joinpath("files")))
    names = sorted(path.name for path in folder.iterdir())
    if name not in names:
        raise InputError(f"{name}: not a packaged file; expected one of {', '.join(names)}")
    return folder / name


def packaged_split(name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of a packaged subset, as `refbnn.data.labelled.read_labelled` returns them.

    There are "mnist-subset" with "train" and "test", and "fashion-subset" with "test".
    """
    return read_labelled(
        packaged(f"{name}-{split}-images-idx3-ubyte.gz"),
        packaged(f"{name}-{split}-labels-idx1-ubyte.gz"),
    )
