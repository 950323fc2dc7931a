import hashlib
import json
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from refbnn.data import load, packaged, published
from refbnn.errors import InputError
from tests.helpers.command import run

NAMES = list(published.MNIST.checksums)


class Server:
    """Files on loopback; `cut` are sent only by half, though announced whole."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.cut: set[str] = set()
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.lstrip("/")
                outer.asked.append(name)
                content = outer.files.get(name)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if name in outer.cut else content)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/"


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


@pytest.fixture
def mnist(server, tmp_path, monkeypatch):
    """MNIST's publication with the packaged subset as its files, on the server."""
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "REFBNN_DATA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in NAMES:
        split = "test" if name.startswith("t10k") else "train"
        kind = name.split("-", 1)[1]
        server.files[name] = packaged(f"mnist-subset-{split}-{kind}").read_bytes()
    digests = {n: f"sha256:{hashlib.sha256(c).hexdigest()}" for n, c in server.files.items()}
    return replace(published.MNIST, url=server.url, checksums=digests)


def left(tmp_path):
    return sorted(path.name for path in tmp_path.rglob("*") if path.is_file())


def test_fetched_files_are_loaded_and_fetched_once(server, mnist, tmp_path):
    with pytest.raises(InputError, match="refbnn data fetch mnist"):
        load("mnist", "test")
    paths = published.fetch(mnist)
    assert [path.name for path in paths] == NAMES
    assert left(tmp_path) == sorted(NAMES)
    np.testing.assert_array_equal(load("mnist", "test").x, load("mnist-subset", "test").x)
    published.fetch(mnist)
    assert server.asked == NAMES
    paths[0].write_bytes(b"altered")
    published.fetch(mnist)
    assert server.asked == [*NAMES, NAMES[0]]
    assert paths[0].read_bytes() == server.files[NAMES[0]]


def test_wrong_checksum(server, mnist, tmp_path):
    server.files[NAMES[1]] = server.files[NAMES[1]][::-1]
    with pytest.raises(InputError, match=rf"{NAMES[1]}: .*hash.*expected sha256:") as error:
        published.fetch(mnist)
    assert "\n" not in str(error.value)
    assert left(tmp_path) == [NAMES[0]]  # what came before it, whole


def test_interrupted_download(server, mnist, tmp_path):
    server.cut.add(NAMES[0])
    with pytest.raises(InputError, match=f"{NAMES[0]}: cannot be downloaded") as error:
        published.fetch(mnist)
    assert "\n" not in str(error.value)
    assert left(tmp_path) == []


def test_absent_file(server, mnist, tmp_path):
    del server.files[NAMES[2]]
    with pytest.raises(InputError, match=rf"{NAMES[2]}: cannot be downloaded \(404"):
        published.fetch(mnist)
    assert left(tmp_path) == sorted(NAMES[:2])


def test_cache_that_cannot_be_written(mnist, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match=f"{NAMES[0]}: "):
        published.fetch(mnist)


def test_own_files_are_not_fetched(server, mnist, tmp_path, monkeypatch):
    own = tmp_path / "own"
    (own / "mnist").mkdir(parents=True)
    (own / "mnist" / NAMES[0]).write_bytes(b"own")
    monkeypatch.setenv("REFBNN_DATA", str(own))
    paths = published.fetch(mnist)
    assert paths[0] == own / "mnist" / NAMES[0]
    assert server.asked == NAMES[1:]


def test_fetch_command(capsys, server, mnist, tmp_path, monkeypatch):
    monkeypatch.setattr(published, "PUBLICATIONS", (mnist,))
    code, out, err = run(capsys, "data", "fetch", "mnist")
    assert (code, err) == (0, "")
    assert [line.rpartition("/")[2] for line in out.splitlines()] == NAMES


def test_fetch_command_without_a_network(capsys, mnist, tmp_path, monkeypatch):
    with socket.socket() as free:  # a port that nobody listens on
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    closed = replace(mnist, url=f"http://127.0.0.1:{port}/")
    monkeypatch.setattr(published, "PUBLICATIONS", (closed,))
    code, out, err = run(capsys, "data", "fetch", "mnist")
    assert (code, out) == (2, "")
    assert err.startswith(
        f"refbnn data: http://127.0.0.1:{port}/train-images-idx3-ubyte.gz: cannot"
    )
    assert err.count("\n") == 1
    assert left(tmp_path) == []


def test_list_command(capsys, mnist, tmp_path):
    table = tmp_path / "table.json"
    code, out, err = run(capsys, "data", "list", "--json", table)
    listed = {entry["name"]: entry for entry in json.loads(table.read_text())["data_sets"]}
    assert listed["mnist-subset"]["sizes"] == {"train": 5000, "test": 1000}
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line for line in out.splitlines()[2:]}
    assert "train and test" in rows["dirty-mnist-subset"]
    assert " no " in rows["dirty-mnist"]
    assert "60,000" in rows["fashion-mnist"]
    assert {"rotated-mnist", "ambiguous-mnist", "utkface:FOLDER"} <= rows.keys()
    published.fetch(mnist)
    out = run(capsys, "data", "list")[1]
    rows = {line.split()[0]: line for line in out.splitlines()[2:]}
    assert "train and test" in rows["dirty-mnist"]
    assert " no " in rows["fashion-mnist"]


@pytest.mark.parametrize("name", ["fashion-subset", "rotated-mnist-subset"])
def test_show_command(capsys, mnist, tmp_path, name):
    picture = tmp_path / "grid.png"
    code, out, err = run(capsys, "data", "show", name, "-o", picture)
    assert (code, err) == (0, "")
    assert out.startswith(f"{picture}: test split, comes with the library")
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fetch", "utkface"], "no data set 'utkface' to fetch; expected some of mnist"),
        (["fetch"], "required: NAME"),
        (["show", "mnits", "-o", "a.png"], "no data set of that name"),
        (["show", "fashion-subset", "--split", "train", "-o", "a.png"], "has no train split"),
        (["show", "mnist-subset"], "required: -o"),
        (["show", "mnist-subset", "-o", "a.xyz"], "a.xyz: expected a name that ends in .png"),
        (["show", "mnist-subset", "-o", "absent/a.png"], "not writable"),
        (["show", "utkface:absent", "-o", "a.png"], "expected a folder of UTKFace"),
    ],
)
def test_bad_calls(capsys, mnist, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "data", *words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert left(tmp_path) == []


def test_packaged_data_need_nothing_for_downloads():
    # Reading what comes with the library must not wait for the import of an HTTP client.
    code = (
        "import sys; from refbnn.data import load; load('mnist-subset', 'test');"
        "sys.exit(bool({'pooch', 'requests', 'PIL'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
