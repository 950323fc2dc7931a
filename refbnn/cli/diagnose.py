"""`refbnn diagnose`: where a network's propagation should not be trusted, layer by layer."""

from __future__ import annotations

import argparse
from pathlib import Path

from refbnn.cli import arguments as options
from refbnn.files import require_writable, write_text

HELP = "show where propagation's Gaussian assumption is poor, layer by layer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Model, data, threshold."""
    parser.add_argument("model", metavar="MODEL.npz", type=Path)
    parser.add_argument("--data", metavar="NAME", required=True, help="data set, its test split")
    parser.add_argument(
        "--inputs",
        type=options.integer_from(1),
        default=200,
        metavar="N",
        help="the first N examples (default: %(default)s)",
    )
    parser.add_argument(
        "--threshold",
        type=_positive,
        metavar="NATS",
        help="divergence from a Gaussian to flag (default: 1/60, below which 30 samples would "
        "not show it)",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the numbers as JSON")
    options.add_threads(parser)


def run(arguments: argparse.Namespace) -> list[str]:
    """Print a row a layer with weights."""
    from tabulate import tabulate
    from threadpoolctl import threadpool_limits

    from refbnn import data, load
    from refbnn.cli.report import as_json
    from refbnn.diagnostics import THRESHOLD, diagnose

    if arguments.json is not None:
        require_writable(arguments.json)
    net = load(arguments.model)
    examples = data.load(arguments.data, "test")
    x = net.shaped(examples.x[: arguments.inputs])
    threshold = THRESHOLD if arguments.threshold is None else arguments.threshold
    with threadpool_limits(arguments.threads, "blas"):
        layers = diagnose(net, x)
    rows = [_row(layer, threshold) for layer in layers]
    header = ["layer", "", "|skewness| 50 %", "95 %", "max"]
    header += ["|excess kurtosis| 50 %", "95 %", "max", "KL 50 % (nats)", "95 %", "flagged %"]
    header += ["variance, full/diagonal"]
    print(tabulate([list(_flat(row)) for row in rows], header, floatfmt=".3g"))
    last = layers[-1].flagged(threshold).reshape(len(x), -1)
    inputs = [index for index, row in enumerate(last) if row.any()]
    print(f"inputs with a flagged output: {len(inputs)} of {len(x)}")
    print("not seen: what the correlation of a layer's inputs adds to skewness and kurtosis")
    reset = [str(i) for i, layer in enumerate(net.layers[:-1]) if not _is_followed(layer)]
    if reset:
        print(f"taken for Gaussian, whatever they are: outputs of the layers {', '.join(reset)}")
    if net.variance_factor != 1.0:
        print("without the network's variance factor")
    if arguments.json is not None:
        numbers = {
            "data": examples.source,
            "inputs": len(x),
            "threshold_nats": threshold,
            "layers": rows,
            "flagged_inputs": inputs,
        }
        write_text(arguments.json, as_json(numbers))
    return []


def _is_followed(layer) -> bool:
    """Whether the shape of a layer's outputs is carried on, or has weights of its own."""
    from refbnn.layers import Flatten, ReLU

    return isinstance(layer, Flatten | ReLU) or bool(layer.parameter_shapes())


def _row(layer, threshold: float) -> dict:
    import numpy as np

    def quantiles(values) -> dict[str, float]:
        median, upper, greatest = np.quantile(np.abs(values), [0.5, 0.95, 1.0])
        return {"median": float(median), "q95": float(upper), "max": float(greatest)}

    ratio = layer.variance_ratio
    return {
        "layer": layer.index,
        "kind": layer.layer,
        "skewness": quantiles(layer.shape.skewness),
        "excess_kurtosis": quantiles(layer.shape.kurtosis),
        "divergence_nats": quantiles(layer.shape.divergence),
        "flagged_percent": 100.0 * float(layer.flagged(threshold).mean()),
        "median_variance_ratio_full_to_diagonal": None
        if ratio is None
        else float(np.median(ratio)),
    }


def _flat(row: dict):
    yield row["layer"]
    yield row["kind"]
    for key in ("skewness", "excess_kurtosis"):
        yield from row[key].values()
    yield row["divergence_nats"]["median"]
    yield row["divergence_nats"]["q95"]
    yield row["flagged_percent"]
    yield row["median_variance_ratio_full_to_diagonal"]


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number above 0")
    return value
