"""Kernels on boards: TVM's own tracker and servers, on this machine; what breaks, and says so.

The environment variable REFBNN_ARM_PYTHON names a Python for aarch64 that runs here, with TVM (as
`.ci/arm` makes one, under qemu): its server is then a board of that kind.
"""

import argparse
import gc
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path

import numpy as np
import psutil
import pytest

from kernels import compile_network
from kernels.bench import latency as bench
from kernels.devices import Board, board_from_environment
from kernels.devices.boards import sessions
from kernels.devices.boards.board import VARIABLES
from kernels.program import records
from refbnn.cli import arguments as options
from refbnn.cli import main
from refbnn.errors import InputError
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
    ReLU,
    Sigmoid,
    Tanh,
)
from refbnn.network.architectures import DIGITS, lenet5
from refbnn.network.file import save
from refbnn.network.network import Network
from verification.rounding import network_bound

pytest.importorskip("tornado", reason="the extra `rpc` is not installed")
pytest.importorskip("ziglang", reason="the extra `rpc` is not installed")

ARM_PYTHON = os.environ.get("REFBNN_ARM_PYTHON")
SCHEDULES = pytest.mark.parametrize("schedule", ["hand", "default"])
on_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="this machine is not x86_64")

NET = Network([Dense(31, 37), ReLU(), Dense(37, 5)], seed=1)
X = np.random.default_rng(2).random((3, 31))


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def until(condition, seconds=60.0):
    """Wait for it."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def at(port):
    """Options of TVM's programs: this port and no other."""
    return ["--host", "127.0.0.1", "--port", str(port), "--port-end", str(port + 1)]


def started(words, log):
    with log.open("w") as file:
        return subprocess.Popen(words, stderr=file, stdout=file, start_new_session=True)


def killed(process):
    os.killpg(process.pid, signal.SIGKILL)  # its children too
    process.wait()


@dataclass
class Fleet:
    """A tracker and its servers, processes of this machine."""

    folder: Path
    port: int
    servers: dict[str, subprocess.Popen] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=count)

    def board(self, key, **more):
        return Board(f"127.0.0.1:{self.port}", key, **more)

    def n_free(self, key):
        from tvm.rpc import connect_tracker

        session = connect_tracker("127.0.0.1", self.port)
        try:
            return session.summary()["queue_info"].get(key, {}).get("free", 0)
        finally:
            session.close()

    def add(self, key, *names, python=sys.executable):
        """Start servers, and wait until they are free."""
        before = self.n_free(key)
        for name in names:
            words = [python, "-m", "tvm.exec.rpc_server", *at(free_port())]
            words += ["--tracker", f"127.0.0.1:{self.port}", "--key", key]
            self.servers[name] = started(words, self.folder / name)
        until(
            lambda: self.n_free(key) == before + len(names), 180.0
        )  # under qemu, on a busy machine

    def fill(self, key, n):
        """Start as many servers as it takes for n to be free."""
        self.add(key, *(f"{key} {next(self.numbers)}" for _ in range(n - self.n_free(key))))

    def serving(self, key):
        """The server of that key that has a session."""

        def serves(name):
            log = (self.folder / name).read_text()
            return log.count("start serving") > log.count("finish serving")

        (name,) = (name for name in self.servers if name.startswith(key) and serves(name))
        return name

    def stop(self, name):
        """Let none of its processes go on."""
        server = psutil.Process(self.servers[name].pid)
        for process in [server, *server.children(recursive=True)]:
            process.send_signal(signal.SIGSTOP)

    def kill(self, name):
        killed(self.servers.pop(name))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("fleet"), free_port()
    tracker = started([sys.executable, "-m", "tvm.exec.rpc_tracker", *at(port)], folder / "log")

    def answers():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    made = Fleet(folder, port)
    try:
        until(answers)
        made.add("here", "only")
        yield made
    finally:
        for process in [*made.servers.values(), tracker]:
            killed(process)


@pytest.fixture(scope="module")
def arm(fleet):
    """A board of 64-bit Arm."""
    if ARM_PYTHON is None:
        pytest.skip("REFBNN_ARM_PYTHON is not set; .ci/arm makes one")
    fleet.add("arm", "arm", python=ARM_PYTHON)
    return fleet.board("arm")


@cache
def on_this_machine():
    """Output of NET for X on this machine."""
    return compile_network(NET, 3)(X)


def same(got, expected):
    np.testing.assert_array_equal(got.mean, expected.mean)
    np.testing.assert_array_equal(got.var, expected.var)


@contextmanager
def one_line(message):
    with pytest.raises(InputError, match=message) as caught:
        yield
    assert "\n" not in str(caught.value)


@SCHEDULES
def test_network_is_that_of_this_machine(fleet, schedule):
    there = compile_network(NET, 3, schedule=schedule, device=fleet.board("here"))
    here = compile_network(NET, 3, schedule=schedule)
    for x in (X, 0.5 * X, X):
        same(there(x), here(x))


def test_a_board_that_the_environment_describes(fleet, monkeypatch):
    for variable, value in zip(VARIABLES, ("127.0.0.1", str(fleet.port), "here"), strict=True):
        monkeypatch.setenv(variable, value)
    same(compile_network(NET, 3, device="rpc")(X), on_this_machine())


def test_kernels_of_a_board_share_its_session_and_leave_it_free(fleet, monkeypatch):
    board = fleet.board("here")
    first, second = (compile_network(NET, batch, device=board) for batch in (3, 1))
    same(first(X), on_this_machine())
    same(second(X[:1]), compile_network(NET, 1)(X[:1]))
    assert fleet.n_free("here") == 0
    # Another process would wait; so does another description of the board.
    monkeypatch.setattr(sessions, "_GRACE", 0.1)
    with one_line("board 'here' of tracker 127.0.0.1:.*: busy for 0.4 s; expected a free one"):
        compile_network(NET, 3, device=fleet.board("here", timeout=0.3))
    del first, second
    gc.collect()
    until(lambda: fleet.n_free("here") == 1)


def test_tuning_on_a_board_measures_seconds(fleet, tmp_path, capsys):
    model = tmp_path / "m.npz"
    save(model, Network([Dense(31, 37)], seed=1))
    call = ["tune", str(model), "--batch-size", "3", "--trials", "3", "--records", str(tmp_path)]
    assert main([*call, "--tracker", f"127.0.0.1:{fleet.port}", "--key", "here"]) == 0
    assert "µs" in capsys.readouterr().out
    (found,) = records.read(tmp_path / "host.json")
    assert (found.measure, found.trials) == ("seconds", 3)
    assert 0 < found.cost <= found.cost_by_hand < 1e-3
    assert not list(tmp_path.glob("*.jsonl"))
    gc.collect()
    until(lambda: fleet.n_free("here") == 1)


@pytest.mark.parametrize("command", ["bench", "tune", "verify"])
def test_commands_say_that_there_is_no_tracker_or_key(fleet, tmp_path, capsys, command):
    words = [command]
    if command != "verify":
        words.append(str(tmp_path / "m.npz"))
        save(words[-1], NET)
    nobody, here = free_port(), fleet.port
    for port, key, message in (
        (nobody, "here", f"tracker 127.0.0.1:{nobody}: .*refused; expected one, started by: "),
        (here, "pi", f"tracker 127.0.0.1:{here}: key 'pi' is unknown; expected one of: .*here"),
    ):
        assert main([*words, "--tracker", f"127.0.0.1:{port}", "--key", key]) == 2
        out, error = capsys.readouterr()
        assert out == ""
        assert re.fullmatch(f"refbnn {command}: {message}.*\n", error)


def test_time_is_that_of_the_kernel_and_not_of_the_way(fleet):
    wide = Network([Dense(300, 300), Dense(300, 10)], seed=1)
    kernels = {
        name: compile_network(net, 1, device=fleet.board("here")).kernel
        for name, net in {"small": NET, "wide": wide}.items()
    }
    seconds = bench.on_device(kernels, repeats=3, statistic=min)
    # 93,000 multiply-adds of the one, 1,332 of the other; the way there and back takes 500 µs.
    assert 0 < 3 * seconds["small"] < seconds["wide"] < 300e-6


def test_a_board_that_stops_at_work_is_given_up(fleet, caplog, monkeypatch):
    fleet.fill("several", 2)
    monkeypatch.setattr(sessions, "_GRACE", 0.2)
    there = compile_network(NET, 3, device=fleet.board("several", timeout=1.5))
    stopped = fleet.serving("several")
    fleet.stop(stopped)
    same(there(X), on_this_machine())
    assert "session 1 of 3 lost" in caplog.text
    fleet.kill(stopped)


def test_a_board_that_has_stopped_before_is_given_up(fleet, caplog, monkeypatch):
    fleet.fill("several", 2)
    monkeypatch.setattr(sessions, "_ANSWER", 1.0)
    stopped = list(fleet.servers)[-1]
    fleet.stop(stopped)
    # The tracker asks in turn: of two sessions one begins at that board; of a few, where a request
    # of an earlier session took a turn.
    for _ in range(5):
        same(compile_network(NET, 3, device=fleet.board("several"))(X), on_this_machine())
        gc.collect()
        if caplog.text:
            break
    assert caplog.text.count("session 1 of 3 lost") == 1
    fleet.kill(stopped)


def test_another_board_takes_the_place_of_one_that_dies(fleet, caplog):
    fleet.fill("several", 2)
    board, expected = fleet.board("several"), on_this_machine()
    there = compile_network(NET, 3, device=board)
    same(there(X), expected)
    fleet.kill(fleet.serving("several"))
    same(there(X), expected)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{board}: session 1 of 3 lost: ")
    assert "\n" not in record.getMessage()
    same(there(X), expected)
    assert len(caplog.records) == 1
    # And where there is no other:
    fleet.kill(fleet.serving("several"))
    with one_line("key 'several' is unknown; expected one of: here"):
        there(X)


def test_a_session_that_times_out_is_followed_by_another(fleet, caplog):
    def over():
        until(lambda: fleet.n_free("here") == 1)

    board = fleet.board("here", timeout=1.0, attempts=2)
    there, expected = compile_network(NET, 3, device=board), on_this_machine()
    over()
    same(there(X), expected)
    assert "session 1 of 2 lost" in caplog.text
    # Loading is work as well.
    over()
    same(compile_network(NET, 3, device=board)(X), expected)
    same(there(X), expected)
    del there
    gc.collect()
    impatient = compile_network(NET, 3, device=fleet.board("here", timeout=1.0, attempts=1))
    over()
    with one_line("lost 1 session in a row; expected a board that runs target 'host' in .* 1 s"):
        impatient(X)


def test_a_wrong_address_or_key(fleet, monkeypatch):
    with one_line("key 'pi' is unknown; expected one of: .*here"):
        compile_network(NET, 1, device=fleet.board("pi"))
    with one_line(r"tracker 127.0.0.1:.*: .*refused; expected one, .* tvm.exec.rpc_tracker"):
        compile_network(NET, 1, device=Board(f"127.0.0.1:{free_port()}", "here"))
    with one_line("tracker no.invalid:9190: .*; expected one"):
        compile_network(NET, 1, device=Board("no.invalid:9190", "here"))
    for name in ("a" * 64, "a..b"):
        with one_line(f"tracker {name}:9190: .*label.* too long.*; expected one"):
            compile_network(NET, 1, device=Board(f"{name}:9190", "here"))


@pytest.mark.parametrize("greets", [False, True])
def test_a_tracker_that_does_not_answer(monkeypatch, greets):
    monkeypatch.setattr(sessions, "_ANSWER", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet():
            server.accept()[0].close()  # a look whether something is there
            with server.accept()[0] as connection:
                connection.sendall(connection.recv(4))
                while connection.recv(100):  # until the other side goes
                    pass

        if greets:
            threading.Thread(target=greet, daemon=True).start()
        port = server.getsockname()[1]
        with one_line(f"tracker 127.0.0.1:{port}: timed out; expected one"):
            compile_network(NET, 1, device=Board(f"127.0.0.1:{port}", "here"))


def test_a_session_that_is_given_up_leaves_its_board_free(fleet):
    """Even where it is not the board that has lost it, and something still holds it."""
    line = sessions.line(fleet.board("here"))
    held = line.session()
    line.drop()
    until(lambda: fleet.n_free("here") == 1)
    assert line.session() is not held


@on_x86
def test_a_board_of_another_architecture(fleet):
    with one_line("board 'here' .* is x86_64, but target 'cortex-a72' is for aarch64; choose"):
        compile_network(NET, 1, "cortex-a72", device=fleet.board("here"))
    same(compile_network(NET, 3, device=fleet.board("here"))(X), on_this_machine())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pi", "rpi4"), "tracker 'pi'; expected HOST:PORT"),
        ((":9190", "rpi4"), "tracker ':9190'; expected HOST:PORT"),
        (("pi:70000", "rpi4"), "tracker 'pi:70000'; expected HOST:PORT"),
        (("pi:9190", ""), "key ''; expected a word"),
        (("pi:9190", "a b"), "key 'a b'; expected a word"),
        ((9190, "rpi4"), "tracker 9190; expected HOST:PORT"),
        (("pi:9190", None), "key None; expected a word"),
        *(
            (("pi:9190", "rpi4", t), "timeout .*; expected seconds, more than 0 and at most 86400")
            for t in (0.0, -1, float("nan"), float("inf"), 1e10, "9")
        ),
        (("pi:9190", "rpi4", 1.0, 0), "attempts is 0; expected a whole number"),
        (("pi:9190", "rpi4", 1.0, 1.5), "attempts is 1.5; expected a whole number of at least 1"),
    ],
)
def test_a_bad_description(arguments, message):
    with one_line(message):
        Board(*arguments)


def test_an_address_of_version_6():
    assert Board("[::1]:9190", "rpi4").address == ("::1", 9190)


def test_what_the_environment_lacks_is_named(monkeypatch):
    for variable, value in zip(VARIABLES, ("pi", "9190", "rpi4"), strict=True):
        monkeypatch.setenv(variable, value)
    assert board_from_environment() == Board("pi:9190", "rpi4")
    assert board_from_environment("other:1", "k") == Board("other:1", "k")
    for variable in VARIABLES:
        with monkeypatch.context() as without:
            without.delenv(variable)
            with one_line(f"variable {variable} is not set; set it, or use --"):
                compile_network(NET, 1, device="rpc")


def parsed(*words):
    parser = argparse.ArgumentParser()
    options.add_device(parser)
    return options.device(parser.parse_args(words))


def test_options_of_the_command_line():
    assert parsed() == "local"
    assert parsed("--device", "emulated") == "emulated"
    assert parsed("--tracker", "pi:1", "--key", "k") == Board("pi:1", "k")
    assert parsed("--device", "rpc", "--tracker", "pi:1", "--key", "k") == Board("pi:1", "k")
    with one_line("--key is for boards; expected --device rpc, not local"):
        parsed("--key", "k")
    with one_line("--tracker is for boards; expected --device rpc, not emulated"):
        parsed("--tracker", "pi:1", "--device", "emulated")


def small_convolutions():
    layers: list[Layer] = [
        *(Conv2d(1, 5, 2, padding=1), BatchNorm2d(*np.full((4, 5), 0.7)), GELU(), AvgPool2d(2)),
        *(Conv2d(5, 8, 2), ELU(), MaxPool2d((1, 2), method="tree"), LeakyReLU(0.1), Flatten()),
        *(Dense(32, 6), Tanh(), Dense(6, 5), Sigmoid()),
    ]
    return Network(layers, input_shape=(1, 5, 9), seed=1)


NETWORKS = {
    "every activation and pooling": (small_convolutions, (2, 1, 5, 9)),
    "mlp": (lambda: Network([Dense(784, 100), ReLU(), Dense(100, 10)], seed=1), (10, 784)),
    "lenet5": (lambda: Network(lenet5(10), input_shape=DIGITS, seed=1), (1, *DIGITS)),
}


@SCHEDULES
@pytest.mark.parametrize("name", NETWORKS)
def test_arm_is_the_emulated_core_and_the_reference(arm, name, schedule):
    make, shape = NETWORKS[name]
    net, x = make(), np.random.default_rng(2).random(shape)
    got = compile_network(net, len(x), "cortex-a72", schedule, device=arm)(x)
    # The same machine code on the same inputs.
    same(got, compile_network(net, len(x), "cortex-a72", schedule, device="emulated")(x))
    exact = net.propagate(x)
    # As the kernels are made for; activations by quadrature add 1.2e-5 each to the variance.
    s = np.sqrt(exact.var)
    assert (np.abs(got.mean - exact.mean) <= 2e-5 * (np.abs(exact.mean) + s)).all()
    assert (np.abs(got.var - exact.var) <= 5e-5 * exact.var).all()


def test_arm_is_this_machine_within_rounding(arm):
    there = compile_network(NET, 3, "cortex-a72", device=arm)
    got, here = there(X), on_this_machine()
    # Each within its rounding of the reference, so twice that apart.
    m_bound, v_bound = network_bound(NET, X)
    assert (np.abs(got.mean - here.mean) <= 2 * m_bound).all()
    assert (np.abs(got.var - here.var) <= 2 * v_bound).all()
    assert there.kernel.time is not None
    assert 0 < there.kernel.time() < 0.1


@on_x86
def test_arm_does_not_take_kernels_for_this_machine(arm):
    with one_line("board 'arm' .* is aarch64, but target 'host' is for x86_64; choose a target"):
        compile_network(NET, 1, device=arm)
    same(
        compile_network(NET, 3, "cortex-a72", device=arm)(X),
        compile_network(NET, 3, "cortex-a72", device="emulated")(X),
    )
