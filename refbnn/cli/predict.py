"""`refbnn predict`: a trained network's answers for inputs, with their uncertainty, as CSV."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from pathlib import Path

from refbnn.cli import arguments as shared
from refbnn.errors import InputError
from refbnn.files.atomic import write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    shared.add_model(parser)
    parser.add_argument(
        "inputs",
        metavar="INPUTS",
        type=Path,
        help="inputs (N, ...): .npy, or IDX, plain or gzip; uint8 pixels are divided by 255",
    )
    text = (
        "number of targets of a regression; by default as trained, or the outputs are logits of "
        "classes"
    )
    shared.add_integer(parser, "--targets", 1, None, text)
    parser.add_argument(
        "--probabilities", action="store_true", help="also write the probability of every class"
    )
    shared.add_out(parser, "FILE.csv", "(default: standard output)")
    shared.add_json(parser, "the rows")
    shared.add_method(parser, "pfp")
    shared.add_threads(parser)
    shared.add_seed(parser)


def run(arguments: argparse.Namespace) -> list[str]:
    """Write one row for each input."""
    from threadpoolctl import threadpool_limits

    from refbnn import load, predict
    from refbnn.cli.output import write_json
    from refbnn.prediction.predict import is_regression, known_targets, predict_targets

    net = load(arguments.model)
    x = _read(arguments.inputs)
    try:
        x = net.shaped(x)
    except InputError as error:
        raise InputError(f"{arguments.inputs}: {error}") from None
    chosen = {
        "method": arguments.method,
        "seed": arguments.seed,
        "n_samples": arguments.samples,
    }
    targets = arguments.targets or known_targets(net)
    if not targets and is_regression(net.likelihood):
        raise InputError(
            f"{arguments.model} was trained on targets, and does not say how many; expected "
            "--targets N"
        )
    if targets and arguments.probabilities:
        raise InputError("--probabilities with a regression; expected a network of classes")
    with threadpool_limits(arguments.threads, "blas"):
        if targets is None:
            columns = _classes(predict(net, x, **chosen), arguments.probabilities)
        else:
            columns = _targets(predict_targets(net, x, targets, **chosen))
    columns = {"index": range(len(x)), **{name: part.tolist() for name, part in columns.items()}}
    rows = list(zip(*columns.values(), strict=True))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([list(columns), *rows])
    numbers = [dict(zip(columns, row, strict=True)) for row in rows]
    write_json(arguments.json, {"method": arguments.method, "rows": numbers})
    if arguments.out is None:
        sys.stdout.write(text.getvalue())
    else:
        write_text(arguments.out, text.getvalue())
    return []


def _read(path: Path):
    """Read inputs as float64, (N, ...), N ≥ 1."""
    import numpy as np

    from refbnn.data import read_idx
    from refbnn.files.archive import LARGEST
    from refbnn.files.npy import parse

    if path.suffix == ".npz":
        raise InputError(
            f"{path}: an .npz of x and y is for --data and --id; expected x alone, as numpy.save "
            "writes it (.npy), or an IDX file"
        )
    if path.suffix == ".npy":
        if not path.is_file():
            raise InputError(f"{path}: not a file; expected an array")
        try:
            if path.stat().st_size > LARGEST:
                raise InputError(f"{path}: expected at most {LARGEST} bytes")
            x = parse(path.read_bytes(), str(path))
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}; expected an array") from None
    else:
        x = read_idx(path)
    if x.dtype.kind not in "fiu" or x.ndim < 2 or not x.size:
        raise InputError(f"{path}: {x.dtype} of shape {x.shape}; expected numbers (N, ...)")
    x = x / 255.0 if x.dtype == np.uint8 else np.asarray(x, float)
    if not np.isfinite(x).all():
        raise InputError(f"{path}: holds NaN or infinity; expected finite numbers")
    return x


def _classes(prediction, probabilities: bool) -> dict:
    """Columns of a classifier."""
    by_class = prediction.probabilities
    columns = {
        "label": prediction.labels,
        "probability": by_class.max(axis=-1),
        "entropy_nats": prediction.entropy,
        "aleatoric_nats": prediction.aleatoric,
        "mutual_information_nats": prediction.mutual_information,
    }
    if probabilities:
        columns |= {f"probability_{c}": by_class[:, c] for c in range(by_class.shape[1])}
    return columns


def _targets(prediction) -> dict:
    """Columns of a regression."""
    columns: dict = {}
    for d in range(prediction.mean.shape[1]):
        columns |= {
            f"mean_{d}": prediction.mean[:, d],
            f"epistemic_sd_{d}": prediction.epistemic[:, d] ** 0.5,
            f"aleatoric_sd_{d}": prediction.aleatoric[:, d] ** 0.5,
        }
    return columns
