"""Cycles of a loop on an Arm core, as public analysers predict them from its assembly.

    OSACA      Laukemann et al. 2018: the larger of the cycles of the busiest unit and those of the
               longest chain from iteration to iteration. It does not know that a core forwards a
               sum to the next multiply-add before the product is done: loops of few sums seem too
               slow. Instructions that it does not know take no time.
    llvm-mca   simulates a hundred iterations with LLVM's model of the core: for the Cortex-A72
               that of the A57, as LLVM 14 and later do. LLVM uses the same model for the A76,
               which does not fit.

Both assume all data in the first-level cache. Each is used where it is installed: OSACA with the
extra `analysis`, llvm-mca with LLVM. Both run as separate processes.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

from kernels.devices.emulated_arm.innermost_loops import LABEL, Loop
from refbnn.errors import InputError

# Names that the analysers give the cores. The Neoverse N1 is the A76's sibling for servers.
_OSACA = {"cortex-a72": "A72", "cortex-a76": "N1"}
_LLVM_MCA = {"cortex-a53": "cortex-a53", "cortex-a72": "cortex-a72"}

_ITERATIONS = 100


@dataclass(frozen=True)
class Prediction:
    """Prediction of one analyser.

    Parameters
    ----------
    cycles : float
        Cycles of one iteration.
    unknown : int
        Instructions that the analyser does not know, and left out.
    """

    cycles: float
    unknown: int = 0


Analyser = Callable[[Loop], Prediction]


def analysers(core: str) -> tuple[dict[str, Analyser], dict[str, str]]:
    """Find the analysers of a core, by name; and why others are absent, by name."""
    found: dict[str, Analyser] = {}
    absent = {}
    for name, cores, function, installed, how in (
        ("OSACA", _OSACA, _osaca, find_spec("osaca"), "pip install 'refbnn[analysis]'"),
        ("llvm-mca", _LLVM_MCA, _llvm_mca, shutil.which("llvm-mca"), "a package such as llvm"),
    ):
        if core not in cores:
            absent[name] = f"has no model of {core}; expected one of: {', '.join(cores)}"
        elif installed is None:
            absent[name] = f"is not installed; install it with {how}"
        else:
            found[name] = partial(_predicted, function, cores[core])
    return found, absent


def _predicted(function: Callable[[str, str], Prediction], model: str, loop: Loop) -> Prediction:
    return function(model, "\n".join([f"{LABEL}:", *loop.body, ""]))


@cache
def _osaca(model: str, assembly: str) -> Prediction:
    options = ("--arch", model, "--ignore-unknown")
    report = _output("OSACA", assembly, sys.executable, "-m", "osaca", *options)
    # Rows of the table end in flags and the instruction; an X marks an unknown one. The last row
    # holds the cycles of each unit, of the longest chain, and of the chain between iterations.
    unknown = re.findall(r"^ +\d+ \|.*\| +[P*]* *X[ P*]", report, re.MULTILINE)
    totals = re.search(r"^ +\d[\d. ]*$", report, re.MULTILINE)
    if totals is None:
        raise InputError(f"OSACA: no table for {model}; expected the cycles of a loop")
    *units, _, chain = map(float, totals[0].split())
    return Prediction(max([*units, chain]), len(unknown))


@cache
def _llvm_mca(model: str, assembly: str) -> Prediction:
    options = ("-mtriple=aarch64", f"-mcpu={model}", f"-iterations={_ITERATIONS}", "--json")
    report = json.loads(_output("llvm-mca", assembly, "llvm-mca", *options))
    return Prediction(report["CodeRegions"][0]["SummaryView"]["TotalCycles"] / _ITERATIONS)


def _output(name: str, assembly: str, *command: str) -> str:
    """Run a program on a file of assembly, and return its standard output."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "loop.s"
        file.write_text(assembly, encoding="utf-8")
        done = subprocess.run([*command, str(file)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise InputError(f"{name}: {lines[0]}; expected the cycles of a loop")
    return done.stdout
