"""`refbnn evaluate`: accuracy and uncertainty of a trained network on test data."""

from __future__ import annotations

import argparse
from pathlib import Path

from refbnn.cli import arguments as options
from refbnn.errors import InputError
from refbnn.files.atomic import require_writable, write_text

HELP = "measure a trained network: accuracy, log score, uncertainty in and out of distribution"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Model, data, method."""
    parser.epilog = (
        "With --method both, --samples are those of svi. The mutual information of N sampled "
        "passes is too low by about the factor 1 - 1/N, 3 % for 30. Standard errors are from the "
        "choice of examples."
    )
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
    from refbnn.prediction.predict import SVI_SAMPLES

    if arguments.json is not None:
        require_writable(arguments.json)
    net = load(arguments.model)
    if net.correlation and arguments.method != "svi":
        raise InputError(
            f"{arguments.model}: layers {sorted(net.correlation)} have correlated weights, which "
            "cannot be propagated; expected --method svi"
        )
    inside = data.load(arguments.id, "test")
    outside = None if arguments.ood is None else data.load(arguments.ood, "test")
    if outside is not None and inside.task != "classes":
        raise InputError(f"--ood with {arguments.id}: expected a data set of classes in --id")
    methods = ("pfp", "svi") if arguments.method == "both" else (arguments.method,)
    numbers = {}
    with threadpool_limits(arguments.threads, "blas"):
        for method in tqdm(methods, desc="evaluate", unit="method", disable=None):
            numbers[method] = _measures(net, inside, outside, method, arguments)
    header = ["", *(name for method in methods for name in (method.upper(), ""))]
    print(tabulate(_rows(numbers), header, disable_numparse=True, colalign=_aligned(methods)))
    print("\n±: one standard error, from the choice of examples")
    if inside.task == "classes" and "svi" in methods:
        n = arguments.samples or SVI_SAMPLES
        print(
            f"SVI: the mutual information of {n} samples is too low by about the factor 1 - 1/{n}"
        )
    if net.variance_factor != 1.0 and "full" in methods:
        print("FULL without the network's variance factor, which is chosen for PFP")
    if net.variance_factor != 1.0 and "pfp" in methods:
        numbers["pfp"]["variance_factor"] = net.variance_factor
        print(f"PFP with {net.variance_factor:.4g} times the variance of every weight")
    if arguments.json is not None:
        sets = {"in_distribution": inside.source}
        if outside is not None:
            sets["out_of_distribution"] = outside.source
        write_text(
            arguments.json,
            as_json({"data": sets, "by_method": numbers}),
        )
    return []


def _rows(numbers: dict[str, dict[str, float]]) -> list[list[str]]:
    """Rows of the table: a measure, and by method its number and standard error."""
    rows = []
    for key in next(iter(numbers.values())):
        if key.endswith("_se"):
            continue
        row = [key]
        for measures in numbers.values():
            error = measures.get(f"{key}_se")
            row += [f"{measures[key]:.4f}", "" if error is None else f"± {error:.4f}"]
        rows.append(row)
    return rows


def _aligned(methods) -> list[str]:
    """Flush left the measures and their errors, flush right the numbers."""
    return ["left", *(side for _ in methods for side in ("right", "left"))]


def _measures(net, inside, outside, method: str, arguments) -> dict[str, float]:
    from tqdm import tqdm

    from refbnn import predict
    from refbnn.prediction.predict import SVI_SAMPLES, predict_targets
    from refbnn.uncertainty import evaluation

    own = arguments.method == method or method == "svi"  # "both": PFP keeps its quadrature
    n_samples = arguments.samples if own else None
    chosen = {"method": method, "seed": arguments.seed, "n_samples": n_samples}

    def predicted(function, *what):
        passes = (n_samples or SVI_SAMPLES) if method == "svi" else None
        with tqdm(total=passes, desc=method, unit="pass", disable=None, leave=False) as bar:
            return function(net, *what, **chosen, on_samples=bar.update)

    if inside.task == "regression":
        prediction = predicted(predict_targets, net.shaped(inside.x), inside.n_outputs)
        return evaluation.of_targets(prediction, inside.y)
    n_outputs = net.output_shape
    if n_outputs != (inside.n_outputs,):
        raise InputError(
            f"{arguments.model}: outputs {n_outputs}; expected {inside.n_outputs} classes, "
            f"as {arguments.id} has"
        )
    predictions = [
        predicted(predict, net.shaped(examples.x))
        for examples in (inside, outside)
        if examples is not None
    ]
    return evaluation.of_classes(predictions[0], inside.y, *predictions[1:])
