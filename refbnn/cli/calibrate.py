"""`refbnn calibrate`: choose the variance factor of a trained network's propagation."""

from __future__ import annotations

import argparse
from pathlib import Path

from refbnn.cli import arguments as options
from refbnn.errors import InputError
from refbnn.files.atomic import require_writable

HELP = "choose the factor on the weights' variance that propagation uses, on validation data"
_VALIDATION = 0.1
_EXAMPLES = 1000
_CRITERIA = ("epistemic", "log_score")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Model, data, criterion."""
    parser.add_argument("model", metavar="MODEL.npz", type=Path)
    parser.add_argument(
        "--data", metavar="NAME", required=True, help="data set that the model was trained on"
    )
    parser.add_argument(
        "--validation",
        metavar="SHARE",
        type=float,
        default=_VALIDATION,
        help="use this share of the training data: with the share and seed of `refbnn train`, what "
        "was held out there (default: %(default)s)",
    )
    parser.add_argument(
        "--examples",
        metavar="N",
        type=options.integer_from(1),
        default=_EXAMPLES,
        help="of these at most so many, evenly spaced: each is propagated some 25 times "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--criterion",
        choices=_CRITERIA,
        default=_CRITERIA[0],
        help="the epistemic uncertainty of sampled passes is met, or the log score is least "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "-o",
        "--out",
        metavar="FILE.npz",
        type=Path,
        help="save the network with its factor; may be MODEL.npz, a run of training in it is not "
        "kept then (default: report alone)",
    )
    options.add_threads(parser)
    options.add_seed(parser)


def run(arguments: argparse.Namespace) -> list[str]:
    """Print the factor, and the criterion before and after."""
    from tabulate import tabulate
    from threadpoolctl import threadpool_limits
    from tqdm import tqdm

    from refbnn import data, load, save
    from refbnn.training.data import held_out
    from refbnn.uncertainty.variance_factor import BOUNDS, choose

    if arguments.out is not None:
        if arguments.out.suffix != ".npz":
            raise InputError(f"{arguments.out}: expected a name that ends in .npz")
        require_writable(arguments.out)
    net = load(arguments.model)
    examples = data.load(arguments.data, "train")
    held = held_out(examples.x, arguments.validation, arguments.seed).nonzero()[0]
    held = held[:: -(-len(held) // arguments.examples)]
    x, y = net.shaped(examples.x[held]), examples.y[held]
    if examples.task == "classes" and net.check_input(x.shape[1:]) != (examples.n_outputs,):
        raise InputError(
            f"{arguments.model}: outputs {net.check_input(x.shape[1:])}; expected "
            f"{examples.n_outputs} classes, as {arguments.data} has"
        )
    with (
        threadpool_limits(arguments.threads, "blas"),
        tqdm(desc="calibrate", unit="propagation", disable=None) as bar,
    ):
        found = choose(
            net, x, y, criterion=arguments.criterion, seed=arguments.seed, on_step=bar.update
        )
    unit = "nats" if found.criterion == "log_score" else "|log ratio|"
    rows = [
        ["variance factor", 1.0, found.factor],
        [f"{found.criterion}, {unit}", found.before, found.after],
    ]
    print(tabulate(rows, [f"{len(y)} examples", "before", "after"], floatfmt=".4f"))
    if not found.on_bound:
        print(
            f"standard error of the factor: {found.standard_error:.2g} (choice of examples "
            f"{found.error_examples:.2g}, SVI's passes {found.error_passes:.2g})"
        )
    if found.on_bound:
        return [
            f"{found.criterion} still falls at the bound {found.factor:g} of {BOUNDS[0]:g} to "
            f"{BOUNDS[1]:g}: no factor serves, nothing is saved"
        ]
    if arguments.out is not None:
        save(arguments.out, net.with_variance_factor(found.factor))
    return []
