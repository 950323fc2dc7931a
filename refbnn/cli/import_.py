"""`refbnn import`: a posterior trained with another tool becomes a checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

from refbnn.errors import InputError
from refbnn.files.atomic import require_writable

HELP = "turn a posterior trained with Pyro, NumPyro, bayesian-torch or torchbnn into a checkpoint"
# As in refbnn.network.interchange.READERS, which is imported late.
TOOLS = ("pyro", "numpyro", "bayesian-torch", "torchbnn")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """File, tool and what the file does not say."""
    parser.add_argument("file", metavar="FILE", type=Path, help="what the tool saved")
    parser.add_argument(
        "--from", dest="tool", choices=TOOLS, required=True, help="the tool that saved it"
    )
    parser.add_argument(
        "-o", "--out", metavar="FILE", type=Path, required=True, help="checkpoint to write, .npz"
    )
    parser.add_argument(
        "--arch",
        metavar="NAME",
        help="architecture whose layers the weights are; by default a plain chain: ReLU between "
        "layers, convolutions of stride 1 without padding",
    )
    parser.add_argument(
        "--transpose",
        action=argparse.BooleanOptionalAction,
        help="dense weights are (in, out), or with --no-transpose (out, in); by default whichever "
        "fits, and where both fit, as with square weights alone, the command asks for one of them",
    )
    parser.add_argument(
        "--prior-scale",
        metavar="S",
        type=float,
        default=1.0,
        help="scale of the Gaussian prior, which the files do not hold (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> list[str]:
    """Write the checkpoint; print the sites and the layers."""
    from tabulate import tabulate

    from refbnn.network.architectures import architecture_named
    from refbnn.network.file import save
    from refbnn.network.interchange import READERS
    from refbnn.network.interchange.assembly import assemble
    from refbnn.prior import GaussianPrior

    require_writable(arguments.out)
    prior = GaussianPrior(arguments.prior_scale)
    architecture = None if arguments.arch is None else architecture_named(arguments.arch)
    sites = READERS[arguments.tool](arguments.file)
    try:
        net = assemble(sites, prior=prior, architecture=architecture, transpose=arguments.transpose)
    except InputError as error:
        raise InputError(f"{arguments.file}: {error}") from None
    save(arguments.out, net)
    rows = [
        (site, "×".join(map(str, p.shape)), abs(p.mean).mean(), p.scale.mean())
        for site, p in sites.items()
    ]
    print(
        tabulate(
            rows,
            headers=("site", "shape", "mean |µ|", "mean σ"),
            floatfmt=".4g",
            disable_numparse=[0, 1],
        )
    )
    layers = "layers assumed" if architecture is None else f"layers of {arguments.arch}"
    print(f"\n{layers}: {', '.join(map(str, net.layers))}")
    print(f"{arguments.out}: Gaussian law, prior N(0, {prior.scale:g}²)")
    return []
