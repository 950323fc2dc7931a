"""The same 400 conductances as instruments and spreadsheets write them."""

import gzip

import numpy as np
import pytest

from refbnn.errors import InputError
from refbnn.noise import Layout, read_measurements
from refbnn.noise.measurements import read
from refbnn.noise.pooling import DIFFERS, Condition
from refbnn.noise.reading import parsed

G = np.round(np.random.default_rng(0).normal(50.0, 2.0, 400), 4)
TEXTS = [f"{g:.4f}" for g in G]
GAPS = {7: "", 99: "NaN", 200: "n/a"}


def numbered(header, values=TEXTS, sign=","):
    return "\n".join([header, *(f"{i}{sign}{text}" for i, text in enumerate(values))]) + "\n"


def column(header, values=TEXTS):
    return "\n".join([*header, *values]) + "\n"


WITH_GAPS = [GAPS.get(i, text) for i, text in enumerate(TEXTS)]
COMMAS = [text.replace(".", ",") for text in TEXTS]
STATES = "state,G\n" + "".join(f"{'LRS' if i % 2 else 'HRS'},{t}\n" for i, t in enumerate(TEXTS))

# Content, options, name with unit.
TABLES = {
    "plain": (column(["conductance_uS"]), {}, "conductance_uS"),
    "semicolons": (numbered("cycle;G_uS", sign=";"), {"column": "G_uS"}, "G_uS"),
    "tabs": (numbered("cycle\tG_uS", sign="\t"), {"column": "G_uS"}, "G_uS"),
    "bars": (numbered("cycle|G_uS", sign="|"), {"column": "G_uS"}, "G_uS"),
    "spaces": (numbered("cycle G_uS", sign="   "), {"column": "G_uS"}, "G_uS"),
    "a space after the comma": (numbered("cycle, G_uS", sign=", "), {"column": "G_uS"}, "G_uS"),
    "comments": ("# device A7\n# x, y\n" + numbered("cycle,G_uS"), {"column": "G_uS"}, "G_uS"),
    "lines before": (
        "Instrument 7\nread at 0.1 V\n\n" + numbered("cycle,G_uS"),
        {"column": "G_uS", "layout": Layout(skip_rows=2)},
        "G_uS",
    ),
    "quotes and carriage returns": (
        '"cycle","G (uS)"\r\n' + "".join(f'"{i}","{t}"\r\n' for i, t in enumerate(TEXTS)),
        {"column": "G (uS)"},
        "G (uS)",
    ),
    "a last delimiter": (
        numbered("cycle,G_uS,", [t + "," for t in TEXTS]),
        {"column": "G_uS"},
        "G_uS",
    ),
    "blank rows of a spreadsheet": (numbered("cycle,G") + ",\n,\n", {"column": "G"}, "G"),
    "blank lines at the end of one column": (column(["G"]) + "\n\r\n", {}, "G"),
    "UTF-16": (numbered("cycle,G (µS)").encode("utf-16"), {"column": "G (µS)"}, "G (µS)"),
    "Latin-1": (numbered("cycle,G (µS)").encode("latin-1"), {"column": "G (µS)"}, "G (µS)"),
    "the other µ of Unicode": (numbered("cycle,G (µS)"), {"column": "G (μS)"}, "G (µS)"),
    "decimal commas": (
        numbered("cycle;G", COMMAS, sign=";"),
        {"column": "G", "layout": Layout(decimal=",")},
        "G",
    ),
    "one column with decimal commas": (
        column(["G (uS)"], COMMAS),
        {"layout": Layout(decimal=",")},
        "G (uS)",
    ),
    "no names": (column([]), {"layout": Layout(header=False)}, "column 1"),
    "no names, two columns": (
        numbered("-1,49.0").partition("\n")[2],
        {"column": "2", "layout": Layout(header=False)},
        "column 2",
    ),
    "names that are numbers": (
        numbered("0,1"),
        {"column": "1", "layout": Layout(header=True)},
        "1",
    ),
    "a row of units": (numbered("time,G\nsecond,uS"), {"column": "G"}, "G (uS)"),
    "a row of units, names with a number": (
        numbered("x-axis,1\nsecond,Siemens"),
        {"column": "1"},
        "1 (Siemens)",
    ),
    "units after values": (numbered("i,G", [t + " µS" for t in TEXTS]), {"column": "G"}, "G (µS)"),
    "text beside": (
        "device,G\n" + "".join(f"A{i % 7},{t}\n" for i, t in enumerate(TEXTS)),
        {"column": "G"},
        "G",
    ),
    "many columns": (
        ",".join(f"read{i}" for i in range(1, 41))
        + "\n"
        + "".join(",".join(TEXTS[i : i + 40]) + "\n" for i in range(0, 400, 40)),
        {"column": "read*"},
        "read*",
    ),
}


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("packed", [False, True], ids=["text", "gzip"])
@pytest.mark.parametrize(("content", "options", "name"), TABLES.values(), ids=TABLES.keys())
def test_a_table_gives_its_values_in_its_unit(content, options, name, packed, tmp_path):
    content = content if isinstance(content, bytes) else content.encode()
    path = written(tmp_path / "g.csv", gzip.compress(content, 1) if packed else content)
    values, found = read_measurements(path, **options)
    np.testing.assert_array_equal(values, G)
    assert found == name


# Content, options, and the option that the message asks for.
ASKED = {
    "which column": (numbered("cycle,G"), {}, r"'cycle', 'G'; .*\(--column\)$"),
    "which of many": (TABLES["many columns"][0], {}, r"--column 'read\*'"),
    "a misspelt column": (numbered("cycle,G_uS"), {"column": "G_us"}, "did you mean 'G_uS'"),
    "no names": (column([]), {}, "--no-header .* or --header"),
    "decimal commas": (numbered("i;G", COMMAS, ";"), {"column": "G"}, "give --decimal ,$"),
    "one column of them": (column(["G"], COMMAS), {}, "line 2 has 2 fields.*give --decimal ,$"),
    "decimal commas or thousands": (
        column(["G"], ["5,346", *COMMAS]),
        {},
        r"give --decimal , \(which reads 5\.346, not 5346\)$",
    ),
    "decimal commas or thousands behind a semicolon": (
        numbered("i;G", ["5,346", *COMMAS], ";"),
        {"column": "G"},
        r"give --decimal ,, which reads 5\.346; if it groups thousands, write 5346$",
    ),
    "decimal commas between commas": (
        numbered("n,G", COMMAS),
        {"column": "G"},
        "line 2 has 3 fields; expected 2; .*read in several ways: write it with another delimiter",
    ),
    "decimal commas between commas, beside text": (
        "device,G\n" + "".join(f"A{i % 7},{t}\n" for i, t in enumerate(COMMAS)),
        {"column": "G"},
        "line 2 has 3 fields; expected 2; .*read in several ways: write it with another delimiter",
    ),
    "a blank cell of one column": (
        column(["G"], ["1.5", "", *TEXTS]),
        {},
        r"1 missing of 402 values \(line 3: ''\).*--drop-missing",
    ),
    "decimal points": (
        column(["G"]),
        {"layout": Layout(decimal=",")},
        r"line 2, .*'50\.2515'.* give --decimal \.$",
    ),
    "lines before": (
        "Instrument\nat 0.1 V\n" + numbered("cycle,G"),
        {},
        "table starts at line 3, give --skip-rows 2$",
    ),
    "two delimiters": (
        "".join(f"{i};{text}\n" for i, text in enumerate(COMMAS)),
        {},
        r"',' and ';' .*--delimiter.*--decimal ,",
    ),
    "gaps": (
        numbered("cycle,G", WITH_GAPS),
        {"column": "G"},
        r"3 missing of 400 values \(line 9: '', line 101: 'NaN', line 202: 'n/a'\).*--drop-missing",
    ),
    "no such rows": (STATES, {"column": "G", "where": {"state": "LSR"}}, "did you mean 'LRS'"),
    "digit groups": (column(["G"], [*TEXTS, "1_000"]), {}, "line 402, .*'1_000'"),
    "thousands": (
        column(["G"], ["1.234,5", *COMMAS]),
        {"layout": Layout(decimal=",")},
        "line 2, .*'1.234,5'; expected a finite number$",
    ),
    "two units": (numbered("i,G", ["1 mS", *(t + " uS" for t in TEXTS)]), {"column": "G"}, "'mS'"),
    "a unit besides that of the row": (
        numbered("i,G\n,mS", [t + " uS" for t in TEXTS]),
        {"column": "G"},
        "the unit 'mS'; expected one unit",
    ),
    "a workbook": (b"PK\x03\x04" + bytes(60), {}, "save the sheet as CSV"),
    "UTF-16 without its mark": (column(["G"]).encode("utf-16-le"), {}, "NUL characters"),
    "no pattern": (numbered("cycle,G"), {"column": "x*"}, "no column matches 'x\\*'"),
}


@pytest.mark.parametrize(("content", "options", "words"), ASKED.values(), ids=ASKED.keys())
def test_a_table_that_can_be_read_in_two_ways_asks(content, options, words, tmp_path):
    path = written(tmp_path / "g.csv", content)
    with pytest.raises(InputError, match=words) as caught:
        read_measurements(path, **options)
    assert "\n" not in str(caught.value)


def test_gaps_are_left_out_where_that_is_wanted(tmp_path):
    path = written(tmp_path / "g.csv", numbered("cycle,G", WITH_GAPS))
    values, _ = read_measurements(path, "G", drop_missing=True)
    np.testing.assert_array_equal(values, np.delete(G, list(GAPS)))


@pytest.mark.parametrize("sentinel", ["9.9E37", "-9.91E+37", "9.99999E37", "OVLD", "inf", "O.L"])
def test_overflow_readings_are_no_values(sentinel, tmp_path):
    path = written(tmp_path / "r.csv", numbered("cycle,R", [*TEXTS, sentinel]))
    with pytest.raises(InputError, match=r"1 beyond the instrument's range of 401.*line 402"):
        read_measurements(path, "R")
    layout = Layout()
    found = read(path, "R", None, drop_missing=True, pool=False, layout=layout)
    np.testing.assert_array_equal(found.values, G)
    assert "left out; the law says nothing of values beyond" in found.notes[0]


@pytest.mark.parametrize(
    ("text", "decimal", "expected"),
    [
        ("+5.0251E-05", ".", (5.0251e-05, "")),
        ("5,0", ",", (5.0, "")),
        ("5.0", ",", None),
        ("5,0", ".", None),
        ("50.2kΩ", ".", (50.2, "kΩ")),
        ("3 µS/cm", ".", (3.0, "µS/cm")),
        ("٣", ".", None),
        ("0x1F", ".", None),
        ("2024-03-01", ".", None),
        ("LRS", ".", None),
    ],
)
def test_one_reading(text, decimal, expected):
    assert parsed(text, decimal) == expected


def test_rows_are_chosen_by_text_and_number(tmp_path):
    path = written(tmp_path / "g.csv", STATES)
    values, _ = read_measurements(path, "G", {"state": "LRS"})
    np.testing.assert_array_equal(values, G[1::2])


def conditions(tmp_path, shift=0.0, spread=1.0):
    groups = np.arange(400) % 2
    values = np.where(groups == 1, 50.0 + spread * (G - 50.0) + shift, G)
    rows = "".join(f"{300 + 50 * k},{v:.5f}\n" for k, v in zip(groups, values, strict=True))
    return written(tmp_path / "g.csv", "temperature_K,G\n" + rows), values


def test_values_that_depend_on_a_condition_are_not_pooled_unasked(tmp_path):
    for change in ({"shift": 1.0}, {"spread": 1.7}):
        path, values = conditions(tmp_path, **change)
        with pytest.raises(InputError, match=r"differ with 'temperature_K' \(300, 350; p = .*"):
            read_measurements(path, "G")
        with pytest.raises(InputError, match=r"--where 'temperature_K=300'.*--pool"):
            read_measurements(path, "G")
        np.testing.assert_allclose(read_measurements(path, "G", pool=True)[0], values, atol=1e-5)
        where = {"temperature_K": 300}
        np.testing.assert_allclose(read_measurements(path, "G", where)[0], values[::2], atol=1e-5)


def test_values_that_do_not_differ_are_pooled_with_a_note(tmp_path):
    path, _ = conditions(tmp_path)
    found = read(path, "G", None, drop_missing=False, pool=False, layout=Layout())
    assert len(found.notes) == 1
    assert "all 'temperature_K' are fitted together (300, 350; no difference" in found.notes[0]


def test_columns_read_as_one_must_agree(tmp_path):
    rows = "".join(f"{g:.4f},{g + 3.0:.4f}\n" for g in G)
    path = written(tmp_path / "g.csv", "read1,read2\n" + rows)
    with pytest.raises(InputError, match=r"differ with 'column' .*--column 'read1'"):
        read_measurements(path, "read*")
    assert read_measurements(path, "read*", pool=True)[0].size == 800


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"decimal": ";"}, "decimal sign ';'"),
        ({"delimiter": ",", "decimal": ","}, "is delimiter and decimal sign"),
        ({"delimiter": "ab"}, "expected one character"),
        ({"delimiter": "1"}, "expected one character"),
    ],
)
def test_layouts_that_make_no_table_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        Layout(**settings)


def test_the_test_of_conditions_keeps_its_level():
    """Values of one skewed law in groups of unequal size differ in 5 % of samples at most."""
    rng = np.random.default_rng(7)
    groups = np.minimum(rng.exponential(2.0, 200).astype(int), 5)
    found = []
    for _ in range(300):
        condition = Condition("range")
        for group in groups:
            condition.add(str(group))
        found.append(condition.compared(rng.standard_gamma(1.0, 200))[0])
    # Three standard errors of a share of 5 % of 300.
    assert np.mean(np.array(found) < 0.05) < 0.05 + 3.0 * np.sqrt(0.05 * 0.95 / 300)


def groups_of(tmp_path, few, shift):
    """A table of 400 − few values of range A and some of B, and of C, shifted."""
    names = ["A"] * (400 - few) + [("B", "C")[i % 2] for i in range(few)]
    values = np.where(np.array(names) == "A", G, G + shift)
    rows = "".join(
        f"{name},{v:.5f}\n" for name, v in reversed(list(zip(names, values, strict=True)))
    )
    return written(tmp_path / "g.csv", "range,G\n" + rows)


@pytest.mark.parametrize("few", [2, 4, 5, 9, 18])
def test_a_few_values_of_another_law_are_not_pooled_unasked(few, tmp_path):
    """Shifted by six standard deviations, in groups of less than ten."""
    path = groups_of(tmp_path, few, 12.0)
    with pytest.raises(InputError, match=r"differ with 'range' \(.*; p .*'range=A'.*--pool"):
        read_measurements(path, "G")
    assert read_measurements(path, "G", pool=True)[0].size == 400


def test_what_was_not_compared_is_said(tmp_path):
    for few, said in (
        (3, "fitted together (B, C, A; not compared, too few values: 'B' has 2, 'C' has 1)"),
        (8, "fitted together (C, B, A; no difference found, p = "),
    ):
        path = groups_of(tmp_path, few, 0.0)
        found = read(path, "G", None, drop_missing=False, pool=False, layout=Layout())
        assert said in found.notes[0]


def test_a_few_values_of_one_law_seldom_differ():
    """At the level that refuses; 400 samples, so that two false alarms are not chance."""
    rng = np.random.default_rng(8)
    for few in (1, 2, 4, 5, 9):
        condition = Condition("range")
        for i in range(60):
            condition.add(str(int(i < few)))
        found = [condition.compared(rng.standard_gamma(1.0, 60))[0] for _ in range(400)]
        assert sum(p is not None and p < DIFFERS for p in found) <= 2


def test_a_drift_along_the_rows_is_named(tmp_path):
    path = tmp_path / "ramp.csv"
    time = np.arange(400)
    path.write_text("time_s,G_uS\n" + "".join(f"{t},{50 + 0.1 * t}\n" for t in time))
    (note,) = read(path, "G_uS", None, drop_missing=False, pool=False, layout=Layout()).notes
    assert "values change along the rows (rank correlation 1.00, p < 1e-16)" in note
    shuffled = np.random.default_rng(0).permutation(time)
    path.write_text("time_s,G_uS\n" + "".join(f"{t},{50 + 0.1 * t}\n" for t in shuffled))
    assert not read(path, "G_uS", None, drop_missing=False, pool=False, layout=Layout()).notes
