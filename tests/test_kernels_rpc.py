"""Kernels on boards: TVM's own tracker and servers, here on this machine; what breaks, and says so."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np
import pytest

from kernels import bench, compile_network
from kernels.devices import Board
from refbnn.layers import Dense, ReLU
from refbnn.network import Network

pytest.importorskip("tornado", reason="the extra `rpc` is not installed")
pytest.importorskip("ziglang", reason="the extra `rpc` is not installed")


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


def started(words, log):
    with log.open("w") as file:
        return subprocess.Popen(words, stderr=file, stdout=file, start_new_session=True)


def killed(process):
    os.killpg(process.pid, signal.SIGKILL)  # it has children
    process.wait()


@dataclass
class Fleet:
    """A tracker and its servers, processes of this machine."""

    folder: object
    port: int
    servers: dict

    @property
    def tracker(self):
        return f"127.0.0.1:{self.port}"

    def board(self, key, **options):
        return Board(self.tracker, key, **options)

    def summary(self):
        from tvm.rpc import connect_tracker

        session = connect_tracker("127.0.0.1", self.port)
        try:
            return session.summary()
        finally:
            session.close()

    def add(self, name, key, words=()):
        """Start a server, and wait for it to be known and free."""
        before = self.n_free(key)
        port = free_port()
        where = ["--host", "127.0.0.1", "--port", str(port), "--port-end", str(port + 1)]
        where += ["--tracker", self.tracker, "--key", key]
        words = words or [sys.executable, "-m", "tvm.exec.rpc_server"]
        self.servers[name] = started([*words, *where], self.folder / f"{name}.log")
        until(lambda: self.n_free(key) > before)

    def n_free(self, key):
        return self.summary()["queue_info"].get(key, {}).get("free", 0)

    def kill(self, name):
        killed(self.servers.pop(name))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fleet")
    port = free_port()
    where = ["--host", "127.0.0.1", "--port", str(port), "--port-end", str(port + 1)]
    tracker = started(
        [sys.executable, "-m", "tvm.exec.rpc_tracker", *where], folder / "tracker.log"
    )

    def answers():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    made = Fleet(folder, port, {})
    try:
        until(answers)
        made.add("only", "here")
        yield made
    finally:
        for process in [*made.servers.values(), tracker]:
            killed(process)


NET = Network([Dense(31, 37), ReLU(), Dense(37, 5)], seed=1)
X = np.random.default_rng(2).random((3, 31))


def test_network_is_that_of_this_machine(fleet):
    there, here = compile_network(NET, 3, device=fleet.board("here")), compile_network(NET, 3)
    for x in (X, 0.5 * X, X):
        got, expected = there(x), here(x)
        np.testing.assert_array_equal(got.mean, expected.mean)
        np.testing.assert_array_equal(got.var, expected.var)
    assert 0 < bench.on_device({"": there.kernel}, repeats=3)[""] < 1e-3
