"""Wrong options of the commands that judge a network and run it: one line, exit code 2."""

import re

import pytest

from refbnn import Network, cli, save
from refbnn.layers import Conv2d, Dense, Flatten, ReLU


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three networks, something that is none, and a folder with a file of somebody else."""
    folder = tmp_path_factory.mktemp("wrong")
    save(folder / "good.npz", Network([Dense(784, 2), ReLU(), Dense(2, 10)]))
    save(folder / "correlated.npz", Network([Dense(784, 1)], correlated=[0]))
    save(folder / "shapeless.npz", Network([Conv2d(1, 1, 3), Flatten()]))
    (folder / "words.npz").write_text("words")
    (folder / "full").mkdir()
    (folder / "full" / "thesis.txt").write_text("years of work")
    return folder


CALLS = {
    "diagnose words.npz --data mnist-subset": "words.npz: cannot be read",
    "diagnose good.npz --data mnits": "did you mean 'mnist'?",
    "diagnose good.npz --data mnist-subset --samples 5": "--samples 5: expected 0, or at least 20",
    "diagnose good.npz --data mnist-subset --threshold -1": "--threshold: '-1'; expected a number",
    "diagnose correlated.npz --data mnist-subset": "have correlated weights",
    "compile absent.npz -o new": "absent.npz: not a file",
    "compile good.npz -o new --schedule hnad": "--schedule hnad: .*did you mean 'hand'?",
    "compile good.npz -o new --form row": "--form row: .*did you mean 'raw'?",
    "compile good.npz -o new --target hots": "target 'hots' is unknown; .*did you mean 'host'?",
    "compile good.npz -o full": "full holds thesis.txt",
    "compile correlated.npz -o new": r"layers \[0\] have correlated weights",
    "compile shapeless.npz -o new": "expected the shape of one input",
    "tune good.npz --device emulate": "device 'emulate' is unknown; .*did you mean 'emulated'?",
    "tune good.npz --trials 0": "--trials: '0'; expected an integer, at least 1",
    "tune good.npz --key pi": "--key is for boards",
    "tune correlated.npz": r"layers \[0\] have correlated weights",
    "tune words.npz": "words.npz: cannot be read",
    "bench good.npz --schedule tunned": "--schedule tunned: .*did you mean 'tuned'?",
    "bench good.npz --max-pool exact": "has no MaxPool2d",
    "bench good.npz --json good.npz": "this is model too; choose another name",
    "bench good.npz --batch-size 0": "--batch-size: '0'; expected an integer",
    "bench correlated.npz": r"layers \[0\] have correlated weights",
    "verify --target cortex-a27": "'cortex-a27' is unknown; .*did you mean 'cortex-a7",
    "verify --mc-samples 5": "--mc-samples: '5'; expected an integer, 50000 to",
    "verify --device lcoal": "device 'lcoal' is unknown; .*did you mean 'local'?",
    "verify --json none/checks.json": "there is no folder none",
    "verify --column g": "expected --noise-data FILE",
    "figures fitz": "figure fitz: .*did you mean 'fits'?",
    "figures fits -o good.npz": "good.npz: File exists; expected a folder",
    "figures --seed -1": "--seed: '-1'; expected an integer, at least 0",
    "figures --smaples 3": "no option '--smaples'",
    "figures fits --mc-samples x": "--mc-samples: 'x'; expected an integer",
}


@pytest.mark.parametrize("call", CALLS)
def test_one_line_and_code_2(folder, monkeypatch, capsys, call):
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    code: object
    try:
        code = cli.main(call.split())
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert re.search(CALLS[call].replace("?", r"\?"), err), err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert sorted(folder.rglob("*")) == before
