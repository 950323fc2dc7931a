import json

import numpy as np
import pytest

from refbnn.errors import InputError
from refbnn.noise import (
    Bimodal,
    DensityLaw,
    DeviceLaw,
    Gaussian,
    HeavyTailed,
    Mixture,
    load_law,
    save_law,
)
from refbnn.noise.storage import Measured, as_data

LAWS = [
    Gaussian(),
    Bimodal(0.1 + 0.2, 1.0 / 3.0, np.pi),
    Mixture((0.3, 0.5, 0.2), (-3.0, 0.1, 4.0), (0.8, 1.0, 1.2)),
    DeviceLaw(-0.5, 2.0 / 3.0, (0.1, -1e-17, 2.5)),
    HeavyTailed(0.7, -0.1),
    DensityLaw.of(lambda x: np.exp(-np.abs(x)) / np.sqrt(x + 1), -1, 2, exponents=(-0.5, 0.0)),
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_a_law_comes_back_bit_identical(law, tmp_path):
    path = tmp_path / "law.json"
    place = Measured("conductance_uS", 1.0 / 3.0, 0.1)
    save_law(path, law, place)
    loaded, where = load_law(path)
    assert loaded == law
    assert where == place
    u = np.linspace(0.0, 1.0, 1001)
    np.testing.assert_array_equal(loaded.icdf(u), law.icdf(u))
    np.testing.assert_array_equal(loaded.quadrature(32).nodes, law.quadrature(32).nodes)
    assert loaded.entropy == law.entropy
    save_law(tmp_path / "again.json", loaded, where)
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


def test_the_place_is_optional(tmp_path):
    save_law(tmp_path / "law.json", Gaussian())
    assert load_law(tmp_path / "law.json") == (Gaussian(), Measured())


def changed(**changes):
    data = as_data(HeavyTailed(0.5, 0.1), Measured("g", 1.0, 2.0))
    return json.dumps(data | changes)


def _nested(levels):
    """Lists in lists."""
    value: list = []
    for _ in range(levels):
        value = [value]
    return value


def density(**changes):
    data = as_data(LAWS[-1])["law"]
    one = {"breaks": [[0, 1.5], [0, 1.5]], "series": [[[1.0] * 24], [[1.0] * 24]]}
    return changed(law=data | {"alpha": 0.0} | one | changes)


BAD = {
    "not JSON": ("{", "expected a law as JSON"),
    "not text": ("\x00\x01", "expected a law as JSON"),
    "a list": ("[]", "expected a law, an object"),
    "deep": ("[" * 100_000, "expected a law"),
    "another format": ('{"format": "x"}', "expected a law, an object"),
    "a later version": (changed(version=2), "version 2; expected 1"),
    "no law": (changed(law=3), 'no "law"'),
    "unknown family": (changed(law={"family": "Cauchy"}), 'no "law"'),
    "unknown parameter": (changed(law={"family": "Bimodal", "peaks": 2}), "unknown 'peaks'"),
    "text": (changed(law={"family": "Bimodal", "weight": "0.5"}), "weight is '0.5'"),
    "true": (changed(law={"family": "Bimodal", "weight": True}), "weight is True"),
    "out of range": (changed(law={"family": "HeavyTailed", "steepness": 2}), "steepness is 2"),
    "not a number": (changed(law={"family": "HeavyTailed", "steepness": np.nan}), "holds NaN"),
    "a list for a number": (
        changed(law={"family": "HeavyTailed", "steepness": [0.5]}),
        "HeavyTailed",
    ),
    "missing": (changed(law={"family": "DeviceLaw", "alpha": 0.0}), "beta"),
    "no series": (changed(law={"family": "DensityLaw", "ends": [0, 1]}), "DensityLaw"),
    "wrong series": (
        changed(
            law={
                "family": "DensityLaw",
                "ends": [0, 1],
                "alpha": 0,
                "beta": 0,
                "breaks": [[0, 0.5], [0, 0.5]],
                "series": [[[1.0]], [[1.0]]],
            }
        ),
        "DensityLaw",
    ),
    "a huge integer": (
        changed(law={"family": "Bimodal", "ratio": 10**400}),
        "expected numbers",
    ),
    "version true": (changed(version=True), "version True"),
    "a huge place": (changed(measured={"location": 1e308}), "location 1e\\+308"),
    "a name of two lines": (changed(measured={"quantity": "a\nb"}), "printable"),
    "no scale": (changed(measured={"quantity": "g", "scale": 0.0}), "scale above 0"),
    "a scale that vanishes": (
        changed(measured={"scale": 5e-324}),
        "scale above 0, at least 1e-100",
    ),
    "a scale below rounding": (
        changed(measured={"location": 1.0, "scale": 1e-17}),
        "1e-12 of the location",
    ),
    "levels": (changed(law={"family": "Bimodal", "weight": _nested(900)}), "nest"),
    "levels beside": (changed(note=_nested(900)), "nests deeper than 100 levels"),
    "twice": ('{"format": "refbnn law", "format": "refbnn law"}', "holds 'format' twice"),
    "a table": ("G\n1.0\n2.0\n", "noise fit TABLE.csv -o LAW.json"),
    "digits": ('{"format": ' + "1" * 5000 + "}", "expected a law"),
    "an infinite number": (
        changed(law={"family": "DeviceLaw", "alpha": 0, "beta": 1e999}),
        "'?Infinity'?|overflows",
    ),
    "a huge interval": (density(ends=[-1e308, 1e308]), "interval -1e\\+308"),
    "a huge series": (density(series=[[[1e308] * 24], [[1e308] * 24]]), "series do not fit"),
    "two scales": (changed().replace('"scale"', '"scale": 1.0, "scale"'), "holds 'scale' twice"),
    "overflowing": (changed().replace("2.0", "1e999"), "'1e999' overflows"),
    "an integer of 5000 digits": (changed().replace("2.0", "9" * 5000), "not JSON"),
    "many coefficients": (
        changed(law={"family": "DeviceLaw", "alpha": 0, "beta": 0, "coefficients": [1e-6] * 1001}),
        "1001 coefficients; expected at most 1000",
    ),
    "many panels": (
        changed(
            law={
                "family": "DensityLaw",
                "ends": [0, 1],
                "alpha": 0,
                "beta": 0,
                "breaks": [[0, 1], [0, 1]],
                "series": [[[1.0]] * 5001, [[1.0]]],
            }
        ),
        "expected at most 5000 panels",
    ),
    "no quantity": (changed(measured={"quantity": 3}), "expected quantity"),
}


@pytest.mark.parametrize(("text", "words"), BAD.values(), ids=BAD.keys())
def test_files_that_are_no_law_are_refused(text, words, tmp_path):
    path = tmp_path / "law.json"
    path.write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        load_law(path)
    assert "\n" not in str(caught.value)


def test_missing_files_and_foreign_laws_are_refused(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        load_law(tmp_path / "none.json")

    class Own:
        pass

    with pytest.raises(InputError, match="cannot be saved"):
        save_law(tmp_path / "law.json", Own())  # type: ignore[arg-type]
    assert not (tmp_path / "law.json").exists()
