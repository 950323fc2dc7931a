"""Networks as files: one versioned .npz file each.

The file is a plain NumPy archive without compression and pickles:

    header             UTF-8 bytes of a JSON object: format, version, layers, input shape, law,
                       prior, names of all arrays
    mean/0.weight ...  µ of every weight array, float64
    scale/0.weight ... σ
    correlation/4      A of a correlated layer (`refbnn.network.correlated_weights`)

A run of training adds members of its own (`refbnn.training.checkpoint`).

Files from outside are hostile until they are parsed. The header is read first; names, shapes and
types of all arrays follow from it. Each array must be there, in exactly this form, and no larger
than the file. A file is written whole or not at all. A file that could not be read again, above
`refbnn.files.archive.LARGEST` bytes, is refused before it is written.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from refbnn.errors import InputError
from refbnn.files import archive, json_file, npy
from refbnn.files.atomic import written_atomically
from refbnn.layers.posterior import Posterior
from refbnn.network import schema
from refbnn.network.network import Network, require_network
from refbnn.numerics.arguments import path_of

_LARGEST_HEADER = 50_000_000  # bytes; laws may have thousands of panels, runs thousands of epochs
_BESIDE_ARRAY = 512  # bytes at most: NumPy's header of 128, two zip entries of 76 and the name each
Arrays = dict[str, np.ndarray]


def save(path: str | Path, net: Network) -> None:
    """Write a network.

    Raises
    ------
    InputError
        If the file cannot be written, or law, prior or a layer is of no kind that can be loaded.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from refbnn import Network, save
    >>> from refbnn.layers import Dense
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(Path(folder) / "net.npz", Network([Dense(3, 2)]))
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['net.npz']
    """
    if isinstance(path, Network):
        raise InputError("save: path is a network; expected save(path, net)")
    require_network(net, "save")
    write(path_of(path, "save: path"), schema.of_network(net), network_arrays(net))


def load(path: str | Path) -> Network:
    """Read a network that `save`, or a run of training, wrote.

    Raises
    ------
    InputError
        If the file cannot be read or holds no network.

    Examples
    --------
    >>> from refbnn import load
    >>> try:
    ...     load("absent.npz")
    ... except InputError as error:
    ...     print(error)
    absent.npz: not a file; expected a checkpoint (.npz)
    """
    return read_network(Archive(path_of(path, "load: path")))


def network_arrays(net: Network) -> Arrays:
    """Arrays of a network by their names in the file, float64."""
    parameters = net.parameters()
    return (
        {f"mean/{name}": p.mean.astype(float) for name, p in parameters.items()}
        | {f"scale/{name}": p.scale.astype(float) for name, p in parameters.items()}
        | {f"correlation/{index}": A.astype(float) for index, A in net.correlation.items()}
    )


def read_network(file: Archive) -> Network:
    """Network of a file, each array checked against the header; InputError if one does not fit."""
    source = file.source
    net = schema.network(file.header, source, file.size)
    posteriors = {}
    for name, p in net.parameters().items():
        mean, scale = (file.array(f"{part}/{name}", p.shape, "<f8") for part in ("mean", "scale"))
        try:
            posteriors[name] = Posterior(mean, scale)
        except InputError as error:
            raise InputError(f"{source}: {name}: {error}") from None
    net.set_parameters(posteriors)
    for index, A in net.correlation.items():
        stored = file.array(f"correlation/{index}", A.shape, "<f8")
        if not (np.isfinite(stored).all() and (np.triu(stored) == 0.0).all()):
            raise InputError(
                f"{source}: correlation of layer {index}: expected finite, below the diagonal"
            )
        net.correlation[index] = stored
    return net


def write(path: str | Path, header: dict[str, Any], arrays: Arrays) -> None:
    """Write header and arrays, whole or not at all; InputError if they could not be read again."""
    text = encoded(header)
    check_sizes(path, len(text), [array.nbytes for array in arrays.values()])
    members = {"header": np.frombuffer(text, np.uint8)}
    members |= {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with written_atomically(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **members)


def encoded(header: dict[str, Any]) -> bytes:
    """Bytes of a header as JSON."""
    return json.dumps(header, allow_nan=False).encode()


def check_sizes(path: str | Path, header: int, sizes: list[int]) -> None:
    """InputError unless a file of such a header and arrays, in bytes, could be read again."""
    if header > _LARGEST_HEADER:
        raise InputError(
            f"{path}: a header of {header} bytes; expected at most {_LARGEST_HEADER} (fewer epochs)"
        )
    whole = sum(_BESIDE_ARRAY + size for size in (header, *sizes))
    if whole > archive.LARGEST:
        raise InputError(
            f"{path}: a checkpoint of {whole} bytes; expected at most {archive.LARGEST}"
        )


class Archive:
    """The members of a file: its header, parsed, and arrays that are checked when asked for.

    `source` is the path, for errors; `size` is the file's in bytes, which no array exceeds.
    """

    def __init__(self, path: str | Path):
        self.source = str(path)
        self._members = archive.read_members(Path(path), "a checkpoint (.npz)", stored=True)
        self.size = Path(path).stat().st_size
        text = self._parsed("header")
        whole = text.dtype == np.uint8 and text.ndim == 1 and text.size <= _LARGEST_HEADER
        source = f"{self.source}: header"
        header = json_file.parse(text.tobytes(), source, "a JSON object") if whole else None
        if not isinstance(header, dict):
            raise InputError(f"{self.source}: header: expected a JSON object")
        self.header: dict[str, Any] = header

    def array(self, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """The array of that name; InputError unless it has exactly this shape and type."""
        array = self._parsed(name)
        if array.shape != shape or array.dtype.str != dtype:
            raise InputError(
                f"{self.source}: {name}: {array.dtype.str} of shape {array.shape}; "
                f"expected {dtype} of shape {shape}"
            )
        return array.copy()

    def _parsed(self, name: str) -> np.ndarray:
        raw = self._members.get(f"{name}.npy")
        if raw is None:
            raise InputError(f"{self.source}: {name} is missing; expected a checkpoint")
        return npy.parse(raw, f"{self.source}: {name}")
