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
    text = "number of targets of a regression; by default the outputs are logits of classes"
    shared.add_integer(parser, "--targets", 1, None, text)
    shared.add_out(parser, "FILE.csv", "(default: standard output)")
    shared.add_method(parser, "pfp")
    shared.add_threads(parser)
    shared.add_seed(parser)


def run(arguments: argparse.Namespace) -> list[str]:
    """Write one row for each input."""
    from threadpoolctl import threadpool_limits

    from refbnn import load, predict
    from refbnn.prediction.predict import predict_targets

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
    with threadpool_limits(arguments.threads, "blas"):
        if arguments.targets is None:
            header, columns = _classes(predict(net, x, **chosen))
        else:
            header, columns = _targets(predict_targets(net, x, arguments.targets, **chosen))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["index", *header])
    writer.writerows([index, *row] for index, row in enumerate(zip(*columns, strict=True)))
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


def _classes(prediction) -> tuple[list[str], list]:
    header = ["label", "probability", "entropy_nats", "aleatoric_nats", "mutual_information_nats"]
    return header, [
        prediction.labels,
        prediction.probabilities.max(axis=-1),
        prediction.entropy,
        prediction.aleatoric,
        prediction.mutual_information,
    ]


def _targets(prediction) -> tuple[list[str], list]:
    header, columns = [], []
    for d in range(prediction.mean.shape[1]):
        header += [f"mean_{d}", f"epistemic_sd_{d}", f"aleatoric_sd_{d}"]
        columns += [
            prediction.mean[:, d],
            prediction.epistemic[:, d] ** 0.5,
            prediction.aleatoric[:, d] ** 0.5,
        ]
    return header, columns
