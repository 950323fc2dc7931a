"""`refbnn import`: a posterior trained with another tool becomes a checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

from refbnn.cli import arguments as shared
from refbnn.errors import InputError

_LARGEST_TEXT = 1_000_000  # bytes of a file of layers


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
    _add_layers(parser)
    _add_weights(parser)
    parser.add_argument(
        "--prior-scale",
        metavar="S",
        type=float,
        default=1.0,
        help="scale of the Gaussian prior, which the files do not hold (default: %(default)s)",
    )


def _add_layers(parser: argparse.ArgumentParser) -> None:
    """Options that say what the file does not: the layers and their input."""
    parser.add_argument(
        "--layers",
        metavar="'LAYER, ...'|@FILE",
        help="the layers, or @ and a file that holds them: conv IN OUT K [stride S] [pad P] "
        "[groups G]; dense IN OUT; batch_norm C [eps E], whose statistics the file holds; "
        "maxpool K [stride S] [pad P] [method tree]; avgpool K [stride S] [pad P]; flatten; "
        "relu, tanh, ...; residual(LAYER, ...). "
        "Example: 'conv 1 6 5 pad 2, relu, maxpool 2, flatten, dense 1176 9'",
    )
    parser.add_argument("--arch", metavar="NAME", help="the layers are those of: mlp, lenet5, ...")
    parser.add_argument(
        "--activation",
        metavar="NAME",
        help="the file's dense weights follow each other, this activation between them: tanh, ...",
    )
    parser.add_argument(
        "--assume",
        action="store_true",
        help="take the layers for a plain chain: ReLU between layers, convolutions of stride 1 "
        "without padding",
    )
    parser.add_argument(
        "--input-shape",
        metavar="C,H,W",
        type=_shape,
        help="shape of one input, such as 1,28,28; dense networks tell it themselves",
    )
    shared.add_normalise(parser)
    parser.add_argument(
        "--input-range",
        metavar=("LOW", "HIGH"),
        nargs=2,
        type=float,
        help="least and greatest input of the training, before --normalise: commands warn of "
        "inputs far outside",
    )


def _add_weights(parser: argparse.ArgumentParser) -> None:
    """Options that say which of the file's numbers are which weights."""
    parser.add_argument(
        "--transpose",
        action=argparse.BooleanOptionalAction,
        help="dense weights are (in, out), or with --no-transpose (out, in); by default whichever "
        "fits, and where both fit, as with square weights alone, the command asks for one of them",
    )
    parser.add_argument(
        "--order",
        metavar="NAME,...",
        type=lambda text: [name.strip() for name in text.split(",")],
        help="all sites as the layers come, a bias right behind its weight, where the file does "
        "not keep an order; of a guide without names, as AutoDiagonalNormal, the parameters of the "
        "layers as it holds them: 0.weight,0.bias,...",
    )
    parser.add_argument(
        "--skip",
        metavar="NAME",
        action="append",
        default=[],
        help="a site that is no weight of the network, such as a noise scale; may be repeated",
    )


def run(arguments: argparse.Namespace) -> list[str]:
    """Write the checkpoint; print the sites and the layers."""
    from refbnn.network.file import save
    from refbnn.network.input_range import input_range
    from refbnn.network.interchange import READERS, import_network
    from refbnn.prior import GaussianPrior

    shared.require_one_of("--from", arguments.tool, READERS)
    prior = GaussianPrior(arguments.prior_scale)
    given = arguments.input_range
    trained = None if given is None else input_range(given)
    normalise = shared.normalise(arguments)
    found = import_network(
        arguments.file,
        arguments.tool,
        layers=_text(arguments.layers),
        arch=arguments.arch,
        activation=arguments.activation,
        assume=arguments.assume,
        input_shape=arguments.input_shape,
        normalise=normalise[0] if normalise else None,
        transpose=arguments.transpose,
        order=arguments.order,
        skip=arguments.skip,
    )
    net = found.network
    net.prior, net.input_range = prior, trained
    save(arguments.out, net)
    _print(found)
    if arguments.skip:
        print(f"skipped: {', '.join(arguments.skip)}")
    for layer in normalise:
        print(f"inputs: {layer}")
    print(f"{'layers assumed' if arguments.assume else 'layers'}: {found.layers}")
    print(f"{arguments.out}: Gaussian law, prior N(0, {prior.scale:g}²)")
    return []


def _print(found) -> None:
    """Print where every site went."""
    from refbnn.cli.output import print_table
    from refbnn.layers.posterior import Posterior

    parameters = found.network.parameters()
    rows = []
    for site in [s for s in found.sites if s in found.places] or found.places:
        place = found.places[site]
        p = found.sites.get(site, parameters.get(place))
        numbers = ["", ""]
        if isinstance(p, Posterior):
            numbers = [f"{abs(p.mean).mean():.4g}", f"{p.scale.mean():.4g}"]
        rows.append([site, place, "×".join(map(str, p.mean.shape)), *numbers])
    print_table(["site", "place", "shape", "mean |µ|", "mean σ"], rows, left=(0, 1, 2))
    print()
    if absent := [name for name in parameters if name not in found.places.values()]:
        print(f"not in the file, known to be 0: {', '.join(absent)}")


def _text(layers: str | None) -> str | None:
    """The layers of --layers, from a file where it names one."""
    if layers is None or not layers.startswith("@"):
        return layers
    path = Path(layers[1:])
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_TEXT + 1)
        if len(text) > _LARGEST_TEXT:
            raise InputError(f"--layers {path}: expected at most {_LARGEST_TEXT} bytes")
        return text.decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InputError(f"--layers {path}: cannot be read ({reason})") from None


def _shape(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    numbers = [int(part) for part in parts if part.isascii() and part.isdigit() and len(part) < 10]
    if len(numbers) != len(parts) or min(numbers) < 1 or len(numbers) not in (1, 3):
        raise argparse.ArgumentTypeError(f"{text!r}; expected C,H,W of an image, or one number")
    return tuple(numbers)
