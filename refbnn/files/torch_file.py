"""Read files of torch.save without PyTorch, into plain containers of NumPy arrays.

Since PyTorch 1.6 such a file is a zip file of uncompressed members in one folder:

    <folder>/data.pkl     a pickle of the containers; tensors point to storages
    <folder>/data/<key>   the bytes of one storage
    <folder>/byteorder    "little" or "big"; absent in files before 2.1, which are little-endian

A tensor is (storage, offset, sizes, strides), counted in elements: its entry (i, j, …) is element
offset + i·strides[0] + j·strides[1] + … of the storage. bfloat16 is the upper half of a float32 and
is read as float32. `refbnn.files.plain_pickle` reads the pickle.

Source: PyTorch notes, "Serialization semantics"; torch/serialization.py, torch/_utils.py.

Every size, offset and stride is checked before an array is made. Tensors may share storages, as
tied weights do, and repeat elements by strides of 0, so that a small file could claim much memory:
all tensors together may take at most eight times the bytes of the file's members.
"""

from __future__ import annotations

import contextlib
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from refbnn.errors import InputError, cut, quoted
from refbnn.files.archive import LARGEST, read_members
from refbnn.files.plain_pickle import Loader, Name, load

_EXPECTED = "a file of torch.save in its zip format (PyTorch 1.6 or later)"
_BFLOAT16 = "torch.BFloat16Storage"
_DTYPES = {
    "torch.DoubleStorage": "f8",
    "torch.FloatStorage": "f4",
    "torch.HalfStorage": "f2",
    _BFLOAT16: "u2",
    "torch.LongStorage": "i8",
    "torch.IntStorage": "i4",
    "torch.ShortStorage": "i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "u1",
}
_MOST_DIMENSIONS = 32
_MOST_SHARING = 8


def read_torch(path: str | os.PathLike[str]) -> Any:
    """Read a file of torch.save: a dict, list, tuple, array, ...

    Arrays have the tensors' types, but bool becomes uint8 and bfloat16 float32; they are in native
    byte order, each its own copy.

    Raises
    ------
    InputError
        If the file is absent, broken, of the older format, or holds anything besides tensors,
        containers, numbers, text and constraints of Pyro's parameters; the message names it.
    """
    path = Path(path)
    _refuse_bare_pickle(path)
    members = read_members(path, _EXPECTED, stored=True)
    folders = [name[: -len("/data.pkl")] for name in members if name.endswith("/data.pkl")]
    folders = [folder for folder in folders if "/" not in folder]
    if len(folders) != 1:
        raise InputError(f"{path}: holds {len(folders)} data.pkl; expected {_EXPECTED}")
    order = members.get(f"{folders[0]}/byteorder", b"little")
    if order not in (b"little", b"big"):
        raise InputError(f"{path}: byteorder {quoted(order)}; expected b'little' or b'big'")
    tensors = _Tensors(path, folders[0], members, "<" if order == b"little" else ">")
    loader = Loader(tensors.storage, tensors.tensor, frozenset(_DTYPES))
    return load(members[f"{folders[0]}/data.pkl"], str(path), loader)


def _refuse_bare_pickle(path: Path) -> None:
    """InputError for a file of the format before PyTorch 1.6, or of Python's own pickle."""
    start = b""
    if path.is_file():
        with contextlib.suppress(OSError), path.open("rb") as file:  # `read_members` reports them
            start = file.read(1)
    if start == b"\x80":
        raise InputError(
            f"{path}: a bare pickle or older torch.save; expected {_EXPECTED}: save it again by "
            "torch.save(torch.load(OLD, weights_only=True), NEW)"
        )


@dataclass
class _Tensors:
    """Storages and tensors of one file, checked as they are made."""

    path: Path
    folder: str
    members: dict[str, bytes]
    order: str
    _storages: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    _claimed: int = 0  # bytes of all tensors so far

    def storage(self, identity: Any) -> np.ndarray:
        """One-dimensional array of a storage, from ("storage", type, key, device, n)."""
        match identity:
            case ("storage", Name(full=kind), str(key), str(), int(n)) if (
                kind in _DTYPES and 0 <= n <= LARGEST
            ):
                pass
            case _:
                raise InputError(f"{self.path}: not the record of a storage; expected {_EXPECTED}")
        if (key, kind) not in self._storages:
            self._storages[key, kind] = self._read(key, kind)
        storage = self._storages[key, kind]
        if storage.size != n:
            raise InputError(
                f"{self.path}: storage {quoted(key)} holds {storage.size} elements; expected {n}"
            )
        return storage

    def _read(self, key: str, kind: str) -> np.ndarray:
        data = self.members.get(f"{self.folder}/data/{key}")
        dtype = np.dtype(self.order + _DTYPES[kind])
        if data is None or len(data) % dtype.itemsize:
            found = "is absent" if data is None else f"holds {len(data)} bytes"
            raise InputError(
                f"{self.path}: storage {quoted(key)} {found}; expected elements of {kind}"
            )
        values = np.frombuffer(data, dtype).astype(dtype.newbyteorder("="))
        return (values.astype("u4") << 16).view("f4") if kind == _BFLOAT16 else values

    def tensor(self, arguments: tuple) -> np.ndarray:
        """Array from the arguments of _rebuild_tensor_v2, copied."""
        # The rest are requires_grad, hooks, and perhaps metadata, which do not change the numbers.
        match arguments:
            case (np.ndarray(ndim=1) as storage, offset, tuple(sizes), tuple(strides), _, _, *_):
                pass
            case _:
                raise InputError(f"{self.path}: not the record of a tensor; expected {_EXPECTED}")
        numbers = (offset, *sizes, *strides)
        if (
            len(sizes) != len(strides)
            or len(sizes) > _MOST_DIMENSIONS
            or not all(type(n) is int and 0 <= n <= LARGEST for n in numbers)
        ):
            raise InputError(
                f"{self.path}: tensor of {len(sizes)} sizes and {len(strides)} strides, some of "
                f"them out of range; expected up to {_MOST_DIMENSIONS} of each, from 0 to {LARGEST}"
            )
        # A size of 0 must not hide another, absurd size.
        self._claimed += storage.itemsize * math.prod(max(size, 1) for size in sizes)
        most = _MOST_SHARING * sum(map(len, self.members.values()))
        if self._claimed > most:
            raise InputError(
                f"{self.path}: tensors of at least {self._claimed} bytes together; expected at "
                f"most {most}, {_MOST_SHARING} times what the file holds"
            )
        last = offset + sum(max(n - 1, 0) * step for n, step in zip(sizes, strides, strict=True))
        if math.prod(sizes) and last >= storage.size:
            raise InputError(
                f"{self.path}: tensor of shape {cut(sizes)} reaches element {last} of a storage; "
                f"expected it to end before {storage.size}"
            )
        if not math.prod(sizes):
            return np.empty(sizes, storage.dtype)
        width = storage.itemsize
        # This constructor checks the strides against the buffer again.
        view = np.ndarray(
            sizes, storage.dtype, storage.data, offset * width, tuple(width * s for s in strides)
        )
        return view.copy()
