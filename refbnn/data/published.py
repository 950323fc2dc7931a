"""Files as their authors publish them: where they are here, and how they are fetched.

A file is looked for first in the folder that the environment variable REFBNN_DATA names, then in
the cache; `fetch` puts it into the cache. Both have one folder for each publication. A downloaded
file takes its name only after its SHA-256 (MD5 where the authors give no other) was compared, so an
interrupted or altered download leaves nothing behind.

Sources of the checksums: MNIST as mirrored by TensorFlow and PyTorch (the MD5 sums that torchvision
lists belong to the same files); Fashion-MNIST, README of zalandoresearch/fashion-mnist (MD5) and
tensorflow_datasets (SHA-256 of the same files); Ambiguous-MNIST, BlackHC/ddu_dirty_mnist.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from refbnn.errors import InputError, cut, naming_the_extra, quoted
from refbnn.files.cache import cache_folder

_TIMEOUT = 30.0  # s without a byte


@dataclass(frozen=True)
class Publication:
    """Files that are published together.

    Attributes
    ----------
    name : str
        Name that `refbnn data fetch` takes.
    folder : str
        Name of the folder in REFBNN_DATA and in the cache.
    url : str
        Address, to which a file's name is appended.
    checksums : dict of str to str
        File name to "algorithm:hexadecimal digest".
    """

    name: str
    folder: str
    url: str
    checksums: dict[str, str]


IDX_FILES = [
    f"{part}-{kind}-ubyte.gz"
    for part in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
]


def _idx_files(*sha256: str) -> dict[str, str]:
    digests = zip(IDX_FILES, sha256, strict=True)
    return {name: f"sha256:{digest}" for name, digest in digests}


MNIST = Publication(
    "mnist",
    "mnist",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    _idx_files(
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
)
FASHION_MNIST = Publication(
    "fashion-mnist",
    "fashion_mnist",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    _idx_files(
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
)
AMBIGUOUS_MNIST = Publication(
    "ambiguous-mnist",
    "ambiguous_mnist",
    "https://github.com/BlackHC/ddu_dirty_mnist/releases/download/data-v1.0.0/",
    {
        "amnist_samples.pt": "md5:4f7865093b1d28e34019847fab917722",
        "amnist_labels.pt": "md5:3bfc055a9f91a76d8d493e8b898c3c95",
    },
)
PUBLICATIONS = (MNIST, FASHION_MNIST, AMBIGUOUS_MNIST)


def find(publication: Publication, name: str) -> Path | None:
    """Path of a published file, as published or unpacked (without .gz); None if it is not here.

    Raises
    ------
    InputError
        REFBNN_DATA is set, but not to a folder.
    """
    return _find_in(_own_folder(), publication, name) or _find_in(cache_folder(), publication, name)


def require(publication: Publication, name: str) -> Path:
    """Path of a published file; InputError that says what to do if it is not here."""
    path = find(publication, name)
    if path is None:
        raise InputError(
            f"{publication.name}: {name} is not here; expected it from `refbnn data fetch "
            f"{publication.name}`, or in {publication.folder}/ of the folder that REFBNN_DATA names"
        )
    return path


def fetch(publication: Publication, *, progress: bool = False) -> list[Path]:
    """Download the files that are not here yet; an altered file in the cache is replaced.

    With `progress`, each file shows a bar on standard error. The paths returned lie in the cache,
    or in the folder that REFBNN_DATA names.

    Raises
    ------
    InputError
        A file cannot be reached, has another checksum, or cannot be written.
    """
    with naming_the_extra():
        import pooch
        import requests

    pooch.get_logger().setLevel("WARNING")
    folder = cache_folder() / publication.folder
    download = pooch.HTTPDownloader(progressbar=progress, timeout=_TIMEOUT)
    paths = []
    for name, checksum in publication.checksums.items():
        if (own := _find_in(_own_folder(), publication, name)) is not None:
            paths.append(own)
            continue
        url = publication.url + name
        try:
            path = pooch.retrieve(url, checksum, fname=name, path=folder, downloader=download)
        except requests.RequestException as error:
            raise InputError(
                f"{url}: cannot be downloaded ({_reason(error)}); expected a network connection"
            ) from error
        except (ValueError, OSError) as error:  # another checksum; a folder that cannot be written
            raise InputError(f"{url}: {_reason(error)}; expected {checksum} in {folder}") from error
        paths.append(Path(path))
    return paths


def _own_folder() -> Path | None:
    """The folder that REFBNN_DATA names."""
    own = os.environ.get("REFBNN_DATA")
    if own and not Path(own).is_dir():
        raise InputError(f"REFBNN_DATA is {quoted(own)}; expected an existing folder")
    return Path(own) if own else None


def _find_in(folder: Path | None, publication: Publication, name: str) -> Path | None:
    if folder is not None:
        path = folder / publication.folder / name
        for candidate in (path, path.with_name(name.removesuffix(".gz"))):
            if candidate.is_file():
                return candidate
    return None


def _reason(error: Exception) -> str:
    """The innermost cause in one short line: requests wraps it in many words."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    return cut(cause) or type(cause).__name__
