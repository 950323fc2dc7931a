"""`refbnn evaluate`: accuracy and uncertainty of a trained network on test data."""

from __future__ import annotations

import argparse
from pathlib import Path

from refbnn.cli import arguments as options
from refbnn.errors import InputError
from refbnn.files import require_writable, write_text

HELP = "measure a trained network: accuracy, log score, uncertainty in and out of distribution"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Model, data, method."""
    parser.add_argument("model", metavar="MODEL.npz", type=Path)
    parser.add_argument(
        "--id", metavar="NAME", required=True, help="data set in distribution, its test split"
    )
    parser.add_argument("--ood", metavar="NAME", help="data set out of distribution, test split")
    options.add_method(parser, ("both",), "both")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the numbers as JSON")
    options.add_threads(parser)
    options.add_seed(parser)


def run(arguments: argparse.Namespace) -> list[str]:
    """Print the measures by method."""
    from tabulate import tabulate
    from threadpoolctl import threadpool_limits
    from tqdm import tqdm

    from refbnn import data, load
    from refbnn.cli.report import as_json
    from refbnn.prediction import METHODS

    if arguments.json is not None:
        require_writable(arguments.json)
    net = load(arguments.model)
    inside = data.load(arguments.id, "test")
    outside = None if arguments.ood is None else data.load(arguments.ood, "test")
    if outside is not None and inside.task != "classes":
        raise InputError(f"--ood with {arguments.id}: expected a data set of classes in --id")
    methods = METHODS if arguments.method == "both" else (arguments.method,)
    numbers = {}
    with threadpool_limits(arguments.threads, "blas"):
        for method in tqdm(methods, desc="evaluate", unit="method", disable=None):
            numbers[method] = _measures(net, inside, outside, method, arguments)
    keys = list(next(iter(numbers.values())))
    rows = [[key, *(numbers[method][key] for method in methods)] for key in keys]
    print(tabulate(rows, ["", *(method.upper() for method in methods)], floatfmt=".4f"))
    if net.variance_factor != 1.0:
        print(f"\nPFP with {net.variance_factor:.4g} times the variance of every weight")
    if arguments.json is not None:
        sets = {"in_distribution": inside.source}
        if outside is not None:
            sets["out_of_distribution"] = outside.source
        write_text(
            arguments.json,
            as_json({"data": sets, "variance_factor": net.variance_factor, "by_method": numbers}),
        )
    return []


def _measures(net, inside, outside, method: str, arguments) -> dict[str, float]:
    from refbnn import evaluation, predict
    from refbnn.prediction import predict_targets

    chosen = {"method": method, "seed": arguments.seed, "n_samples": arguments.samples}
    if inside.task == "regression":
        prediction = predict_targets(net, net.shaped(inside.x), inside.n_outputs, **chosen)
        return evaluation.of_targets(prediction, inside.y)
    n_outputs = net.output_shape
    if n_outputs != (inside.n_outputs,):
        raise InputError(
            f"{arguments.model}: outputs {n_outputs}; expected {inside.n_outputs} classes, "
            f"as {arguments.id} has"
        )
    predictions = [
        predict(net, net.shaped(examples.x), **chosen)
        for examples in (inside, outside)
        if examples is not None
    ]
    return evaluation.of_classes(predictions[0], inside.y, *predictions[1:])
