"""Read mutated files, in a process of its own: `python -m tests.helpers.fuzz FIRST COUNT FOLDER`.

Case i is the same wherever it is run: its random numbers depend on i alone, not on other cases. The
claim on every reader: it returns, or raises InputError of one line and moderate length; it warns of
nothing, writes nothing, starts nothing, and takes less than a gigabyte.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import resource
import sys
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from refbnn.errors import InputError, InputRangeWarning
from tests.helpers import torch_bytes
from tests.helpers.mutations import mutated

DATA = Path(__file__).parents[1] / "data"
MOST_MEMORY = 2**30
_LONGEST_MESSAGE = 1000  # without the path
_EVENTS = ("os.", "subprocess.", "shutil.", "socket.", "pickle.", "ctypes.dlopen")
_HARMLESS = ("os.listdir", "os.scandir", "os.walk")
# Numba keeps compiled loops in files and pickles of its own.
_NUMBA = re.compile(r"numba|__pycache__|^copyreg _reconstructor$|^builtins object$")

Reader = Callable[[Path], object]


def _seldom(path: Path) -> bool:
    """Whether to build a law's inverse, which takes half a second: for one file of twenty."""
    return zlib.crc32(path.read_bytes()) % 20 == 0


def _network(path: Path) -> None:
    from refbnn import load, predict
    from refbnn.noise import Gaussian

    net = load(path)
    repr(net)
    x = np.full((2, *(net.input_shape or (3,))), 0.5)
    if not net.correlation:
        predict(net, net.shaped(x))
    if type(net.law) is Gaussian or _seldom(path):
        predict(net, net.shaped(x), method="svi", n_samples=2)


def _run(path: Path) -> None:
    from refbnn import load
    from refbnn.network.file import Archive
    from refbnn.training.checkpoint import load_training
    from refbnn.training.run import Options

    whole = DATA / "earlier/checkpoints/unfinished.npz"
    run = Archive(whole).header["run"]
    options = Options(**run["options"])
    training = load_training(path, load(whole), options, run["data_sha256"])
    assert all(np.isfinite([epoch.loss.nll, epoch.loss.kl]).all() for epoch in training.history)


def _law(path: Path) -> None:
    from refbnn.noise import load_law

    law, place = load_law(path)
    repr(law)
    assert np.isfinite(law.log_pdf(np.array([-0.1, 0.1]))).all()
    if _seldom(path):
        z = law.icdf(np.array([0.1, 0.5, 0.9]))
        assert np.isfinite(place.location + place.scale * z).all()


def _posterior(tool: str, shape: tuple[int, ...] | None = None) -> Reader:
    def read(path: Path) -> None:
        from refbnn import predict
        from refbnn.network.interchange import import_network

        net = import_network(path, tool, assume=True, input_shape=shape).network
        if net.input_shape is not None:
            predict(net, np.full((2, *net.input_shape), 0.5))

    return read


def _torch(path: Path) -> None:
    from refbnn.files.torch_file import read_torch

    read_torch(path)


def _inputs(path: Path) -> None:
    from refbnn.cli.predict import _read

    assert np.isfinite(_read(path)).all()


def _measurements(path: Path) -> None:
    from refbnn.noise import read_measurements

    values, _ = read_measurements(path)
    assert np.isfinite(values).all()


def _records(path: Path) -> None:
    from kernels.program import records

    for record in records.read(path):
        records.keep(record, path)


def _saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _seeds() -> dict[str, tuple[str, Reader, list[bytes]]]:
    """Suffix, reader, and whole files of every kind."""
    earlier, posteriors = DATA / "earlier", DATA / "checkpoints"
    rng = np.random.default_rng(0)
    idx = b"\0\0\x08\3" + b"".join(n.to_bytes(4, "big") for n in (3, 5, 4)) + rng.bytes(60)
    floats = b"\0\0\x0d\2" + b"".join(n.to_bytes(4, "big") for n in (3, 5)) + bytes(60)
    numbers = 50.0 + rng.normal(size=60)
    plain = "conductance_uS\n" + "".join(f"{value:.4f}\n" for value in numbers)
    columns = "read,current\n" + "".join(f"{i},{value}\n" for i, value in enumerate(numbers))
    tables = [plain.encode(), columns.replace("current", "conductance_uS").encode()]
    legacy = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q\0."
    torch = torch_bytes.zipped(torch_bytes.tensor())
    files: dict[str, tuple[str, Reader, Iterable[bytes | Path]]] = {
        "run": (".npz", _run, [(earlier / "checkpoints/unfinished.npz").read_bytes()]),
        "pyro": (".pt", _posterior("pyro"), [posteriors / "pyro_autonormal_tiny.pt"]),
        "bayesian-torch": (
            ".pt",
            _posterior("bayesian-torch", (1, 4, 4)),
            [posteriors / "bayesian_torch_tiny.pt"],
        ),
        "numpyro": (".npz", _posterior("numpyro"), [posteriors / "numpyro_autonormal_tiny.npz"]),
        "torch": (".pt", _torch, [torch, legacy]),
        "network": (
            ".npz",
            _network,
            [p for p in (earlier / "checkpoints").glob("*.npz") if ".expected" not in p.name],
        ),
        "law": (".json", _law, (earlier / "laws").glob("*.json")),
        "array": (
            ".npy",
            _inputs,
            [_saved(rng.normal(size=(3, 4))), _saved(np.ones((2, 1, 2, 2), np.uint8))],
        ),
        "idx": (".idx", _inputs, [idx, floats, gzip.compress(idx, mtime=0)]),
        "csv": (
            ".csv",
            _measurements,
            [*tables, *(gzip.compress(table, mtime=0) for table in tables)],
        ),
        "records": (".json", _records, [earlier / "tuning/cortex-a72.json"]),
    }
    return {
        kind: (
            suffix,
            reader,
            [
                one if isinstance(one, bytes) else one.read_bytes()
                for one in sorted(bodies, key=str)
            ],
        )
        for kind, (suffix, reader, bodies) in files.items()
    }


KINDS = (
    "run",
    "pyro",
    "bayesian-torch",
    "numpyro",
    "torch",
    "network",
    "law",
    "array",
    "idx",
    "csv",
)


def case(number: int, kinds: tuple[str, ...], seeds: dict) -> tuple[str, bytes]:
    """Kind and content of a case."""
    rng = np.random.default_rng([2026, number])
    kind = kinds[number % len(kinds)]
    _, _, bodies = seeds[kind]
    body = bodies[int(rng.integers(len(bodies)))]
    return kind, mutated(rng, body, bodies)


class _Watch:
    """Notes what the readers do beside reading."""

    def __init__(self, folder: Path, writes: bool):
        self.folder, self.writes, self.active = str(folder), writes, False
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple) -> None:
        if not self.active:
            return
        if event == "open":
            path, _, flags = arguments
            written = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            inside = self.writes and str(path).startswith(self.folder)
            if written and not inside and not _NUMBA.search(str(path)):
                self.seen.append(f"wrote {path}")
            return
        own = self.writes or event in _HARMLESS or _NUMBA.search(" ".join(map(str, arguments)))
        if event.startswith(_EVENTS) and not own:
            self.seen.append(f"{event} {arguments}")


def problem(path: Path, reader: Reader, watch: _Watch) -> str | None:
    """Name what a reader does that it must not; "" if it refuses, None if it reads."""
    watch.seen.clear()
    watch.active = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", InputRangeWarning)  # meant for the user
            reader(path)
    except InputError as error:
        message = str(error).replace(str(path), "")
        if len(message) > _LONGEST_MESSAGE or not message.isprintable():
            return f"message {message[:2000]!r}"
        return "; ".join(watch.seen)
    except BaseException:
        return traceback.format_exc()
    finally:
        watch.active = False
    return "; ".join(watch.seen) or None


def main(first: int, count: int, folder: Path, kinds: tuple[str, ...] = KINDS) -> int:
    """Run cases; print those with a problem, and return their number."""
    seeds = _seeds()
    if {"pyro", "network", "law"} & set(kinds):
        import refbnn.prediction.predict  # noqa: F401, before memory is limited
    watch = _Watch(folder, writes="records" in kinds)
    for kind in kinds:  # compiles loops, imports the rest, and shows that the whole files are read
        suffix, reader, bodies = seeds[kind]
        for body in bodies:
            path = folder / f"whole{suffix}"
            path.write_bytes(body)
            if (found := problem(path, reader, watch)) and "Traceback" in found:
                raise AssertionError(f"whole {kind}: {found}")
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + MOST_MEMORY, resource.RLIM_INFINITY))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bad, refused = 0, dict.fromkeys(kinds, 0)
    for number in range(first, first + count):
        kind, content = case(number, kinds, seeds)
        suffix, reader, _ = seeds[kind]
        path = folder / f"case{suffix}"
        path.write_bytes(content)
        found = problem(path, reader, watch)
        refused[kind] += found == ""
        if found:
            bad += 1
            print(f"case {number}, {kind}: {found}", flush=True)
    taken = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    print(json.dumps({"cases": count, "bad": bad, "bytes": taken, "refused": refused}))
    return bad


if __name__ == "__main__":
    chosen = tuple(sys.argv[4:]) or KINDS
    sys.exit(min(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), chosen), 1))
