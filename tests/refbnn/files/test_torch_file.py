import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

from refbnn.files import archive, plain_pickle
from refbnn.files.torch_file import read_torch
from refbnn.network.interchange import READERS
from tests.helpers.torch_bytes import SIX, program, refused, storage, tensor, text, write


def test_sizes_strides_and_offsets_against_loops(tmp_path):
    rng = np.random.default_rng(0)
    for trial in range(50):
        sizes = tuple(int(n) for n in rng.integers(1, 4, rng.integers(0, 4)))
        strides = tuple(int(n) for n in rng.integers(0, 4, len(sizes)))
        offset = int(rng.integers(0, 4))
        data = rng.standard_normal(40).astype("<f8")
        value = tensor(sizes, strides, offset, storage("Double", n=40))
        got = read_torch(write(tmp_path / f"{trial}.pt", value, data.tobytes()))
        assert got.shape == sizes
        assert got.flags.owndata
        for index in np.ndindex(sizes):
            place = offset + sum(i * s for i, s in zip(index, strides, strict=True))
            assert got[index] == data[place]


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("Double", "f8"), ("Float", "f4"), ("Half", "f2"), ("Long", "i8"), ("Int", "i4"),
     ("Short", "i2"), ("Char", "i1"), ("Byte", "u1"), ("Bool", "u1")],
)  # fmt: skip
def test_types_and_byte_orders(tmp_path, kind, dtype, order):
    values = np.array([0, 1, 2, 3, 100, 5])
    data = values.astype(("<" if order == "little" else ">") + dtype).tobytes()
    value = tensor(of=storage(kind))
    got = read_torch(write(tmp_path / "a.pt", value, data, order=order.encode()))
    assert got.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(got, values.reshape(2, 3))


def test_bfloat16_becomes_float32(tmp_path):
    # 1 sign, 8 exponent and 7 fraction bits: 3F80 is 1, C040 is −3, 3EAB is (1 + 43/128)/4.
    data = struct.pack("<6H", 0x3F80, 0xC040, 0x3EAB, 0, 0x8000, 0x7F80)
    got = read_torch(write(tmp_path / "a.pt", tensor(of=storage("BFloat16")), data))
    assert got.dtype == np.float32
    want = [[1.0, -3.0, (1 + 43 / 128) / 4], [0.0, -0.0, np.inf]]
    np.testing.assert_array_equal(got, want)


def test_empty_tensors_and_files_without_byte_order(tmp_path):
    got = read_torch(write(tmp_path / "a.pt", tensor((0, 4), (4, 1)), order=None))
    assert got.shape == (0, 4)
    assert read_torch(write(tmp_path / "b.pt", tensor(), order=None))[1, 2] == 5.0


def test_shared_storages_give_separate_arrays(tmp_path):
    both = b"]" + tensor() + b"a" + tensor((3, 2), (1, 3)) + b"a"
    a, b = read_torch(write(tmp_path / "a.pt", both))
    np.testing.assert_array_equal(a.T, b)
    a[0, 0] = 9.0
    assert b[0, 0] == 0.0


class Runs:
    """Python's own pickle of it runs a command when loaded."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


SHELL = b"cos\nsystem\n"
ECHO = text("touch harm")
HOSTILE = {
    "os.system": (SHELL + b"(" + ECHO + b"tR", "names 'os.system'"),
    "posix": (pickle.dumps(Runs(os.system, "touch harm"), 2)[2:-1], "'posix.system'"),
    "eval": (pickle.dumps(Runs(eval, "open('harm', 'w')"), 2)[2:-1], "'__builtin__.eval'"),
    "builtins": (b"cbuiltins\nexec\n(" + ECHO + b"tR", "'builtins.exec'"),
    "getattr": (b"cbuiltins\ngetattr\n", "'builtins.getattr'"),
    "NumPy": (pickle.dumps(np.arange(3), 2)[2:-1], "reconstruct'"),
    "torch.load": (b"ctorch\nload\n(" + ECHO + b"tR", "'torch.load'"),
    "whole module": (b"c__main__\nNet\n)\x81}b", "names '__main__.Net'"),
    "complex": (tensor(of=storage("ComplexFloat")), "'torch.ComplexFloatStorage'"),
    "other rebuild": (b"ctorch._utils\n_rebuild_sparse_tensor\n", "'torch._utils._rebuild_sparse"),
    "INST": (b"(" + ECHO + b"ios\nsystem\n", "opcode INST"),
    "OBJ": (b"(" + SHELL + ECHO + b"o", "names 'os.system'"),
    "OBJ of a storage": (b"(ctorch\nFloatStorage\no", "opcode OBJ"),
    "NEWOBJ": (b"csubprocess\nPopen\n(" + ECHO + b"t\x81", "'subprocess.Popen'"),
    "NEWOBJ of a storage": (b"ctorch\nFloatStorage\n)\x81", "object of Name"),
    "NEWOBJ_EX": (b"ccollections\nOrderedDict\n)}\x92", "opcode NEWOBJ_EX"),
    "names on the stack": (b"\x8c\x02os\x8c\x06system\x93(" + ECHO + b"tR", "SHORT_BINUNICODE"),
    "STACK_GLOBAL": (text("os") + text("system") + b"\x93", "opcode STACK_GLOBAL"),
    "dotted": (b"ctorch.distributions.constraints\nsys.modules\n)R", "call of"),
    "EXT1": (b"\x82\x01", "opcode EXT1"),
    "EXT4": (b"\x84\x01\x00\x00\x00", "opcode EXT4"),
    "PERSID": (b"Pstorage\n", "opcode PERSID"),
    "protocol": (b"\x80\x04N", "protocol 4"),
    "buffers": (b"\x97", "opcode NEXT_BUFFER"),
    "call of a number": (b"K\x01)R", "call of int"),
    "call of a storage type": (b"ctorch\nFloatStorage\n)R", "call of 'torch.FloatStorage'"),
    "dict of something": (b"ccollections\nOrderedDict\n(K\x01tR", "OrderedDict' with tuple"),
    "tensor of nothing": (b"ctorch._utils\n_rebuild_tensor_v2\n)R", "record of a tensor"),
    "tensor of no tuple": (b"ctorch._utils\n_rebuild_tensor_v2\nK\x01R", "with int"),
    "tensor of text": (tensor(of=text("storage")), "record of a tensor"),
    "parameter of text": (
        b"ctorch._utils\n_rebuild_parameter\n(" + ECHO + b"\x88}tR",
        "_rebuild_parameter' with tuple",
    ),
    "BUILD on a name": (b"ccollections\nOrderedDict\n}b", "fields for Name"),
    "BUILD on a tensor": (tensor() + b"}b", "fields for ndarray"),
    "BUILD of slots": (b"}N}\x86b", "fields are tuple"),
    "constraint with arguments": (
        b"ctorch.distributions.constraints\n_Real\n(K\x01t\x81",
        "without arguments",
    ),
    "key of a tuple": (b"})K\x01s", "key is tuple"),
    "key of an array": (b"}" + tensor() + b"K\x01s", "key is ndarray"),
    "key twice": (b"}(" + text("a") + b"N" + text("a") + b"Nu", "key 'a' is there twice"),
    "items on a list": (b"](" + text("a") + b"K\x01u", "found list; expected a dict"),
    "append to a dict": (b"}K\x01a", "found dict; expected a list"),
    "odd items": (b"}(" + text("a") + b"u", "broken pickle"),
    "underflow": (b"R", "broken pickle"),
    "no mark": (b"K\x01t", "broken pickle"),
    "mark as a value": (b"((\x85", "a mark where"),
    "mark kept": (b"(q\x00", "found a mark"),
    "no memo": (b"h\x07", "broken pickle"),
    "two values": (b"K\x01K\x02", "broken pickle"),
    "nothing": (b"", "broken pickle"),
    "unknown opcode": (b"\xfe", "broken pickle"),
    "text past the end": (b"X\xff\xff\xff\x7fabc", "broken pickle"),
    "storage unknown": (storage(key="7") + b"0", "storage '7' is absent"),
    "storage outside": (storage(key="../../etc/passwd"), "is absent"),
    "storage of no text": (b"(K\x01tQ", "record of a storage"),
    "storage size": (storage(n=7), "holds 6 elements; expected 7"),
    "storage negative": (storage(n=-6), "record of a storage"),
    "storage huge": (storage(n=2**63), "record of a storage"),
    "storage of doubles": (storage("Double", n=6), "holds 3 elements; expected 6"),
    "beyond the end": (tensor((2, 4), (3, 1)), "reaches element 6"),
    "offset beyond": (tensor(offset=1), "reaches element 6"),
    "stride beyond": (tensor(strides=(4, 1)), "reaches element 6"),
    "negative offset": (tensor(offset=-1), "out of range"),
    "negative size": (tensor((-2, 3)), "out of range"),
    "negative stride": (tensor(strides=(-3, 1)), "out of range"),
    "wrapping stride": (tensor(strides=(2**62, 1)), "out of range"),
    "size of text": (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage() + b"K\x00(" + ECHO + b"t(K\x01t\x89}tR",
        "out of range",
    ),
    "size of bool": (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage() + b"K\x00\x88\x85K\x01\x85\x89}tR",
        "out of range",
    ),
    "fewer strides": (tensor((2, 3), (3,)), "2 sizes and 1 strides"),
    "33 dimensions": (tensor((1,) * 33, (1,) * 33), "33 sizes"),
    "expanded": (tensor((2**15, 2**15), (0, 0)), "bytes together"),
    "expanded to nothing": (tensor((0, 2**31), (0, 0)), "bytes together"),
}


@pytest.mark.parametrize(("value", "said"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_pickle_is_refused_and_runs_nothing(tmp_path, monkeypatch, value, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pickle, "loads", None)
    message = refused(write(tmp_path / "bad.pt", value, SIX))
    assert message.startswith(str(tmp_path / "bad.pt"))
    assert said in message
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pt"]


def test_tensors_of_one_storage_may_be_few_and_not_many(tmp_path):
    data = np.zeros(60_000, "<f4").tobytes()
    one = tensor((60_000,), (1,), of=storage(n=60_000)) + b"a"
    assert len(read_torch(write(tmp_path / "a.pt", b"]" + one * 8, data))) == 8
    assert "bytes together" in refused(write(tmp_path / "b.pt", b"]" + one * 10, data))


def test_depth_cycles_and_laughter_do_no_harm(tmp_path):
    deep = write(tmp_path / "deep.pt", b"]" * 100_000 + b"a" * 99_999)
    assert len(read_torch(deep)) == 1
    deep = write(tmp_path / "tuples.pt", b")" + b"\x85" * 100_000)
    assert len(read_torch(deep)) == 1
    own = read_torch(write(tmp_path / "own.pt", b"]q\x00h\x00a"))
    assert own[0] is own
    laughs = b"]q\x00" + b"".join(
        b"](" + b"h" + bytes([i]) + (b"h" + bytes([i])) * 9 + b"eq" + bytes([i + 1])
        for i in range(60)
    )
    laughs = write(tmp_path / "laughs.pt", b"(" + laughs + b"t")
    assert len(read_torch(laughs)[-1]) == 10
    for reader in READERS.values():
        for path in (deep, laughs):
            refused(path, reader)


def test_a_program_too_long(tmp_path):
    path = write(tmp_path / "long.pt", b"N0" * plain_pickle.LARGEST)
    assert "expected at most" in refused(path)


def test_what_is_no_file_of_torch_save(tmp_path):
    assert "not a file" in refused(tmp_path / "none.pt")
    assert "not a file" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "not a file" in refused(tmp_path / "pipe")
    older = tmp_path / "older.pt"
    older.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2))  # how the older format begins
    assert "older torch.save" in refused(older)
    older.write_bytes(pickle.dumps({"a": 1}))
    assert "a bare pickle" in refused(older)
    (tmp_path / "empty.pt").write_bytes(b"")
    assert "cannot be read" in refused(tmp_path / "empty.pt")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("readme", "")
    assert "holds 0 data.pkl" in refused(tmp_path / "other.zip")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as file:
        file.writestr("a/data.pkl", program(b"N"))
        file.writestr("b/data.pkl", program(b"N"))
    assert "holds 2 data.pkl" in refused(tmp_path / "two.zip")
    path = write(tmp_path / "order.pt", tensor(), order=b"middle")
    assert "byteorder b'middle'" in refused(path)
    path = write(tmp_path / "odd.pt", tensor(), b"12345")
    assert "holds 5 bytes" in refused(path)


def test_compressed_members_are_refused_before_they_are_unpacked(tmp_path):
    bomb = write(tmp_path / "a.pt", tensor(), bytes(50_000_000), compress=zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 100_000
    assert "compressed" in refused(bomb)


def test_members_that_claim_more_than_the_file_holds(tmp_path):
    path = write(tmp_path / "a.pt", tensor())
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")  # central directory: sizes at 20 and 24
    data[entry + 20 : entry + 28] = struct.pack("<II", 2**31, 2**31)
    path.write_bytes(data)
    assert "expected at most" in refused(path)


def test_names_twice_and_members_without_number(tmp_path, monkeypatch):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("m/data.pkl", program(b"N"))
        file.writestr("m/data.pkX", program(b"K\x01"))
    path = tmp_path / "twice.pt"
    path.write_bytes(buffer.getvalue().replace(b"data.pkX", b"data.pkl"))
    assert "twice" in refused(path)
    monkeypatch.setattr(archive, "MOST_MEMBERS", 2)
    assert "3 members" in refused(write(tmp_path / "many.pt", tensor()))
    monkeypatch.setattr(archive, "LARGEST", 10)
    assert "expected at most 10" in refused(write(tmp_path / "long.pt", tensor()))
