"""The command line: one program, few words.

Exit codes: 0 done; 1 a check failed; 2 the input or the call is wrong, one line on standard error.
Only the module of the command that runs is imported, and it imports what is heavy inside `run`:
help answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import NoReturn

from refbnn.errors import (
    InputError,
    InputRangeWarning,
    cut,
    naming_the_extra,
    quoted,
    suggestion,
)

HELD, FAILED, WRONG_INPUT = 0, 1, 2
_LONGEST_MESSAGE = 2000  # characters; it may name files and list what was expected
GROUPS = {
    "measure noise": {"noise": "fit a law to measured device noise, show it, sample it"},
    "train and predict": {
        "data": "list the data sets, fetch their files, draw examples",
        "train": "train a network by mean-field variational inference, with checkpoints",
        "predict": "predict inputs from a file, with uncertainty, as CSV",
        "import": "turn a posterior of Pyro, NumPyro, bayesian-torch or torchbnn into a checkpoint",
    },
    "judge uncertainty": {
        "evaluate": "measure accuracy, log score, and uncertainty in and out of distribution",
        "compare": "compare propagation with many sampled passes; exit code 1 if a limit is missed",
        "calibrate": "choose the factor on the weights' variance that propagation uses",
        "diagnose": "show where propagation's Gaussian assumption is poor, layer by layer",
    },
    "run on hardware": {
        "compile": "compile a network to a C library for a board without Python",
        "tune": "search the fastest schedule of a network's kernels",
        "bench": "measure a network's kernels beside NumPy, Numba and other tools",
    },
    "check and reproduce": {
        "verify": "hold every operator against Monte Carlo, every kernel against the reference",
        "reproduce": "run the whole chain, from measured noise to a verified kernel",
        "figures": "draw the figures, as PNG, with their numbers as JSON",
    },
}
COMMANDS = {name: text for group in GROUPS.values() for name, text in group.items()}
_MODULES = {"import": "import_", "bench": "bench.command", "reproduce": "reproduce.command"}


class _Parser(argparse.ArgumentParser):
    """Argument parser without abbreviations, whose errors are one line."""

    def __init__(self, **settings):
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        message = cut(message, _LONGEST_MESSAGE)
        self.exit(WRONG_INPUT, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def parse_known_args(self, args=None, namespace=None):
        # Before everything else: a misspelt option would be reported as one that is missing.
        for word in [] if self._subparsers else takewhile(lambda word: word != "--", args):
            option = word.partition("=")[0]
            if option.startswith("--") and option not in self._option_string_actions:
                self.error(
                    f"no option {quoted(option)}{suggestion(option, self._option_string_actions)}"
                )
        return super().parse_known_args(args, namespace)

    def _check_value(self, action, value):
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += suggestion(str(value), map(str, action.choices))
            raise


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is returned."""
    if sys.stderr is None:  # closed by the caller, as `2>&-` does
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, for the rest of the process
    if sys.stdout is None:
        print("refbnn: standard output is closed; expected a place to print to", file=sys.stderr)
        return WRONG_INPUT
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] not in COMMANDS:
        _answer_without_command(words)
    name, *words = words
    try:
        with naming_the_extra(), _warnings_in_a_line(name):
            failed = _run(name, words)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has gone; so that closing standard output is silent too:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (InputError, OSError) as error:  # the latter: standard output on a full disk, say
        # One line, whatever a file is called.
        message = cut(error, _LONGEST_MESSAGE).removeprefix(f"{name}: ")
        _say(f"refbnn {name}: {message}")
        return WRONG_INPUT
    except MemoryError as error:
        _say(f"refbnn {name}: not enough memory ({error})")
        return WRONG_INPUT
    except KeyboardInterrupt:
        _say(f"refbnn {name}: interrupted")
        return 128 + signal.SIGINT  # as the shell reports a program ended by a signal
    for check in failed:
        _say(f"refbnn {name}: check failed: {check}")
    return FAILED if failed else HELD


def _say(line: str) -> None:
    """Print a line on standard error; the exit code tells the same where that cannot be written."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr)


@contextmanager
def _warnings_in_a_line(name: str) -> Iterator[None]:
    """Print each of our warnings once, in a line on standard error, when the command has ended.

    An error takes them up, as they may be its reason: it stays one line.
    """
    said: list[str] = []
    with warnings.catch_warnings():
        warnings.filterwarnings("once", category=InputRangeWarning)
        others = warnings.showwarning

        def show(message, category, *place, **more) -> None:
            if issubclass(category, InputRangeWarning):
                said.append(str(message))
            else:
                others(message, category, *place, **more)

        warnings.showwarning = show
        try:
            yield
        except InputError as error:
            if said:
                raise InputError(f"{error}; {'; '.join(said)}") from None
            raise
    for message in said:
        _say(f"refbnn {name}: warning: {message}")


def parser_of(name: str) -> argparse.ArgumentParser:
    """Build the parser of a command, which sets `run_command`."""
    module = importlib.import_module(f"refbnn.cli.{_MODULES.get(name, name)}")
    parser = _Parser(prog=f"refbnn {name}", description=COMMANDS[name])
    module.add_arguments(parser)
    parser.set_defaults(run_command=module.run)
    return parser


def _run(name: str, words: list[str]) -> list[str]:
    """Run a command; the checks that failed are returned."""
    from refbnn.cli import arguments as shared

    arguments = parser_of(name).parse_args(words)
    shared.require_distinct_files(name, vars(arguments))
    # A polite kill unwinds like an interrupt, so that nothing half-written stays.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # "−" on a terminal that knows ASCII alone
    return arguments.run_command(arguments)


def _answer_without_command(words: list[str]) -> NoReturn:
    """Print help or the version, or say that there is no such command."""
    import refbnn

    lines = ["Reference Bayesian neural networks with device-shaped weights: noise laws,"]
    lines += ["variational inference, moment propagation and TVM kernels."]
    for title, commands in GROUPS.items():
        lines += ["", f"{title}:", *(f"  {name:<10} {text}" for name, text in commands.items())]
    parser = _Parser(
        prog="refbnn",
        usage="refbnn COMMAND ...",
        description="\n".join(lines),
        epilog="`refbnn COMMAND --help` explains a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"refbnn {refbnn.__version__}")
    if words and not words[0].startswith("-"):
        parser.error(f"no command {quoted(words[0])}{suggestion(words[0], COMMANDS)}")
    parser.parse_args(words)
    parser.error("no command; expected one of those that --help lists")
