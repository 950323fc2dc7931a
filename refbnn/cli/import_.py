"""`refbnn import`: a posterior trained with another tool becomes a checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

from refbnn.cli import arguments as shared
from refbnn.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("file", metavar="FILE", type=Path, help="file that the tool saved")
    parser.add_argument(
        "--from",
        dest="tool",
        metavar="TOOL",
        required=True,
        help="tool that saved it: pyro, numpyro, bayesian-torch or torchbnn",
    )
    shared.add_out(parser, "FILE.npz", "checkpoint to write", ".npz", required=True)
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
    from refbnn.cli.output import print_table
    from refbnn.network.architectures import architecture_named
    from refbnn.network.file import save
    from refbnn.network.interchange import READERS
    from refbnn.network.interchange.assembly import assemble
    from refbnn.prior import GaussianPrior

    tool = arguments.tool
    shared.require_one_of("--from", tool, READERS)
    prior = GaussianPrior(arguments.prior_scale)
    architecture = None if arguments.arch is None else architecture_named(arguments.arch)
    sites = READERS[tool](arguments.file)
    try:
        net = assemble(sites, prior=prior, architecture=architecture, transpose=arguments.transpose)
    except InputError as error:
        raise InputError(f"{arguments.file}: {error}") from None
    save(arguments.out, net)
    rows = [
        [site, "×".join(map(str, p.shape)), f"{abs(p.mean).mean():.4g}", f"{p.scale.mean():.4g}"]
        for site, p in sites.items()
    ]
    print_table(["site", "shape", "mean |µ|", "mean σ"], rows, left=(0, 1))
    layers = "layers assumed" if architecture is None else f"layers of {arguments.arch}"
    print(f"\n{layers}: {', '.join(map(str, net.layers))}")
    print(f"{arguments.out}: Gaussian law, prior N(0, {prior.scale:g}²)")
    return []
