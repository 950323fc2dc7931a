"""Ambiguous digits: pictures between two digits, with labels that disagree.

    picture = grey levels of (1 - t) p + t q in the order of the barycentre of p and q,  t ~ U(¼, ¾)
    ten labels a picture, each the digit of q with probability t, of p otherwise

p is a random digit. q is the digit of another class that looks most like p (least squared distance
after a Gaussian blur) among up to 4000 random ones: a picture half-way between a thin 1 and a round
0 would look like neither. The barycentre (`refbnn.data.ambiguous.barycentre`) says
where the ink goes; its k-th darkest pixel gets the mean (1 - t) p₍ₖ₎ + t q₍ₖ₎ of the k-th darkest
pixels of both. So strokes are as thick and as black as those of the digits, and the ink is their
weighted mean exactly (before rounding to 256 levels).

There is a tenth as many pictures as digits that they are made from, so that ambiguous examples and
digits are equally many, as in Dirty-MNIST. The true probability of a label is known here: t.

This stands in for the Ambiguous-MNIST of J. Mukhoti et al., "Deep Deterministic Uncertainty"
(2021), whose pictures come from a variational autoencoder and whose labels come from a classifier:
the same use, other pictures.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from refbnn.data.ambiguous.barycentre import barycentres
from refbnn.errors import InputError
from refbnn.files.atomic import written_atomically
from refbnn.files.cache import cache_folder
from refbnn.numerics.random.streams import stream

N_LABELS = 10  # a picture
_EPSILON, _N_ITERATIONS = 4.0, 50  # chosen by eye: smooth strokes, and details as in the digits
_POOL = 4000
_BLUR = 1.5  # pixels, before pictures are compared
_BLOCK = 100  # pictures at once: they stay in the processor's cache
_VERSION = 1  # to be raised when anything above changes


@dataclass(frozen=True, eq=False)
class AmbiguousDigits:
    """Pictures between two digits.

    Attributes
    ----------
    images : (N, 28, 28) uint8
    labels : (N, 10) uint8
        Ten draws from the two classes.
    classes : (N, 2) uint8
        Classes of p and q.
    weights : (N,)
        t above.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: np.ndarray
    weights: np.ndarray


def make_ambiguous(
    images: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> AmbiguousDigits:
    """Make a tenth as many ambiguous pictures as there are digits.

    The digits are images (M, 28, 28), uint8, none empty, with labels (M,) of at least two classes.

    Raises
    ------
    InputError
        There are fewer than ten digits or a single class, or an image is empty.
    """
    n = len(images) // N_LABELS
    if n == 0 or labels.min() == labels.max():
        raise InputError(
            f"{len(images)} digits of {len(np.unique(labels))} class(es); "
            f"expected at least {N_LABELS}, of two classes or more"
        )
    if not images.any(axis=(1, 2)).all():
        raise InputError("an image is empty; expected some ink in every digit")
    first = rng.choice(len(images), n, replace=False)
    second = _most_alike(images, labels, first, rng)
    t = rng.uniform(0.25, 0.75, n)
    mixed = np.empty((n, *images.shape[1:]), np.uint8)
    for start in range(0, n, _BLOCK):
        block = slice(start, start + _BLOCK)
        mixed[block] = mixtures(images[first[block]], images[second[block]], t[block])
    is_second = rng.random((n, N_LABELS)) < t[:, None]
    drawn = np.where(is_second, labels[second][:, None], labels[first][:, None])
    return AmbiguousDigits(mixed, drawn, np.stack([labels[first], labels[second]], axis=1), t)


def mixtures(first: np.ndarray, second: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Pictures between two digits each: ink where the barycentre is, as dark as the digits.

    All pictures are (N, 28, 28), uint8, none empty; t (N,) is the weight of the second digit.
    """
    p, q = (
        digits / digits.sum(axis=(1, 2), keepdims=True, dtype=np.float64)
        for digits in (first, second)
    )
    order = barycentres(p, q, t, _EPSILON, _N_ITERATIONS).reshape(len(t), -1).argsort(axis=1)
    greys = (1.0 - t)[:, None] * np.sort(first.reshape(len(t), -1), axis=1)
    greys += t[:, None] * np.sort(second.reshape(len(t), -1), axis=1)
    pictures = np.empty(order.shape, np.uint8)
    np.put_along_axis(pictures, order, np.rint(greys).astype(np.uint8), axis=1)
    return pictures.reshape(first.shape)


def cached_ambiguous(
    images: np.ndarray, labels: np.ndarray, split: str
) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of `make_ambiguous`, made once for the same digits and then cached."""
    digits = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()[:16]
    folder = cache_folder() / "ambiguous"
    path = folder / f"ambiguous-v{_VERSION}-{split}-{digits}.npz"
    kept = _read(path, len(images) // N_LABELS)
    if kept is not None:
        return kept
    made = make_ambiguous(images, labels, stream(0, f"ambiguous digits, {split}"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with written_atomically(path) as temporary:
            np.savez(temporary, images=made.images, labels=made.labels)
    except (OSError, InputError):
        pass  # a cache that cannot be written costs time, not results
    return made.images, made.labels


def _most_alike(
    images: np.ndarray, labels: np.ndarray, first: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Index of the digit of another class that looks most like each of `first`."""
    pool = rng.choice(len(images), min(_POOL, len(images)), replace=False)
    pool = np.union1d(pool, np.unique(labels, return_index=True)[1])  # every class is in it
    a, b = (
        gaussian_filter(images[rows].astype(np.float64), (0, _BLUR, _BLUR)).reshape(len(rows), -1)
        for rows in (first, pool)
    )
    distance = (b**2).sum(axis=1) - 2.0 * a @ b.T  # |a - b|² but for |a|²
    distance[labels[first][:, None] == labels[pool]] = np.inf
    return pool[distance.argmin(axis=1)]


def _read(path: Path, n: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Read what is in the cache; None if it is not there or not whole."""
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            images, labels = file["images"], file["labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    whole = images.shape == (n, 28, 28) and labels.shape == (n, N_LABELS)
    return (images, labels) if whole and images.dtype == labels.dtype == np.uint8 else None
