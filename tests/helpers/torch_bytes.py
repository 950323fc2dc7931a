"""Files of torch.save written byte by byte: the opcodes that PyTorch writes, and any others."""

import io
import pickle
import struct
import zipfile

import numpy as np
import pytest

from refbnn.errors import InputError
from refbnn.files.torch_file import read_torch


def text(string):
    data = string.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def integer(n):
    return pickle.dumps(n, 2)[2:-1]


def integers(numbers):
    return b"(" + b"".join(integer(n) for n in numbers) + b"t"


def storage(kind="Float", key="0", n=6):
    head = text("storage") + f"ctorch\n{kind}Storage\n".encode() + text(key) + text("cpu")
    return b"(" + head + integer(n) + b"tQ"


def tensor(sizes=(2, 3), strides=(3, 1), offset=0, of=None):
    layout = integer(offset) + integers(sizes) + integers(strides)
    hooks = b"ccollections\nOrderedDict\n)R"
    record = (of or storage()) + layout + b"\x89" + hooks
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + record + b"tR"


def program(value):
    return b"\x80\x02" + value + b"."


SIX = np.arange(6, dtype="<f4").tobytes()


def zipped(value, data=SIX, *, order=b"little", compress=zipfile.ZIP_STORED, whole=True):
    """Content of a file of torch.save with one storage."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compress) as file:
        file.writestr("m/data.pkl", program(value) if whole else value)
        file.writestr("m/data/0", data)
        if order is not None:
            file.writestr("m/byteorder", order)
    return target.getvalue()


def write(path, value, data=SIX, **how):
    """Write a file of torch.save with one storage."""
    path.write_bytes(zipped(value, data, **how))
    return path


def refused(path, reader=read_torch):
    """The message of the InputError, which is one line."""
    with pytest.raises(InputError) as caught:
        reader(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    return message
