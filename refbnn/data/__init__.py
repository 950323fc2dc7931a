"""Data: `load` gives every data set by name; some come with the library, others are fetched."""

from refbnn.data.catalogue import load
from refbnn.data.dataset import Dataset
from refbnn.data.idx import read_idx, write_idx
from refbnn.data.packaged_files import fashion_subset, mnist_subset, packaged

__all__ = [
    "Dataset",
    "fashion_subset",
    "load",
    "mnist_subset",
    "packaged",
    "read_idx",
    "write_idx",
]
