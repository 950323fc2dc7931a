"""The command line: one program, few words.

Exit codes: 0 done; 1 a check did not hold; 2 the input or the call is wrong, one line on standard
error. Everything heavy is imported by the command that needs it, so that help answers at once.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from refbnn.cli import (
    calibrate,
    compare,
    compile,
    data,
    diagnose,
    evaluate,
    figures,
    import_,
    noise,
    predict,
    train,
    tune,
    verify,
)
from refbnn.cli.bench import command as bench
from refbnn.cli.reproduce import command as reproduce
from refbnn.errors import InputError

HELD, FAILED, WRONG_INPUT = 0, 1, 2
COMMANDS: dict[str, Any] = {
    "reproduce": reproduce,
    "verify": verify,
    "figures": figures,
    "noise": noise,
    "data": data,
    "train": train,
    "calibrate": calibrate,
    "evaluate": evaluate,
    "compare": compare,
    "predict": predict,
    "diagnose": diagnose,
    "import": import_,
    "compile": compile,
    "tune": tune,
    "bench": bench,
}


class _Parser(argparse.ArgumentParser):
    """Argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_INPUT, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is returned."""
    parser = _Parser(
        prog="refbnn",
        description="Reference Bayesian neural networks with device-shaped weights: "
        "noise laws, variational inference, moment propagation and TVM kernels.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    arguments = parser.parse_args(argv)
    # A polite kill unwinds like an interrupt, so that nothing half-written stays.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # "−" on a terminal that knows ASCII alone
    try:
        failed = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has gone; so that closing standard output is silent too:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (InputError, OSError) as error:  # the latter: standard output on a full disk, say
        message = " ".join(str(error).splitlines())  # one line, whatever a file is called
        message = message.removeprefix(f"{arguments.command}: ")
        print(f"refbnn {arguments.command}: {message}", file=sys.stderr)
        return WRONG_INPUT
    except MemoryError as error:
        print(f"refbnn {arguments.command}: not enough memory ({error})", file=sys.stderr)
        return WRONG_INPUT
    except KeyboardInterrupt:
        print(f"refbnn {arguments.command}: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT  # as the shell reports a program ended by a signal
    for name in failed:
        print(f"refbnn {arguments.command}: check failed: {name}", file=sys.stderr)
    return FAILED if failed else HELD
