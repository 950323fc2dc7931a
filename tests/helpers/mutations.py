"""Files changed at random: by bytes, and by what their kind is made of."""

from __future__ import annotations

import gzip
import io
import json
import re
import zipfile
import zlib

import numpy as np

Random = np.random.Generator

# Put in place of numbers and other values in text.
_WORDS = [
    *("0", "-1", "1", "2", "7", "-0.0", "1e308", "-1e308", "5e-324", "1e-310", "1e999", "NaN"),
    *("Infinity", "-Infinity", "true", "null", "[]", "{}", '""', '"x"', "[[]]", "0.5", "1e16"),
    *("4294967296", "9223372036854775807", "18446744073709551616", "99999999999999999999"),
    *("9" * 400, "9" * 5000, "[" * 900 + "]" * 900, '"' + "y" * 3000 + '"', '"a\\u0000b\\ud800"'),
]
_SHAPES = ["(0, 99999999999999999999)", "(2 7, 784)", "(-1,)", "()", "(0,)", "(4294967296, 0)"]
_TYPES = [
    "<f8",
    "<f4",
    ">f8",
    "<f2",
    "|b1",
    "|u1",
    "<i8",
    "|O",
    "<U4",
    "<c16",
    "<f16",
    "|V8",
    "<M8",
]
_FLOATS = [0.0, -1.0, np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, 1e200, 1e-200, 1e30]


def mutated(rng: Random, body: bytes, others: list[bytes]) -> bytes:
    """One to three changes of a file; `others` are files to take pieces from."""
    for _ in range(int(rng.choice([1, 2, 3], p=[0.8, 0.15, 0.05]))):
        body = _one_change(rng, body, others)
    return body


def _one_change(rng: Random, body: bytes, others: list[bytes]) -> bytes:
    if body[:4] == b"PK\3\4" and rng.random() < 0.7:
        return _of_zip(rng, body, others)
    if body[:2] == b"\x1f\x8b" and rng.random() < 0.6:
        try:
            return gzip.compress(_one_change(rng, gzip.decompress(body), others), mtime=0)
        except (OSError, EOFError, zlib.error):
            return _of_bytes(rng, body, others)
    if body[:6] == b"\x93NUMPY" and rng.random() < 0.7:
        return _of_npy(rng, body)
    if body[:1] in b"{[" and body[-2:-1] in b"}]" and rng.random() < 0.7:
        return _of_json(rng, body)
    if b"," in body[:200] and body.isascii() and rng.random() < 0.7:
        return _of_text(rng, body)
    return _of_bytes(rng, body, others)


def _of_bytes(rng: Random, body: bytes, others: list[bytes]) -> bytes:
    array = bytearray(body)
    at = int(rng.integers(0, len(array) + 1))
    length = int(rng.integers(1, 64))
    match rng.integers(0, 7):
        case 0:  # flip some bytes
            for place in rng.integers(0, max(1, len(array)), int(rng.integers(1, 9))):
                if place < len(array):
                    array[place] ^= 1 << int(rng.integers(0, 8))
        case 1:
            del array[at:]
        case 2:
            del array[at : at + length]
        case 3:
            array[at:at] = rng.bytes(length)
        case 4:
            array[at : at + length] = bytes([int(rng.choice([0, 1, 0x7F, 0x80, 0xFF]))]) * length
        case 5:  # a piece of this file or another one
            other = others[int(rng.integers(len(others)))]
            start = int(rng.integers(0, max(1, len(other))))
            array[at : at + int(rng.integers(0, 64))] = other[start : start + 8 * length]
        case 6:  # a number at the start, where headers are
            place = int(rng.integers(0, 64))
            array[place : place + 4] = int(
                rng.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1])
            ).to_bytes(4, "big" if rng.random() < 0.5 else "little")
    return bytes(array)


def _of_text(rng: Random, body: bytes) -> bytes:
    """Put another word in place of a number, or two."""
    for _ in range(int(rng.integers(1, 3))):
        found = list(re.finditer(rb"-?\d[\d.eE+-]*|\"[^\"]*\"|true|null|[,\n]", body))
        if not found:
            return body
        chosen = found[int(rng.integers(len(found)))]
        word = _WORDS[int(rng.integers(len(_WORDS)))].encode()
        if rng.random() < 0.15:
            word = bytes(rng.choice([b"\0", b"\xff", b"\xef\xbb\xbf", b'"', b"\r\n\r\n", b";"]))
        body = body[: chosen.start()] + word + body[chosen.end() :]
    return b"\xef\xbb\xbf" + body if rng.random() < 0.1 else body


def _of_json(rng: Random, body: bytes) -> bytes:
    if rng.random() < 0.4:
        return _of_text(rng, body)
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return _of_text(rng, body)
    held = data
    while True:  # down to some list or object
        inner = list(held.values()) if isinstance(held, dict) else held
        inner = [value for value in inner if isinstance(value, dict | list) and value]
        if not inner or rng.random() < 0.3:
            break
        held = inner[int(rng.integers(len(inner)))]
    keys = list(held) if isinstance(held, dict) else list(range(len(held)))
    if not keys:
        return body
    key = keys[int(rng.integers(len(keys)))]
    match rng.integers(0, 7):
        case 0:
            del held[key]
        case 1:
            held[key] = [held[key]] * int(rng.choice([0, 1, 2, 300]))
        case 2:
            other = keys[int(rng.integers(len(keys)))]
            held[key], held[other] = held[other], held[key]
        case 3 | 4 | 5 if isinstance(held[key], int | float):
            factors = [-1, 0, 2, 1.001, 0.99, 3, 1e3, 1e7, 1e300, 0.5, 1e-3, 1e-300]
            held[key] = held[key] * float(rng.choice(factors))
            if rng.random() < 0.5 and abs(held[key]) < 1e18:
                held[key] = int(held[key])
        case _:
            held[str(key) + "x" if isinstance(held, dict) else key] = {"a": [1, None, "b"]}
    return json.dumps(data).encode()


def _of_npy(rng: Random, body: bytes) -> bytes:
    head, _, numbers = body.partition(b"\n")
    text = head[10:].decode("latin-1").rstrip()
    match rng.integers(0, 8):
        case 0:
            shape = _SHAPES[int(rng.integers(len(_SHAPES)))]
            text = re.sub(r"\([^)]*\)", shape, text)
        case 1:
            descr = _TYPES[int(rng.integers(len(_TYPES)))]
            text = re.sub(r"'descr': '[^']*'", f"'descr': '{descr}'", text)
        case 2:
            text = _of_text(rng, text.encode("latin-1")).decode("latin-1")
        case 3 | 4 | 5 | 6 if "<f" in text or ">f" in text:
            dtype = re.search(r"[<>]f[248]", text)
            if dtype is not None and len(numbers) >= 8:
                values = np.frombuffer(numbers[: len(numbers) // 8 * 8], dtype[0]).copy()
                with np.errstate(over="ignore"):
                    place = int(rng.integers(values.size))
                    values[place] *= rng.choice([-1.0, 1.5, 1e3, 1e10])
                    if rng.random() < 0.4:
                        values[place] = rng.choice(_FLOATS)
                numbers = values.tobytes()
        case 3 | 4 | 5 | 6 if numbers[:1] == b"{":  # the header of a checkpoint
            numbers = _of_json(rng, numbers)
            text = re.sub(r"\([^)]*\)", f"({len(numbers)},)", text)
        case _:
            return body[:10] + _of_bytes(rng, body[10:], [body])
    text = text.ljust(len(text) + -(len(text) + 11) % 64)
    length = (len(text) + 1) % 65536
    return (
        b"\x93NUMPY\1\0" + length.to_bytes(2, "little") + text.encode("latin-1") + b"\n" + numbers
    )


def _of_zip(rng: Random, body: bytes, others: list[bytes]) -> bytes:
    """Change one member; the sums are right again, so that what is inside is reached."""
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as file:
            members = [(info.filename, file.read(info)) for info in file.infolist()]
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError):
        return _of_bytes(rng, body, others)
    except RuntimeError:
        return _of_bytes(rng, body, others)
    if not members:
        return _of_bytes(rng, body, others)
    index = int(rng.integers(len(members)))
    name, content = members[index]
    method = zipfile.ZIP_STORED
    match rng.integers(0, 12):
        case 0:
            del members[index]
        case 1:
            members[index] = (name[: len(name) // 2] + str(rng.choice(["", "x", "/../x"])), content)
        case 2:
            members[index] = name, members[int(rng.integers(len(members)))][1]
        case 3:
            method = zipfile.ZIP_DEFLATED
        case 4 if rng.random() < 0.1:  # a bomb
            members[index] = name, bytes(100_000_000)
            method = zipfile.ZIP_DEFLATED
        case _:
            members[index] = name, _one_change(rng, content, others)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method, compresslevel=1) as file:
        written = set()
        for name, content in members:
            if name not in written:
                file.writestr(name, content)
            written.add(name)
    return target.getvalue()
