"""`refbnn compare`: a network's propagation against many sampled passes, with limits."""

from __future__ import annotations

import argparse
from pathlib import Path

from refbnn.cli import arguments as options
from refbnn.errors import InputError
from refbnn.files.atomic import require_writable, write_text

HELP = "compare propagation with many sampled passes; exit code 1 if a limit is missed"
_SAMPLES, _INPUTS, _LEAST = 10_000, 1000, 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Model, data, method."""
    parser.epilog = (
        "Limits: accuracy within 0.2 points, AUROC within 0.01, as measured on these inputs. Exit "
        "code 0 if they hold, 1 if one is missed, 2 for wrong input. A pass of 1000 images takes "
        "about 6 ms for 784-100-100-10, 36 ms for LeNet-5."
    )
    parser.add_argument("model", metavar="MODEL.npz", type=Path)
    parser.add_argument(
        "--id", metavar="NAME", required=True, help="data set in distribution, its test split"
    )
    parser.add_argument(
        "--ood", metavar="NAME", help="data set out of distribution, test split: for AUROC"
    )
    parser.add_argument(
        "--inputs",
        type=options.integer_from(1),
        default=_INPUTS,
        metavar="N",
        help="the first N examples of each (default: %(default)s)",
    )
    parser.add_argument(
        "--method",
        choices=("pfp", "full"),
        default="pfp",
        help="propagation, or propagation with all covariances (dense networks; "
        "default: %(default)s)",
    )
    parser.add_argument(
        "--samples",
        type=options.integer_from(_LEAST),
        default=_SAMPLES,
        metavar="N",
        help="sampled passes (default: %(default)s)",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the numbers as JSON")
    options.add_threads(parser)
    options.add_seed(parser)


def run(arguments: argparse.Namespace) -> list[str]:
    """Print the measures and whether the limits hold; those that do not are returned."""
    from dataclasses import asdict

    from tabulate import tabulate
    from threadpoolctl import threadpool_limits
    from tqdm import tqdm

    from refbnn import data, load
    from refbnn.cli.report import as_json
    from refbnn.prediction.predict import JOINT_SAMPLES
    from refbnn.uncertainty.pfp_vs_svi import BLOCKS, compare

    if arguments.json is not None:
        require_writable(arguments.json)
    net = load(arguments.model)
    if net.correlation:
        raise InputError(
            f"{arguments.model}: layers {sorted(net.correlation)} have correlated weights, which "
            "cannot be propagated; expected independent ones"
        )
    inside = data.load(arguments.id, "test")
    if inside.task != "classes":
        raise InputError(f"--id {arguments.id}: a regression; expected a data set of classes")
    outside = None if arguments.ood is None else data.load(arguments.ood, "test")
    x = net.shaped(inside.x[: arguments.inputs])
    if net.check_input(x.shape[1:]) != (inside.n_outputs,):
        raise InputError(
            f"{arguments.model}: outputs {net.check_input(x.shape[1:])}; expected "
            f"{inside.n_outputs} classes, as {arguments.id} has"
        )
    x_outside = None if outside is None else net.shaped(outside.x[: arguments.inputs])
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
    name = arguments.method.upper()
    header = ["", name, "SVI", "difference", "", ""]
    print(tabulate(_rows(found), header, disable_numparse=True, colalign=_ALIGNED))
    sizes = f"{len(x)} inputs" + ("" if x_outside is None else f" and {len(x_outside)} outside")
    print(f"\n{sizes}; SVI: {arguments.samples} passes. absolute_difference: mean over inputs")
    print(
        f"±: one standard error, from SVI's passes ({BLOCKS} blocks of them), then from the choice "
        "of inputs"
    )
    if arguments.method == "full":
        print(
            f"FULL: {JOINT_SAMPLES} draws of the logits, whose error is not in ±; without any "
            "variance factor"
        )
    elif net.variance_factor != 1.0:
        print(f"PFP with {net.variance_factor:.4g} times the variance of every weight")
    failed = []
    for key, measure in found.items():
        if measure.limit is None:
            continue
        verdict = "held" if measure.held else "missed"
        print(f"{verdict}: {key} within {_number(key, measure.limit)}{_unit(key)}")
        if not measure.held:
            failed.append(
                f"{key} of {name} is off by {_number(key, measure.difference)}"
                f"{_unit(key)}; limit {_number(key, measure.limit)}"
            )
    if arguments.json is not None:
        sets = {"in_distribution": inside.source}
        sizes_by_set = {"in_distribution": len(x)}
        if outside is not None and x_outside is not None:
            sets["out_of_distribution"] = outside.source
            sizes_by_set["out_of_distribution"] = len(x_outside)
        numbers = {
            "data": sets,
            "inputs": sizes_by_set,
            "method": arguments.method,
            "variance_factor": net.variance_factor if arguments.method == "pfp" else 1.0,
            "samples": arguments.samples,
            "measures": {key: asdict(m) | {"held": m.held} for key, m in found.items()},
        }
        write_text(arguments.json, as_json(numbers))
    return failed


_ALIGNED = ["left", "right", "right", "right", "left", "left"]


def _rows(found) -> list[list[str]]:
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


def _number(key: str, value: float) -> str:
    """A difference of accuracy in points, one of AUROC as it is."""
    return f"{100.0 * value:.2f}" if key == "accuracy" else f"{value:.4f}"


def _unit(key: str) -> str:
    return " points" if key == "accuracy" else ""
