"""A law as a versioned JSON file; loading restores it bit for bit.

    {"format": "refbnn law", "version": 1,
     "law": {"family": "HeavyTailed", "steepness": 0.7, "asymmetry": 0.1},
     "measured": {"quantity": "conductance_uS", "location": 50.2, "scale": 3.1}, ...}

`law` holds the fields of the law's class, as numbers that Python prints in full and reads back
exactly. `measured` is optional and puts the standardised law on an instrument's scale:
value = location + scale·z. Other entries inform a reader and are not loaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refbnn.errors import InputError, quoted
from refbnn.files import json_file
from refbnn.files.atomic import write_text
from refbnn.files.plain_data import as_fields, make
from refbnn.noise.families.bimodal import Bimodal
from refbnn.noise.families.density import DensityLaw
from refbnn.noise.families.device import DeviceLaw
from refbnn.noise.families.gaussian import Gaussian
from refbnn.noise.families.heavy_tailed import HeavyTailed
from refbnn.noise.families.mixture import Mixture
from refbnn.noise.law import Law
from refbnn.numerics.arguments import real_number

FORMAT, VERSION = "refbnn law", 1
_FAMILIES = {
    law.__name__: law for law in (Gaussian, Bimodal, Mixture, DeviceLaw, HeavyTailed, DensityLaw)
}
_GREATEST = 1e100  # location and scale, which samples are shifted and multiplied by
_LEAST, _LEAST_SHARE = 1e-100, 1e-12  # least scale, and in units of the location's size
_LONGEST_WORD = 200
_LARGEST = 20_000_000  # bytes; a law has at most a few thousand panels


@dataclass(frozen=True)
class Measured:
    """Location and scale of a standardised law on an instrument's scale."""

    quantity: str = "z"  # name of the column measured, with its unit, such as "conductance_uS"
    location: float = 0.0  # value = location + scale·z, in that unit
    scale: float = 1.0  # above 0

    def __post_init__(self):
        for name in ("location", "scale"):
            value = real_number(getattr(self, name), f"measured: {name}")
            object.__setattr__(self, name, value)
        least = max(_LEAST, _LEAST_SHARE * abs(self.location))
        if not (abs(self.location) <= _GREATEST and least <= self.scale <= _GREATEST):
            raise InputError(
                f"measured: location {self.location}, scale {self.scale}; expected numbers up to "
                f"{_GREATEST:g}, the scale above 0, at least {_LEAST:g} and {_LEAST_SHARE:g} of "
                "the location"
            )
        if not (self.quantity.isprintable() and len(self.quantity) <= _LONGEST_WORD):
            raise InputError(
                f"measured: quantity {quoted(self.quantity)}; "
                f"expected up to {_LONGEST_WORD} printable characters"
            )


def as_data(law: Law, measured: Measured | None = None) -> dict[str, Any]:
    """Law, location and scale as plain data for JSON; InputError for a law of another class."""
    family = type(law).__name__
    if _FAMILIES.get(family) is not type(law):
        raise InputError(f"law {family}: cannot be saved; expected one of {', '.join(_FAMILIES)}")
    data: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "law": {"family": family} | as_fields(law),
    }
    if measured is not None:
        data["measured"] = as_fields(measured)
    return data


def from_data(data: Any, source: str) -> tuple[Law, Measured]:
    """Law, location and scale from plain data, which is checked; `source` names it in errors."""
    if not isinstance(data, Mapping) or data.get("format") != FORMAT:
        raise InputError(f'{source}: expected a law, an object with "format": "{FORMAT}"')
    if type(data.get("version")) is not int or data["version"] != VERSION:
        raise InputError(f"{source}: version {quoted(data.get('version'))}; expected {VERSION}")
    given = data.get("law")
    family = _FAMILIES.get(str(given.get("family"))) if isinstance(given, Mapping) else None
    if not isinstance(given, Mapping) or family is None:
        raise InputError(f'{source}: no "law" with a family; expected {", ".join(_FAMILIES)}')
    parameters = {name: value for name, value in given.items() if name != "family"}
    law = make(family, parameters, f"{source}: {family.__name__}")
    given = data.get("measured", {})
    if not isinstance(given, Mapping) or not isinstance(given.get("quantity", ""), str):
        raise InputError(
            f'{source}: "measured" is {quoted(given)}; expected quantity, location, scale'
        )
    return law, make(Measured, given, source)


def save_law(path: str | Path, law: Law, measured: Measured | None = None) -> None:
    """Write a law as JSON, whole or not at all.

    Raises
    ------
    InputError
        If the law is of no family of `refbnn.noise`, or the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from refbnn.noise import Bimodal, load_law, save_law
    >>> from refbnn.noise.storage import Measured
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_law(f"{folder}/law.json", Bimodal(0.8), Measured("current_nA", 5.0, 0.2))
    ...     law, measured = load_law(f"{folder}/law.json")
    >>> law == Bimodal(0.8), measured
    (True, Measured(quantity='current_nA', location=5.0, scale=0.2))
    """
    write_text(path, json.dumps(as_data(law, measured), indent=1) + "\n")


def load_law(path: str | Path) -> tuple[Law, Measured]:
    """Read a law that `save_law` or `refbnn noise fit` wrote.

    Raises
    ------
    InputError
        If the file cannot be read or is no law.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_law(f"{folder}/law.json", Gaussian())
    ...     law, measured = load_law(f"{folder}/law.json")
    >>> law, measured
    (Gaussian(), Measured(quantity='z', location=0.0, scale=1.0))
    """
    expected = "a law as JSON, as `refbnn noise fit TABLE.csv -o LAW.json` saves it"
    try:
        data = json_file.read(path, expected, _LARGEST)
    except FileNotFoundError as error:
        raise InputError(f"{path}: {error.strerror}; expected a law as JSON") from None
    return from_data(data, str(path))
