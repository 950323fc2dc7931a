"""Data sets. `load` returns one by its name; start reading with `catalogue`."""

from refbnn.data.catalogue import load
from refbnn.data.dataset import Dataset
from refbnn.data.idx import read_idx, write_idx
from refbnn.data.packaged_files import packaged

__all__ = ["Dataset", "load", "packaged", "read_idx", "write_idx"]
