"""`refbnn compare`: a network's propagation against many sampled passes, with limits."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from refbnn.cli import arguments as shared
from refbnn.errors import InputError

if TYPE_CHECKING:
    from refbnn import Network
    from refbnn.data import Dataset
    from refbnn.uncertainty.pfp_vs_svi import Measure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.epilog = (
        "Limits: accuracy within 0.2 points, AUROC within 0.01, as measured on these inputs. Exit "
        "code 0 if they hold, 1 if one is missed, 2 for wrong input. A pass of 1000 images takes "
        "about 6 ms for 784-100-100-10, 36 ms for LeNet-5."
    )
    shared.add_model(parser)
    shared.add_data_sets(parser)
    shared.add_integer(parser, "--inputs", 1, 1000, "use the first N examples of each data set")
    parser.add_argument(
        "--method",
        metavar="METHOD",
        default="pfp",
        help="pfp: propagation; linearised: with the covariances of the outputs; full: with all "
        "covariances (dense networks; default: %(default)s)",
    )
    shared.add_integer(parser, "--samples", 1, 10_000, "sampled passes, at least 32")
    shared.add_json(parser)
    shared.add_plot(parser, "every difference with its errors and its limit")
    shared.add_threads(parser)
    shared.add_seed(parser)


def run(arguments: argparse.Namespace) -> list[str]:
    """Print the measures and whether the limits hold; those that do not are returned."""
    from dataclasses import asdict

    from refbnn import data, load
    from refbnn.cli.models import require_classes, require_propagation, sources, warn_of_other_data
    from refbnn.cli.output import plotter, write_json
    from refbnn.uncertainty.pfp_vs_svi import PROPAGATED

    shared.require_one_of("--method", arguments.method, PROPAGATED)
    plot = plotter(arguments.plot, "comparison")
    net = load(arguments.model)
    require_propagation(net, arguments.model, "independent ones")
    inside = data.load(arguments.id, "test")
    if inside.task != "classes":
        raise InputError(f"--id {arguments.id}: holds a regression; expected a data set of classes")
    outside = None if arguments.ood is None else data.load(arguments.ood, "test")
    require_classes(net, arguments.model, inside)
    warn_of_other_data("compare", net, arguments.model, inside)
    found, n_inside, n_outside = _compared(net, inside, outside, arguments)
    _print(found, n_inside, n_outside, net, arguments)
    missed = _verdicts(found, arguments.method.upper())
    numbers = {
        "data": sources(inside, outside),
        "inputs": {"in_distribution": n_inside}
        | ({"out_of_distribution": n_outside} if n_outside else {}),
        "method": arguments.method,
        "variance_factor": net.variance_factor if arguments.method == "pfp" else 1.0,
        "samples": arguments.samples,
        "measures": {key: asdict(m) | {"held": m.held} for key, m in found.items()},
    }
    write_json(arguments.json, numbers)
    plot(found, arguments.method, arguments.samples)
    return missed


def _compared(
    net: Network, inside: Dataset, outside: Dataset | None, arguments: argparse.Namespace
) -> tuple[dict[str, Measure], int, int | None]:
    """Compare on the first inputs; the measures, and the numbers of inputs inside and outside."""
    from threadpoolctl import threadpool_limits
    from tqdm import tqdm

    from refbnn.cli.models import shaped
    from refbnn.uncertainty.pfp_vs_svi import compare

    x = shaped(net, inside, arguments.inputs)
    x_outside = None if outside is None else shaped(net, outside, arguments.inputs)
    with (
        threadpool_limits(arguments.threads, "blas"),
        tqdm(total=arguments.samples, desc="compare", unit="pass", disable=None) as bar,
    ):
        found = compare(
            net,
            x,
            inside.y[: len(x)],
            x_outside,
            method=arguments.method,
            n_samples=arguments.samples,
            seed=arguments.seed,
            on_samples=bar.update,
        )
    return found, len(x), None if x_outside is None else len(x_outside)


def _print(
    found: Mapping[str, Measure],
    n_inside: int,
    n_outside: int | None,
    net: Network,
    arguments: argparse.Namespace,
) -> None:
    """Print the table and what its numbers are."""
    from refbnn.cli.output import print_table

    header = ["", arguments.method.upper(), "SVI", "difference", "", ""]
    print_table(header, _rows(found), left=(0, 4, 5))
    sizes = f"{n_inside} inputs" + (f" and {n_outside} outside" if n_outside else "")
    print(f"\n{sizes}; SVI: {arguments.samples} passes. absolute_difference: mean over inputs")
    _print_notes(net, arguments.method)


def _rows(found: Mapping[str, Measure]) -> list[list[str]]:
    """Rows of the table: a measure, by both methods, the difference and its errors."""
    rows = []
    for key, m in found.items():
        both = ["" if v is None else f"{v:.4f}" for v in (m.propagated, m.sampled)]
        sign = "" if m.sampled is None else "+"
        errors = [
            "" if error is None else f"± {error:.4f}" for error in (m.monte_carlo_se, m.inputs_se)
        ]
        rows.append([key, *both, f"{m.difference:{sign}.4f}", *errors])
    return rows


def _print_notes(net: Network, method: str) -> None:
    """Say what the errors are, and what the method does."""
    from refbnn.prediction.softmax.table import N_POINTS
    from refbnn.uncertainty.pfp_vs_svi import BLOCKS

    print(
        f"±: one standard error, from SVI's passes ({BLOCKS} blocks of them), then from the choice "
        "of inputs"
    )
    if method != "pfp":
        print(
            f"{method.upper()}: {N_POINTS} points of the logits, whose error is not in ± (none for "
            "two classes); without any variance factor"
        )
    elif net.variance_factor != 1.0:
        print(f"PFP with {net.variance_factor:.4g} times the variance of every weight")


def _verdicts(found: Mapping[str, Measure], method: str) -> list[str]:
    """Print whether each limit holds; those that are missed are returned."""
    missed = []
    for key, measure in found.items():
        if measure.limit is None:
            continue
        # A difference of accuracy is shown in points, one of AUROC as it is.
        unit, factor, digits = (" points", 100.0, 2) if key == "accuracy" else ("", 1.0, 4)
        limit = f"{factor * measure.limit:.{digits}f}"
        print(f"{'held' if measure.held else 'missed'}: {key} within {limit}{unit}")
        if not measure.held:
            difference = f"{factor * measure.difference:.{digits}f}"
            missed.append(f"{key} of {method} is off by {difference}{unit}; limit {limit}")
    return missed
