"""Checkpoints: what is saved comes back bit by bit; hostile files are refused in one line."""

import os
import pickle
import struct
import subprocess
import sys
import zipfile
from dataclasses import fields

import numpy as np
import pytest

import refbnn.layers
from refbnn import InputError, Network, Posterior, load, predict, save, train
from refbnn.files import archive
from refbnn.layers import (
    ELU,
    GELU,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Flatten,
    Layer,
    LeakyReLU,
    MaxPool2d,
    Normalise,
    ReLU,
    Residual,
    Sigmoid,
    Tanh,
)
from refbnn.layers.activations import ACTIVATIONS
from refbnn.noise import Bimodal, DensityLaw, DeviceLaw, Gaussian, HeavyTailed, Mixture
from refbnn.prior import (
    DevicePrior,
    GaussianPrior,
    LaplacePrior,
    ScaleMixturePrior,
    StudentTPrior,
)
from refbnn.training import checkpoint
from refbnn.training.options import Options
from tests.helpers.checkpoints import members_of, npy, with_header, write

LAWS = [
    Gaussian(),
    Bimodal(0.1 + 0.2, 1.0 / 3.0, np.pi),
    Mixture((0.3, 0.5, 0.2), (-3.0, 0.1, 4.0), (0.8, 1.0, 1.2)),
    DeviceLaw(-0.5, 2.0 / 3.0, (0.1, -1e-17, 2.5)),
    HeavyTailed(0.7, -0.1),
    DensityLaw.of(lambda x: np.exp(-np.abs(x)) / np.sqrt(x + 1), -1, 2, exponents=(-0.5, 0.0)),
]
PRIORS = [
    GaussianPrior(0.1 + 0.2),
    LaplacePrior(1 / 3),
    StudentTPrior(4.5, 0.7),
    ScaleMixturePrior(0.3, 1.0, 0.1),
    DevicePrior(DeviceLaw(0.5, 1.0, (0.3,)), 0.1, 2.0),
]
NORM = BatchNorm2d(
    mean=np.array([0.1, -0.2]),
    var=np.array([0.5, 1.5]),
    gamma=np.array([1 / 3, 0.8]),
    beta=np.array([0.1, 0.0]),
    eps=1e-3,
)
LAYERS: list[Layer] = [
    Normalise([0.1 + 0.2, -1.0], [0.7, 1e-3]),
    Conv2d(2, 4, (3, 2), stride=(1, 2), padding=1, groups=2),
    LeakyReLU(0.1 + 0.2),
    MaxPool2d(2, stride=1),
    AvgPool2d((2, 1), padding=(1, 0)),
    Residual((Conv2d(4, 4, 1), ReLU(), Residual((ELU(0.7), GELU())))),
    Conv2d(4, 2, 1),
    NORM,
    Sigmoid(),
    Flatten(),
    Dense(8, 3),
    Tanh(),
]


def scaled(net, seed=0):
    """Means and scales that no file holds by accident."""
    rng = np.random.default_rng(seed)
    net.set_parameters(
        {
            n: Posterior(rng.standard_normal(p.shape), rng.uniform(0.01, 1, p.shape))
            for n, p in net.parameters().items()
        }
    )
    return net


def small(**options):
    return scaled(Network([Dense(3, 4), ReLU(), Dense(4, 3)], **options))


def same_fields(ours, theirs):
    assert type(ours) is type(theirs)
    for field in fields(ours):
        mine, other = getattr(ours, field.name), getattr(theirs, field.name)
        if isinstance(ours, Residual):
            for a, b in zip(mine, other, strict=True):
                same_fields(a, b)
        else:
            np.testing.assert_array_equal(mine, other)


def assert_same(net, loaded):
    for ours, theirs in zip(net.layers, loaded.layers, strict=True):
        same_fields(ours, theirs)
    assert (net.law, net.prior, net.input_shape) == (loaded.law, loaded.prior, loaded.input_shape)
    assert list(net.parameters()) == list(loaded.parameters())
    for name, p in loaded.parameters().items():
        np.testing.assert_array_equal(p.mean, net.parameters()[name].mean, strict=True)
        np.testing.assert_array_equal(p.scale, net.parameters()[name].scale, strict=True)
    assert net.correlation.keys() == loaded.correlation.keys()
    for index, A in loaded.correlation.items():
        np.testing.assert_array_equal(A, net.correlation[index], strict=True)


def assert_predicts_the_same(net, loaded, methods=("svi", "pfp")):
    x = np.random.default_rng(1).standard_normal((2, *net.input_shape))
    samples = [n.sample(x, 3, np.random.default_rng(2)) for n in (net, loaded)]
    np.testing.assert_array_equal(*samples)
    for method in methods:
        ours, theirs = (predict(n, x, method=method) for n in (net, loaded))
        np.testing.assert_array_equal(ours.probabilities, theirs.probabilities)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_every_law_comes_back(law, tmp_path):
    net = small(law=law)
    save(tmp_path / "net.npz", net)
    loaded = load(tmp_path / "net.npz")
    assert_same(net, loaded)
    assert_predicts_the_same(net, loaded)


@pytest.mark.parametrize("prior", PRIORS, ids=lambda prior: type(prior).__name__)
def test_every_prior_comes_back(prior, tmp_path):
    net = small(prior=prior)
    save(tmp_path / "net.npz", net)
    assert_same(net, load(tmp_path / "net.npz"))


def test_every_layer_comes_back(tmp_path):
    inner = {ReLU, ELU, GELU}
    every = {getattr(refbnn.layers, name) for name in refbnn.layers.__all__}
    others = [ACTIVATIONS[name]() for name in ACTIVATIONS]  # found by their files
    assert {type(layer) for layer in [*LAYERS, *others]} | inner == every - {Layer}
    net = scaled(Network([*LAYERS, *others], input_shape=(2, 4, 5)))
    save(tmp_path / "net.npz", net)
    loaded = load(tmp_path / "net.npz")
    assert_same(net, loaded)
    assert_predicts_the_same(net, loaded)


def test_correlation_and_an_unknown_input_come_back(tmp_path):
    net = Network([ReLU(), Dense(3, 2), Dense(2, 3)], correlated=[2, 1])
    for index, n in ((1, 8), (2, 9)):
        net.correlation[index] = np.tril(np.random.default_rng(index).standard_normal((n, n)), -1)
    save(tmp_path / "net.npz", scaled(net))
    loaded = load(tmp_path / "net.npz")
    assert loaded.input_shape is None
    assert_same(net, loaded)
    net.input_shape = (3,)
    assert_predicts_the_same(net, loaded, ("svi",))  # correlated weights are not propagated


def test_single_precision_means_are_kept_exactly(tmp_path):
    net = small()
    net.set_parameters(
        {
            n: Posterior(p.mean.astype(np.float32), p.scale.astype(np.float32))
            for n, p in net.parameters().items()
        }
    )
    save(tmp_path / "net.npz", net)
    for name, p in load(tmp_path / "net.npz").parameters().items():
        np.testing.assert_array_equal(p.mean, net.parameters()[name].mean)


def test_what_cannot_be_loaded_is_not_saved(tmp_path):
    class OwnReLU(ReLU):
        pass

    class OwnPrior(GaussianPrior):
        pass

    class OwnLaw(Gaussian):
        pass

    for net in (
        Network([Dense(2, 2), OwnReLU()]),
        Network([Dense(2, 2)], prior=OwnPrior()),
        Network([Dense(2, 2)], law=OwnLaw()),
    ):
        with pytest.raises(InputError, match="cannot be saved; expected one of"):
            save(tmp_path / "net.npz", net)
        # Known before a long training, not after its first epoch.
        with pytest.raises(InputError, match="cannot be saved"):
            train(
                net,
                np.ones((2, 2)),
                np.array([0, 1]),
                checkpoint=tmp_path / "net.npz",
                on_step=lambda *_: pytest.fail("began"),
            )
    assert os.listdir(tmp_path) == []


# Sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("validated", [False, True])
def test_what_could_not_be_read_again_is_refused_before_training(
    tmp_path, monkeypatch, dtype, validated
):
    """The size asked for beforehand is at least the file's, and little more."""
    path = tmp_path / "net.npz"
    x, y = np.eye(4)[:, :3], np.array([0, 1, 2, 0])
    options = {"epochs": 3, "dtype": dtype, "validation": (x, y) if validated else None}

    def run(to, **more):
        net = Network([Dense(3, 40), ReLU(), Dense(40, 3)], correlated=[0])
        train(net, x, y, checkpoint=to, **options, **more)

    run(path)
    size = path.stat().st_size
    # Arrays: 13, or 16 with the best epoch, of 512 bytes beside numbers; 4096 and 480 of the run.
    monkeypatch.setattr(archive, "LARGEST", size + 17 * 512 + 4096 + 480)
    run(tmp_path / "again.npz")
    monkeypatch.setattr(archive, "LARGEST", size)
    load(path)
    monkeypatch.setattr(archive, "LARGEST", size - 1)
    with pytest.raises(InputError, match=f"{size} bytes"):
        load(path)
    with pytest.raises(InputError, match=r"a checkpoint of \d+ bytes; expected at most"):
        run(tmp_path / "third.npz", on_step=lambda *_: pytest.fail("began"))
    assert not (tmp_path / "third.npz").exists()


def test_what_could_not_be_read_again_is_not_written(tmp_path, monkeypatch):
    path = tmp_path / "net.npz"
    save(path, small())
    size = path.stat().st_size
    path.unlink()
    monkeypatch.setattr(archive, "LARGEST", size - 1)
    with pytest.raises(InputError, match=r"a checkpoint of \d+ bytes; expected at most"):
        save(path, small())
    assert os.listdir(tmp_path) == []


def test_a_header_that_could_not_be_read_again_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"a header of \d+ bytes; expected at most"):
        checkpoint.check(tmp_path / "net.npz", small(), Options(epochs=1_000_000))


# Hostile files ---------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "net.npz"
    save(path, small(correlated=[0]))
    return path


def refused(path, words):
    with pytest.raises(InputError, match=words) as caught:
        load(path)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 1000
    assert str(path) in text


def test_truncated_files_are_refused(saved):
    whole = saved.read_bytes()
    for length in [*range(0, 200, 17), *range(200, len(whole), 211), len(whole) - 1]:
        saved.write_bytes(whole[:length])
        refused(saved, "expected")


def test_flipped_bytes_load_or_are_refused(saved):
    """Anywhere, and where the zip file keeps its tables; seeded, so that it repeats itself."""
    whole = saved.read_bytes()
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(saved) as archive:
        tables = [info.header_offset + k for info in archive.infolist() for k in range(0, 30, 3)]
        directory = archive.start_dir
    tables += range(directory, len(whole), 2)
    headers = range(0, 1400)
    places = np.concatenate([rng.choice(len(whole), 150), rng.choice(tables, 300), headers[::9]])
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= int(rng.integers(1, 256))
        saved.write_bytes(changed)
        try:
            net = load(saved)
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert all(np.isfinite(p.mean).all() for p in net.parameters().values())


def test_members_that_lie_elsewhere_are_refused(saved):
    """The place of the first member, in the table at the end of the file, up to its very end."""
    whole = saved.read_bytes()
    with zipfile.ZipFile(saved) as archive:
        field = archive.start_dir + 42
    for place in (7, len(whole) // 2, len(whole) - 10, len(whole) - 1, len(whole) + 50, 2**32 - 2):
        saved.write_bytes(whole[:field] + struct.pack("<I", place) + whole[field + 4 :])
        refused(saved, "expected")


def test_garbage_that_begins_like_an_archive_is_refused(saved):
    rng = np.random.default_rng(1)
    for _ in range(50):
        saved.write_bytes(b"PK\x03\x04" + rng.bytes(200) + b"PK\x05\x06" + rng.bytes(18))
        refused(saved, "expected")


def test_compressed_members_are_refused(saved):
    write(saved, members_of(saved), zipfile.ZIP_DEFLATED)
    refused(saved, "is compressed; expected it stored")


class Payload:
    """Leaves a trace if it is ever unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("member", ["header.npy", "mean/0.weight.npy"])
def test_a_pickle_never_runs(saved, tmp_path, member):
    trace = tmp_path / "trace"
    members = members_of(saved)
    array = np.empty(1, dtype=object)
    array[0] = Payload(trace)
    for body in (npy(array), pickle.dumps(array), b"\x80\x04" + pickle.dumps(Payload(trace))):
        write(saved, members | {member: body})
        refused(saved, "expected a plain array")
        assert not trace.exists()
    pickle.loads(pickle.dumps(Payload(trace)))
    assert trace.exists()  # it would have


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 4)), r"<f8 of shape \(3, 4\); expected <f8 of shape \(4, 3\)"),
        (np.zeros(12), r"\(12,\); expected"),
        (np.zeros((4, 3), np.float32), r"<f4 of shape \(4, 3\); expected"),
        (np.zeros((4, 3), ">f8"), ">f8 of shape"),
        (np.zeros((4, 3), np.int64), r"<i8 of shape \(4, 3\); expected"),
        (np.zeros((4, 3), "f8,i4"), "expected a plain array"),
        (np.full((4, 3), np.nan), "NaN or infinity"),
        (np.full((4, 3), np.inf), "NaN or infinity"),
    ],
)
def test_wrong_arrays_are_refused(saved, array, words):
    write(saved, members_of(saved) | {"mean/0.weight.npy": npy(array)})
    refused(saved, words)


@pytest.mark.parametrize(
    "text",
    [
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 3), }",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (4, 3), 'more': [",
        b"{'descr': __import__('os').mkdir('trace'), 'fortran_order': False, 'shape': (4, 3), }",
        b"{[]: 1}",
        b"(" * 5000,
        b"'''",
    ],
)
def test_hostile_array_headers_are_refused(saved, text):
    body = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text + b"\n" + bytes(96)
    write(saved, members_of(saved) | {"mean/0.weight.npy": body})
    refused(saved, "expected")


def test_a_wrong_length_of_an_array_header_is_refused(saved):
    body = bytearray(members_of(saved)["mean/0.weight.npy"])
    body[8] -= 8
    write(saved, members_of(saved) | {"mean/0.weight.npy": bytes(body)})
    refused(saved, "plain array")


def test_missing_members_are_refused_and_others_ignored(saved):
    members = members_of(saved)
    for name in members:
        write(saved, {n: b for n, b in members.items() if n != name})
        refused(saved, "is missing; expected a checkpoint")
    write(saved, members | {"another.npy": npy(np.ones(3)), "../../evil": b"x"})
    assert_same(small(correlated=[0]), load(saved))
    assert not (saved.parent.parent.parent / "evil").exists()


def test_negative_scales_are_refused(saved):
    write(saved, members_of(saved) | {"scale/2.bias.npy": npy(np.array([0.1, -0.1, 0.1]))})
    refused(saved, "2.bias: posterior: negative scale")


def test_correlation_off_its_triangle_is_refused(saved):
    for value in (np.eye(16), np.full((16, 16), np.nan)):
        write(saved, members_of(saved) | {"correlation/0.npy": npy(value)})
        refused(saved, "expected finite, below the diagonal")


def replaced(**entries):
    return lambda header: header.update(entries)


def dense(**sizes):
    def change(header):
        header["layers"][0].update(sizes)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (replaced(version=2), "version 2; expected 1"),
        (replaced(version=True), "version True; expected 1"),
        (replaced(version="1"), "version '1'"),
        (replaced(format="other"), "expected a network"),
        (lambda header: header | {"format": None}, "expected a network"),
        (lambda header: [header], "expected a JSON object"),
        (replaced(layers=None), "list of 1 to"),
        (replaced(layers=[]), "list of 1 to"),
        (replaced(layers=[{"type": "ReLU"}] * 10_001), "list of 1 to"),
        (replaced(layers=[{"type": "Layer"}]), "layer 0: expected a type of"),
        (replaced(layers=[{"type": "os.system"}]), "layer 0: expected a type of"),
        (replaced(layers=[{"type": ["Dense"]}]), "layer 0: expected a type of"),
        (replaced(layers=[7]), "layer 0: expected a type of"),
        (dense(in_features=10**12), "claims 40000000000"),
        (dense(in_features=10**18), "claims 40000000"),
        (dense(in_features=10**400), "expected numbers"),
        (dense(in_features=3.0), "a whole number of at least 1"),
        (dense(in_features="3"), "expected numbers"),
        (dense(in_features=True), "expected numbers"),
        (dense(in_features=None), "expected numbers"),
        (dense(in_features=-3), "a whole number of at least 1"),
        (dense(in_features=[3]), "a whole number of at least 1"),
        (dense(extra=1), "unknown 'extra'"),
        (dense(in_features=5), r"layer 0: Dense\(5, 4\): input has shape \(3,\)"),
        (replaced(law=None), "expected a law"),
        (replaced(law={"format": "refbnn law", "version": 1, "law": {"family": "X"}}), "family"),
        (replaced(prior=None), "prior: expected a family of"),
        (replaced(prior={"family": "Flat"}), "prior: expected a family of"),
        (replaced(prior={"family": "GaussianPrior", "scale": -1}), "GaussianPrior"),
        (replaced(prior={"family": "GaussianPrior", "scale": float("nan")}), "holds NaN"),
        (replaced(prior={"family": "DevicePrior"}), "expected a law"),
        (replaced(input_shape=[2]), "input has shape"),
        (replaced(input_shape=[3.0]), "lists of integers"),
        (replaced(input_shape=[10**400]), "lists of integers"),
        (replaced(input_shape="3"), "lists of integers"),
        (replaced(correlated=[0, 2]), "claims|correlation/2 is missing"),
        (replaced(correlated=[2]), "correlation/2 is missing"),
        (replaced(correlated=[1]), "layer 1: expected the index"),
        (replaced(correlated=[0, 0]), "ascending"),
        (replaced(correlated=[-1]), "ascending"),
        (replaced(correlated=[10**15]), "ascending"),
    ],
)
def test_hostile_headers_are_refused(saved, change, words):
    with_header(saved, change)
    refused(saved, words)


def test_a_method_of_max_pooling_that_is_gone_is_refused(saved):
    layer = {"type": "MaxPool2d", "kernel_size": 2, "method": "chain"}
    with_header(saved, replaced(layers=[layer]))
    refused(saved, "layer 0: MaxPool2d: .*method 'chain' is unknown; expected one of: window")


def test_convolutions_of_odd_sizes_are_refused(saved):
    for entries in ({"in_channels": 1.5}, {"kernel_size": 2.5}, {"groups": 0.5}, {"stride": [1]}):
        layer = {"type": "Conv2d", "in_channels": 1, "out_channels": 1, "kernel_size": 1} | entries
        with_header(saved, replaced(layers=[layer]))
        refused(saved, "layer 0: Conv2d: ")


@pytest.mark.parametrize("depth", [21, 100, 200, 400, 5000])
def test_blocks_in_blocks_without_end_are_refused(saved, depth):
    text = '{"type": "Residual", "layers": [' * depth + '{"type": "ReLU"}' + "]}" * depth
    header = '{"format": "refbnn network", "version": 1, "layers": [' + text + "]}"
    members = members_of(saved)
    write(saved, members | {"header.npy": npy(np.frombuffer(header.encode(), np.uint8))})
    refused(saved, "at most 20 blocks in each other|expected a JSON object")


@pytest.mark.parametrize("body", [b"\xff\xfe", b"[" * 100_000, b"{", b"", b"NaN"])
def test_headers_that_are_no_json_are_refused(saved, body):
    write(saved, members_of(saved) | {"header.npy": npy(np.frombuffer(body, np.uint8))})
    refused(saved, "expected a JSON object")


def test_other_files_are_refused(tmp_path):
    refused(tmp_path / "none.npz", "not a file; expected a checkpoint")
    refused(tmp_path, "not a file; expected a checkpoint")
    path = tmp_path / "other.zip"
    write(path, {"readme.txt": b"hello"})
    refused(path, "header is missing; expected a checkpoint")
    np.savez(tmp_path / "arrays.npz", header=np.ones(3))
    refused(tmp_path / "arrays.npz", "expected a JSON object")
    path.write_bytes(b"")
    refused(path, "expected a checkpoint")


# Writing ---------------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()
    monkeypatch.setattr(np, "savez", fail_midway)
    with pytest.raises(InputError, match="No space left on device; expected a file to write to"):
        save(saved, small())
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == ["net.npz"]


def fail_midway(file, **_):
    file.write(b"half")
    raise OSError(28, "No space left on device")


FULL = """
import resource, sys
import numpy as np
from refbnn import InputError, Network, save
from refbnn.layers import Dense
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save(sys.argv[1], Network([Dense(100, 100)]))
except InputError as error:
    print(error)
"""


def test_a_disk_that_fills_up_leaves_the_old_file(saved):
    """The operating system's limit on the length of files, in a process of its own."""
    before = saved.read_bytes()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FULL, str(saved)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "File too large; expected a file to write to" in done.stdout
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == ["net.npz"]


def test_a_place_that_cannot_be_written_is_known_before_training(tmp_path):
    for path in (tmp_path / "none" / "net.npz", tmp_path):
        with pytest.raises(InputError, match="not writable"):
            train(
                small(),
                np.ones((2, 3)),
                np.array([0, 1]),
                checkpoint=path,
                on_step=lambda *_: pytest.fail("began"),
            )
