"""Deployed networks: built by a C compiler, run natively and on an emulated Arm core."""

import io
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import compile_network
from kernels.deploy import deploy
from kernels.deploy.names import name_after
from kernels.devices import linker
from refbnn import cli, save
from refbnn.errors import InputError
from refbnn.layers import (
    ELU,
    GELU,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Flatten,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Sigmoid,
    Tanh,
)
from refbnn.layers.posterior import Posterior
from refbnn.network.network import Network
from tests.helpers.c_library import (
    STRICT,
    ZIG,
    Header,
    called,
    checked,
    core_with,
    random_network,
)
from tests.helpers.overflow import BAD, WELL, overflowing
from verification.rounding import network_bound

FEW = settings(max_examples=3, deadline=None, derandomize=True, database=None)  # each compiles
MLP = [Dense(784, 100), ReLU(), Dense(100, 100), ReLU(), Dense(100, 10)]
LENET = [
    *(Conv2d(1, 3, 3), ReLU(), MaxPool2d(2, method="tree")),
    *(Conv2d(3, 5, 2), Flatten(), Dense(20, 3)),
]


def symbols(archive):
    """Symbols of the one object in an archive: (name, where, binding, visibility)."""
    elf = member(archive)
    for symbol in elf.get_section_by_name(".symtab").iter_symbols():
        if symbol.name and symbol["st_info"]["bind"] != "STB_LOCAL":
            yield (
                symbol.name,
                symbol["st_shndx"] != "SHN_UNDEF",
                symbol["st_other"]["visibility"],
            )


def member(archive):
    from elftools.elf.elffile import ELFFile

    content = subprocess.run([*ZIG, "ar", "p", archive], capture_output=True, check=True).stdout
    return ELFFile(io.BytesIO(content))


@FEW
@given(
    sizes=st.lists(st.sampled_from([1, 2, 3, 7, 13, 16, 17, 33]), min_size=3, max_size=3),
    batch=st.sampled_from([1, 3]),
    seed=st.integers(0, 999),
)
def test_library_has_the_bits_of_the_kernel_that_python_drives(
    tmp_path_factory, sizes, batch, seed
):
    folder = tmp_path_factory.mktemp("dense") / "built"
    layers = [Dense(sizes[0], sizes[1]), ReLU(), Dense(sizes[1], sizes[2])]
    net = random_network(layers, seed=seed)
    deployed = deploy(net, folder, "net", batch)
    code, printed = checked(folder, deployed, *STRICT)
    assert code == 0, printed
    assert printed.count("holds") == 4
    assert printed.endswith("bits of the kernel as Python drives it: the same\n")


@pytest.mark.parametrize(
    ("layers", "shape", "batch", "options"),
    [
        (LENET, (1, 8, 9), 3, {}),  # a network of images
        ([Conv2d(2, 3, 2), ReLU()], (2, 4, 6), 3, {}),  # rows of 5 pixels, padded, come out
        ([Dense(5, 9), ReLU(), Dense(9, 3)], None, 3, {"form": "mean"}),  # no variance
        ([Dense(5, 9), ReLU(), Dense(9, 3)], None, 1, {"schedule": "default"}),
    ],
)
def test_library_of_other_networks(tmp_path, layers, shape, batch, options):
    deployed = deploy(random_network(layers, shape), tmp_path / "built", "net", batch, **options)
    code, printed = checked(tmp_path / "built", deployed, *STRICT)
    assert code == 0, printed
    assert "drives it: the same" in printed


@pytest.fixture(scope="module")
def mlp(tmp_path_factory):
    """784-100-100-10 for the A72: network, folder, what deploy returns."""
    net = random_network(MLP)
    folder = tmp_path_factory.mktemp("mlp") / "built"
    return net, folder, deploy(net, folder, "mlp", target="cortex-a72")


def test_library_on_the_emulated_core(mlp):
    net, folder, deployed = mlp
    archive = (folder / "libmlp.a").read_bytes()
    core = core_with(folder, archive)
    assert core.call("main") == 0
    stack = np.frombuffer(core._pieces[0][1], np.uint8)
    assert stack.size - np.flatnonzero(stack)[0] < 4096  # bytes that something was written to
    assert core.read(core.address("lines"), 1) == b"\5"
    assert deployed.sizes.code < 100_000

    x = np.random.default_rng(11).standard_normal((1, 784)).astype(np.float32)
    driven = compile_network(net, 1, "cortex-a72", device="emulated")(x)
    code, mean, var = called(core_with(folder, archive), folder, "mlp", x, (1, 10))
    assert code == 0
    np.testing.assert_array_equal(mean.view(np.uint32), driven.mean.view(np.uint32))
    np.testing.assert_array_equal(var.view(np.uint32), driven.var.view(np.uint32))


def test_library_of_images_on_the_emulated_core(tmp_path):
    layers = [Conv2d(1, 3, 2, padding=1), MaxPool2d(2), ReLU(), Flatten(), Dense(27, 3)]
    net = random_network(layers, (1, 5, 6))  # the greatest by quadrature
    deploy(net, tmp_path / "built", "net", 3, "cortex-a72")
    x = np.random.default_rng(11).standard_normal((3, 1, 5, 6)).astype(np.float32)
    driven = compile_network(net, 3, "cortex-a72", device="emulated")(x)
    core = core_with(tmp_path / "built", (tmp_path / "built" / "libnet.a").read_bytes())
    code, mean, var = called(core, tmp_path / "built", "net", x, (3, 3))
    assert code == 0
    np.testing.assert_array_equal(mean.view(np.uint32), driven.mean.view(np.uint32))
    np.testing.assert_array_equal(var.view(np.uint32), driven.var.view(np.uint32))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Folder of a layer whose weights have means of 2 and variances of 1, for the A72."""
    folder = tmp_path_factory.mktemp("large") / "built"
    net = Network([Dense(3, 2)])
    weight = Posterior(np.full((2, 3), 2.0), np.ones((2, 3)))
    net.set_parameters({**net.parameters(), "0.weight": weight})
    deploy(net, folder, "net", target="cortex-a72")
    return folder


@pytest.mark.parametrize(
    ("fill", "expected"),
    [
        (np.nan, "BAD_INPUT"),
        (np.inf, "BAD_INPUT"),
        (-np.inf, "BAD_INPUT"),
        (3e38, "BAD_MEAN"),  # twice that is too large
        (1e25, "BAD_VARIANCE"),  # and its square
        (1e18, "OK"),
    ],
)
def test_bad_input_has_a_code_of_its_own(large, fill, expected):
    core = core_with(large, (large / "libnet.a").read_bytes())
    code, mean, var = called(core, large, "net", np.array([[0, fill, 1]]), (1, 2))
    assert Header(large / "net.h").codes[code] == expected
    # What is not right is not handed out.
    assert np.isnan([mean, var]).all() == np.isnan([mean, var]).any() == (expected != "OK")


@pytest.mark.parametrize("source", [False, True])
def test_a_hidden_overflow_has_a_code_too(tmp_path, source):
    folder = tmp_path / "built"
    deployed = deploy(overflowing(Tanh()), folder, "net", source=source)
    calls = [f"net_propagate((float[]){{{x}f, {y}f}}, m, v, &work)" for x, y in [WELL, *BAD]]
    (folder / "main.c").write_text(
        '#include <stdio.h>\n#include "net.h"\nstatic struct net_work work;\n'
        "int main(void) {\n  float m[2], v[2];\n  net_check(&work, sizeof work);\n"
        + "".join(f'  printf("%d ", {call});\n' for call in calls)
        + "  return 0;\n}\n"
    )
    assert checked(folder, deployed, *STRICT) == (0, "0 2 2 2 ")


def test_library_needs_nothing_and_takes_no_memory(mlp):
    _, folder, deployed = mlp
    found = list(symbols(folder / "libmlp.a"))
    assert {name for name, here, _ in found if not here} <= {"memcpy", "memset"}
    visible = {name for name, here, seen in found if here and seen == "STV_DEFAULT"}
    assert visible == {"mlp_check", "mlp_predict", "mlp_propagate"}
    names = {section.name for section in member(folder / "libmlp.a").iter_sections()}
    assert not any(name.startswith((".debug", ".data", ".init", ".ctors")) for name in names)
    assert deployed.sizes.memory == 0


def test_weights_lie_where_the_header_says(mlp):
    net, folder, _ = mlp
    section = member(folder / "libmlp.a").get_section_by_name(".rodata.weights")
    assert section["sh_addralign"] == 64
    assert not section["sh_flags"] & 1  # read-only
    header = (folder / "mlp.h").read_text()
    table = re.findall(r"\* +(\d+) +([\d x]+\d) +(\w+)\n", header)
    values: dict[str, list[np.ndarray]] = {}
    for offset, shape, name in table:
        sizes = [int(n) for n in shape.split(" x ")]
        array = np.frombuffer(section.data(), "<f4", np.prod(sizes), int(offset)).reshape(sizes)
        values.setdefault(name, []).append(array)
    bias = net.parameters()["4.bias"]
    for array, expected in zip(values["layer4_bias"], (bias.mean, bias.var), strict=True):
        np.testing.assert_array_equal(array.ravel()[:10], np.float32(expected))
        assert not array.ravel()[10:].any()
    (weight,) = values["layer4_weight"]
    expected = net.parameters()["4.weight"]
    both = np.sort(np.array([expected.mean, expected.var], np.float32).ravel())
    np.testing.assert_array_equal(np.sort(weight[weight != 0]), both)
    assert section["sh_size"] == Header(folder / "mlp.h").WEIGHT_BYTES


def test_the_check_fails_where_results_are_others(tmp_path):
    folder = tmp_path / "built"
    deployed = deploy(random_network([Dense(3, 2)]), folder, "net")
    vector = folder / "net_test.h"
    text = vector.read_text()

    vector.write_text(shifted(text, "mean"))
    code, printed = checked(folder, deployed)
    assert code == 1
    assert re.search(r"mean: .* DOES NOT HOLD\nvariance: .* holds\n", printed)
    assert printed.endswith("the same\n")

    vector.write_text(shifted(text, "var"))
    code, printed = checked(folder, deployed)
    assert code == 1
    assert re.search(r"mean: .* holds\nvariance: .* DOES NOT HOLD\n", printed)

    vector.write_text(re.sub(r"(net_kernel_var\[\] = \{\s+)", r"\1 1.001f * ", text))
    code, printed = checked(folder, deployed)
    assert code == 0  # rounding may differ; it is said
    assert printed.endswith("drives it: OTHERS\n")

    vector.write_text(re.sub(r"(net_test_x\[\] = \{\s+)", r"\1 0.0f / 0.0f * ", text))
    code, printed = checked(folder, deployed)
    assert code == 1
    assert printed == "net_propagate returned 1\n"


def shifted(text, moment):
    """A test vector whose first expected moment is a tenth greater."""
    return re.sub(rf"(net_test_{moment}\[\] = \{{\s+)", r"\1 0.1 + ", text)


def test_c_source_is_as_accurate_as_the_kernel(tmp_path):
    net = random_network([Dense(30, 33), ReLU(), Dense(33, 7)])
    folder = tmp_path / "built"
    deployed = deploy(net, folder, "net", 3, source=True)
    code, printed = checked(folder, deployed, *STRICT, "-std=c99")
    assert code == 0, printed
    # Against the bound that kernels are held to: constants with all their digits.
    m_bound, v_bound = network_bound(net, deployed.vector.x.astype(float))
    greatest = re.findall(r"greatest error ([\d.e+-]+)", printed)
    assert float(greatest[0]) <= m_bound.max()
    assert float(greatest[1]) <= v_bound.max()


SMOOTH = [ELU(), GELU(), LeakyReLU(0.1), Sigmoid(), Tanh()]
PARTS = [
    (LENET, (1, 8, 9)),
    (
        [
            BatchNorm2d(*np.random.default_rng(1).random((4, 2))),
            Conv2d(2, 3, 2, padding=1),
            MaxPool2d(2),
            ReLU(),
        ],
        (2, 4, 6),
    ),
    ([Dense(7, 3), *(layer for a in SMOOTH for layer in (a, Dense(3, 3)))], None),
    ([AvgPool2d(2)], (2, 4, 6)),  # no weights
]


@pytest.mark.parametrize(("layers", "shape"), PARTS)
def test_c_source_of_every_layer(tmp_path, layers, shape):
    folder = tmp_path / "built"
    deployed = deploy(random_network(layers, shape), folder, "net", 1, "aarch64", source=True)
    code, printed = checked(folder, deployed, *STRICT)
    assert code == 0, printed
    # The same, compiled for another processor.
    linker.zig(
        *("cc", "-target", "aarch64-linux-musl", "-O2", "-fno-sanitize=all", "-c"),
        *(folder / "net.c", "-o", tmp_path / "net.o"),
        expected="net.o",
    )
    core = core_with(folder, (tmp_path / "net.o").read_bytes())
    assert core.call("main") == 0


def test_c_source_needs_no_compiler_here(tmp_path, monkeypatch):
    monkeypatch.setattr("kernels.deploy.archive.find_spec", lambda name: None)
    net = random_network([Dense(3, 2)])
    deploy(net, tmp_path / "source", "net", target="cortex-a53", source=True)
    with pytest.raises(InputError, match=r"without ziglang, .*pip install 'refbnn\[arm\]'"):
        deploy(net, tmp_path / "built", "net")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_only_what_an_earlier_run_wrote_is_replaced(tmp_path, monkeypatch):
    folder = tmp_path / "built"
    folder.mkdir()
    one, two = (random_network([Dense(3, 2)], seed=seed) for seed in (1, 2))
    first = deploy(one, folder, "net", source=True)
    (folder / "check").write_text("what the command made")
    before = contents(folder)
    with pytest.raises(InputError, match=r"built holds net.c; expected a new folder"):
        deploy(one, folder, "other", source=True)
    (folder / "notes").write_text("mine")
    with pytest.raises(InputError, match=r"built holds notes; expected a new folder, or one that"):
        deploy(two, folder, "net", source=True)
    (folder / "notes").unlink()

    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(InputError, match="built cannot be written: No space left on device"):
            deploy(two, folder, "net", source=True)
    assert contents(folder) == before
    second = deploy(two, folder, "net", source=True)
    assert set(contents(folder)) == set(first.files) == set(second.files)
    assert contents(folder)["net.c"] != before["net.c"]
    assert [path.name for path in tmp_path.iterdir()] == ["built"]

    (tmp_path / "file").write_text("")
    for place, message in (
        (tmp_path / "file", "not a folder"),
        (tmp_path / "file" / "b", "not writable"),
        (tmp_path / "a" / "b", "not writable"),
    ):
        with pytest.raises(InputError, match=message):
            deploy(two, place, "net", source=True)


@pytest.mark.parametrize(
    "name", ["", "2d", "a-b", "_a", "ä", "a" * 64, "main", "m", "check", "a\n"]
)
def test_names_that_c_cannot_have_are_refused(tmp_path, name):
    with pytest.raises(InputError, match="name ") as caught:
        deploy(random_network([Dense(3, 2)]), tmp_path / "built", name)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        *(("mlp", "mlp"), ("my-net.v2", "my_net_v2"), ("3x", "net_3x"), ("_", "net_")),
        *(("é", "net_"), ("m", "net_m"), ("main", "net_main")),
    ],
)
def test_name_after_a_file(stem, expected):
    assert name_after(Path(f"/there/{stem}.npz")) == expected


def run(capsys, *words):
    """Exit code, standard output and standard error of the command."""
    code: object
    try:
        code = cli.main(["compile", *map(str, words)])
    except SystemExit as exit_:
        code = exit_.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_command_line(tmp_path, capsys):
    model, folder = tmp_path / "my-net.npz", tmp_path / "built"
    save(model, random_network([Dense(5, 4), ReLU(), Dense(4, 3)]))
    words = (model, "-o", folder, "--batch-size", 3, "--schedule", "tuned")
    code, out, err = run(capsys, *words, "--records", tmp_path / "none")
    assert code == 0
    assert err.startswith("refbnn compile: no record of tuning, by hand: dense 4x3 batch 3")
    for name in ("my_net.h", "libmy_net.a", "my_net_test.h", "main.c"):
        assert f"{folder / name}  {(folder / name).stat().st_size} bytes\n" in out
    *_, where, line = out.splitlines()
    assert where == f"cd {folder}"
    assert line == "cc -O2 main.c -L. -lmy_net -lm -o check && ./check"
    assert line.removesuffix(" && ./check") in (folder / "main.c").read_text()
    again, _, _ = run(capsys, model, "-o", folder, "--c")
    assert again == 0
    assert (folder / "my_net.c").is_file()
    assert not (folder / "libmy_net.a").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target", "z80"], "target 'z80' is unknown; expected one of: host"),
        (["--name", "a-b"], "name 'a-b' is no prefix for C; expected letters, digits"),
        (["--name", ""], "name '' is no prefix for C; expected letters, digits"),
        (["--batch-size", "0"], "'0'; expected an integer, at least 1"),
        (
            ["--schedule", "best"],
            "--schedule best: expected one of default, hand, tuned",
        ),
        (["--form", "both"], "--form both: expected one of variance, raw"),
    ],
)
def test_command_line_refuses(tmp_path, capsys, words, message):
    model = tmp_path / "net.npz"
    save(model, random_network([Dense(3, 2)]))
    code, out, err = run(capsys, model, "-o", tmp_path / "built", *words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["net.npz"]


def test_a_layer_without_kernel_is_named(tmp_path):
    class Own(ReLU):
        """A layer that nobody has a kernel for."""

    net = Network([Conv2d(1, 1, 1), Own()], input_shape=(1, 3, 3))
    with pytest.raises(InputError, match="layer 1: Own has no kernel"):
        deploy(net, tmp_path / "built", "net")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("source", [False, True])
def test_what_is_too_large_for_c_is_refused_at_once(tmp_path, source):
    net = random_network([Dense(3, 2)])
    for batch, message in (
        (10**7, r"^70000\d{3} numbers of weights and test vector .* at most 20000000"),
        (10**20, r"^batch_size is 10{20}: an input of \d+ numbers; expected at most 2147483647"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            deploy(net, tmp_path / "built", "net", batch, source=source)
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_without_the_emulated_core_its_packages_are_named(tmp_path, monkeypatch):
    from kernels.devices import by_name

    def absent(name):
        return None if name == "unicorn" else find_spec(name)

    monkeypatch.setattr(by_name, "find_spec", absent)
    with pytest.raises(InputError, match=r"without unicorn; .*pip install 'refbnn\[arm\]'"):
        deploy(random_network([Dense(3, 2)]), tmp_path / "built", "net", target="cortex-a72")
    assert not list(tmp_path.iterdir())
