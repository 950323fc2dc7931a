"""`refbnn evaluate`: accuracy and uncertainty of a trained network on test data."""

from __future__ import annotations

import argparse
from typing import Any

from refbnn.cli import arguments as shared
from refbnn.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.epilog = (
        "With --method both, --samples counts the passes of svi. The mutual information of N "
        "sampled passes is too low by about the factor 1 - 1/N, 3 % for 30. Standard errors are "
        "from the choice of examples."
    )
    shared.add_model(parser)
    shared.add_data_sets(parser)
    shared.add_method(parser, "both", "; both: pfp and svi")
    shared.add_json(parser)
    shared.add_plot(parser, "uncertainty in and out of distribution, and calibration")
    shared.add_threads(parser)
    shared.add_seed(parser)


def run(arguments: argparse.Namespace) -> list[str]:
    """Print the measures by method."""
    from threadpoolctl import threadpool_limits
    from tqdm import tqdm

    from refbnn import data, load
    from refbnn.cli.models import (
        require_classes,
        require_propagation,
        sources,
        warn_of_other_data,
    )
    from refbnn.cli.output import plotter, print_table, write_json
    from refbnn.prediction.predict import METHODS, SVI_SAMPLES

    shared.require_one_of("--method", arguments.method, (*METHODS, "both"))
    net = load(arguments.model)
    if arguments.method != "svi":
        require_propagation(net, arguments.model, "--method svi")
    inside = data.load(arguments.id, "test")
    outside = None if arguments.ood is None else data.load(arguments.ood, "test")
    if inside.task == "classes":
        require_classes(net, arguments.model, inside)
    elif outside is not None:
        raise InputError(f"--ood with {arguments.id}: expected a data set of classes in --id")
    plot = plotter(
        arguments.plot, "evaluation", "classes" if inside.task == "classes" else "targets"
    )
    warn_of_other_data("evaluate", net, arguments.model, inside)
    methods = ("pfp", "svi") if arguments.method == "both" else (arguments.method,)
    numbers, predictions = {}, {}
    with threadpool_limits(arguments.threads, "blas"):
        for method in tqdm(methods, desc="evaluate", unit="method", disable=None):
            found = _predicted(net, inside, outside, method, arguments)
            numbers[method], predictions[method] = _measures(*found, inside.y), found
    header = ["", *(name for method in methods for name in (method.upper(), ""))]
    print_table(header, measure_rows(numbers), left=(0, *range(2, len(header), 2)))
    print("\n±: one standard error, from the choice of examples")
    if inside.task == "classes" and "svi" in methods:
        n = arguments.samples or SVI_SAMPLES
        print(
            f"SVI: the mutual information of {n} samples is too low by about the factor 1 - 1/{n}"
        )
    if net.variance_factor != 1.0 and arguments.method in ("linearised", "full"):
        name = arguments.method.upper()
        print(f"{name} without the network's variance factor, which is chosen for PFP")
    if net.variance_factor != 1.0 and "pfp" in methods:
        numbers["pfp"]["variance_factor"] = net.variance_factor
        print(f"PFP with {net.variance_factor:.4g} times the variance of every weight")
    write_json(arguments.json, {"data": sources(inside, outside), "by_method": numbers})
    if inside.task == "classes":
        plot(predictions, inside.y, (inside.name, outside and outside.name))
    else:
        plot({method: prediction for method, (prediction, _) in predictions.items()}, inside.y)
    return []


def measure_rows(numbers: dict[str, dict[str, float]]) -> list[list[str]]:
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


def _predicted(net, inside, outside, method: str, arguments) -> tuple[Any, Any]:
    """Predict by one method the data in and, if there are any, out of distribution; or None."""
    from tqdm import tqdm

    from refbnn import predict
    from refbnn.cli.models import shaped
    from refbnn.prediction.predict import SVI_SAMPLES, predict_targets

    own = arguments.method == method or method == "svi"  # "both": PFP keeps its quadrature
    n_samples = arguments.samples if own else None

    def predicted(function, examples, *more):
        passes = (n_samples or SVI_SAMPLES) if method == "svi" else None
        with tqdm(total=passes, desc=method, unit="pass", disable=None, leave=False) as bar:
            return function(
                net,
                shaped(net, examples),
                *more,
                method=method,
                seed=arguments.seed,
                n_samples=n_samples,
                on_samples=bar.update,
            )

    if inside.task == "regression":
        return predicted(predict_targets, inside, inside.n_outputs), None
    return predicted(predict, inside), None if outside is None else predicted(predict, outside)


def _measures(of_inside, of_outside, y) -> dict[str, float]:
    """Measure the predictions of one method."""
    from refbnn.prediction.result import TargetPrediction
    from refbnn.uncertainty import evaluation

    if isinstance(of_inside, TargetPrediction):
        return evaluation.of_targets(of_inside, y)
    return evaluation.of_classes(of_inside, y, of_outside)
