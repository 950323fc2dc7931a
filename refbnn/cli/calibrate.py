"""`refbnn calibrate`: choose the variance factor of a trained network's propagation."""

from __future__ import annotations

import argparse

from refbnn.cli import arguments as shared
from refbnn.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    shared.add_model(parser)
    shared.add_data(parser, "what the model was trained on")
    parser.add_argument(
        "--validation",
        metavar="SHARE",
        type=float,
        default=0.1,
        help="share of the training data to use; with the share and seed of `refbnn train` these "
        "are the examples that it held out (default: %(default)s)",
    )
    text = "greatest number of these examples, evenly spaced; each is propagated some 25 times"
    shared.add_integer(parser, "--examples", 1, 1000, text)
    parser.add_argument(
        "--method",
        metavar="METHOD",
        default="pfp",
        help="pfp: choose its factor; linearised, full: they use none, so measure the ratio of "
        "sampled to propagated variance instead, and save nothing (default: %(default)s)",
    )
    parser.add_argument(
        "--criterion",
        metavar="NAME",
        default="epistemic",
        help="epistemic: meet the epistemic uncertainty of sampled passes; log_score: minimise the "
        "log score (default: %(default)s)",
    )
    text = (
        "save the network with its factor; this may be MODEL.npz, but the file then no longer "
        "holds an unfinished training run (default: save nothing)"
    )
    shared.add_out(parser, "FILE.npz", text, ".npz")
    shared.add_json(parser)
    shared.add_plot(parser, "the criterion against the factor")
    shared.add_threads(parser)
    shared.add_seed(parser)


def run(arguments: argparse.Namespace) -> list[str]:
    """Print the factor, and the criterion before and after; or the ratio of variances."""
    from threadpoolctl import threadpool_limits

    from refbnn import data, load
    from refbnn.cli.models import require_classes, shaped, warn_of_other_data
    from refbnn.cli.output import plotter
    from refbnn.training.data import held_out
    from refbnn.uncertainty.pfp_vs_svi import PROPAGATED
    from refbnn.uncertainty.variance_factor import CRITERIA

    shared.require_one_of("--method", arguments.method, PROPAGATED)
    shared.require_one_of("--criterion", arguments.criterion, CRITERIA)
    if arguments.method != "pfp":
        _require_no_factor(arguments)
    plot = plotter(arguments.plot, "calibration")
    net = load(arguments.model)
    examples = data.load(arguments.data, "train")
    held = held_out(examples.x, arguments.validation, arguments.seed).nonzero()[0]
    held = held[:: -(-len(held) // arguments.examples)]
    if examples.task == "classes":
        require_classes(net, arguments.model, examples)
    if net.trained_on is not None and net.trained_on[1] != examples.fingerprint:
        warn_of_other_data("calibrate", net, arguments.model, examples)
    x = shaped(net, examples)[held]
    with threadpool_limits(arguments.threads, "blas"):
        if arguments.method != "pfp":
            _measure(net, x, examples.source, arguments)
            return []
        return _choose(net, x, examples.y[held], examples.source, arguments, plot)


def _choose(net, x, y, source, arguments: argparse.Namespace, plot) -> list[str]:
    """Choose the factor, print and save it; a message if none serves."""
    from dataclasses import asdict

    from tabulate import tabulate
    from tqdm import tqdm

    from refbnn import save
    from refbnn.cli.output import write_json
    from refbnn.uncertainty.variance_factor import BOUNDS, choose

    with tqdm(desc="calibrate", unit="propagation", disable=None) as bar:
        found = choose(
            net, x, y, criterion=arguments.criterion, seed=arguments.seed, on_step=bar.update
        )
    unit = "nats" if found.criterion == "log_score" else "|log ratio|"
    rows = [
        ["variance factor", 1.0, found.factor],
        [f"{found.criterion}, {unit}", found.before, found.after],
    ]
    print(tabulate(rows, [_examples(x), "before", "after"], floatfmt=".4f"))
    numbers = asdict(found) | {"standard_error": found.standard_error}
    write_json(arguments.json, {"data": source, "examples": len(x), **numbers})
    plot(found)
    if found.on_bound:
        return [
            f"{found.criterion} still falls at {found.factor:g}, a bound of {BOUNDS[0]:g} to "
            f"{BOUNDS[1]:g}: no factor serves, nothing is saved"
        ]
    print(
        f"standard error of the factor: {found.standard_error:.2g} (choice of examples "
        f"{found.error_examples:.2g}, SVI's passes {found.error_passes:.2g})"
    )
    if arguments.out is not None:
        save(arguments.out, net.with_variance_factor(found.factor))
    return []


def _examples(x) -> str:
    """Number of examples, in words."""
    return "1 example" if len(x) == 1 else f"{len(x)} examples"


def _require_no_factor(arguments: argparse.Namespace) -> None:
    """Raise InputError for an option that belongs to the choice of a factor."""
    for name, given in (
        ("--out", arguments.out is not None),
        ("--plot", arguments.plot is not None),
        ("--criterion", arguments.criterion != "epistemic"),
    ):
        if given:
            raise InputError(
                f"{name} with --method {arguments.method}: this method uses no variance factor, so "
                "none is chosen or saved; expected --method pfp, or no such option"
            )
    if arguments.examples < 2:
        raise InputError(
            f"--examples {arguments.examples}: expected at least 2 for a ratio of variances"
        )


def _measure(net, x, source, arguments: argparse.Namespace) -> None:
    """Print and write the ratio of sampled to propagated variance."""
    from dataclasses import asdict

    from refbnn.cli.output import write_json
    from refbnn.uncertainty.variance_ratio import PASSES, variance_ratio

    found = variance_ratio(net, x, method=arguments.method, seed=arguments.seed)
    print(
        f"variance of the outputs, sampled/{arguments.method}: {found.ratio:.4f} ± "
        f"{found.standard_error:.2g} (choice of examples {found.error_examples:.2g}, SVI's passes "
        f"{found.error_passes:.2g}), of sums; median of all outputs {found.median:.4f}"
    )
    print(
        f"{_examples(x)}, {PASSES} passes; {arguments.method} uses no variance factor: nothing "
        "is chosen or saved"
    )
    numbers = asdict(found) | {"standard_error": found.standard_error}
    write_json(
        arguments.json,
        {
            "data": source,
            "examples": len(x),
            "method": arguments.method,
            "passes": PASSES,
            **numbers,
        },
    )
