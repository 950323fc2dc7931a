"""UTKFace: regression of a person's age from a picture.

A folder of files `age_gender_race_date.jpg` (or `….jpg.chip.jpg`, as the aligned and cropped faces
are called): age 0 to 116 years, gender 0 or 1, race 0 to 4, date and time as digits.

    x = picture in RGB, resized (bilinear), / 255;    y = age / 100 years

A file is for testing if the first byte of the SHA-256 of its name is below 26 (one in ten), so its
split depends on its name alone. Some names in the published folder lack a field; such files are
left out, and `Dataset.source` states their number.

Source: Z. Zhang, Y. Song, H. Qi, "Age Progression/Regression by Conditional Adversarial
Autoencoder" (2017); <https://susanqq.github.io/UTKFace/>, for non-commercial research only, not
fetched here.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from pathlib import Path

import numpy as np

from refbnn.data.dataset import Dataset
from refbnn.errors import InputError, cut, naming_the_extra

AGE_UNIT = 100.0  # years; y = 1
_NAME = re.compile(r"([0-9]{1,3})_[01]_[0-4]_[0-9]+\.jpg(\.chip\.jpg)?", re.IGNORECASE)
_OLDEST = 130  # years
_MOST_PIXELS = 2**24


def load_faces(folder: Path, split: str, side: int = 32) -> Dataset:
    """Load one split, "train" or "test", of a folder that holds pictures of faces.

    The examples, x of shape (N, 3, side, side) and y of shape (N, 1), are in the order of the
    files' names; `side` is that of the pictures after resizing, in pixels.

    Raises
    ------
    InputError
        The folder is absent or holds no such file for this split; a picture cannot be read.
    """
    try:
        names = sorted(path.name for path in folder.iterdir() if path.suffix.lower() == ".jpg")
    except OSError as error:
        raise InputError(
            f"{folder}: {error.strerror}; expected a folder of UTKFace pictures"
        ) from error
    ages = {name: _age(name) for name in names}
    n_bad = sum(age is None for age in ages.values())
    chosen = [
        name for name in names if ages[name] is not None and _is_test(name) == (split == "test")
    ]
    if not chosen:
        raise InputError(
            f"{folder}: no picture for the {split} split among {len(names)} files *.jpg; "
            "expected names age_gender_race_date.jpg"
        )
    x = np.empty((len(chosen), 3, side, side), np.float32)
    for i, name in enumerate(chosen):
        x[i] = _picture(folder / name, side)
    y = np.array([[ages[name]] for name in chosen], np.float32) / np.float32(AGE_UNIT)
    source = f"{folder}, without {n_bad} of {len(names)} files of other names"
    return Dataset(f"utkface:{folder}", x, y, "regression", 1, source)


def _age(name: str) -> int | None:
    """Age in years that a file's name states; None if it is no such name."""
    match = _NAME.fullmatch(name)
    age = int(match[1]) if match else _OLDEST + 1
    return age if age <= _OLDEST else None


def _is_test(name: str) -> bool:
    return hashlib.sha256(name.encode()).digest()[0] < 26


def _picture(path: Path, side: int) -> np.ndarray:
    """Read a picture as float32 of shape (3, side, side) in [0, 1]."""
    with naming_the_extra():
        from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=["JPEG"]) as image:
                if image.width * image.height > _MOST_PIXELS:
                    size = f"{image.width} by {image.height} pixels"
                    raise InputError(f"{path}: {size}; expected at most {_MOST_PIXELS} in all")
                small = image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
    except InputError:
        raise
    except (
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombWarning,
        Image.DecompressionBombError,
    ) as error:
        reason = cut(error)
        raise InputError(f"{path}: cannot be read ({reason}); expected a JPEG picture") from error
    return np.asarray(small, np.float32).transpose(2, 0, 1) / np.float32(255.0)
