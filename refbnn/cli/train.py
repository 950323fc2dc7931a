"""`refbnn train`: a network of a named architecture on a named data set."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from refbnn.cli import arguments as shared
from refbnn.errors import InputError
from refbnn.training.options import TYPES, Options

_ROWS = 10  # epochs that the table shows
_PRIORS = {  # class of refbnn.prior, and the meaning of its numbers
    "gaussian": ("GaussianPrior", "SCALE"),
    "laplace": ("LaplacePrior", "SCALE"),
    "student": ("StudentTPrior", "DOF,SCALE"),
    "mixture": ("ScaleMixturePrior", "SHARE,SCALE,SCALE"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command; the defaults are those of `refbnn.train`."""
    text = "checkpoint, written after every epoch"
    shared.add_out(parser, "MODEL.npz", text, ".npz", required=True)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue from the checkpoint, or begin if there is none",
    )
    _add_network(parser)
    _add_optimisation(parser)
    shared.add_json(parser, "every epoch's loss")
    shared.add_seed(parser)


def _add_network(parser: argparse.ArgumentParser) -> None:
    """Options that say what network is trained on what data."""
    parser.add_argument("--arch", metavar="NAME", required=True, help="mlp, lenet5, vgg7, narrow12")
    parser.add_argument(
        "--data", metavar="NAME", required=True, help="a data set that `refbnn data list` names"
    )
    parser.add_argument(
        "--noise",
        metavar="LAW.json",
        type=Path,
        help="law of the weights' noise, as `refbnn noise fit` saves it (default: Gaussian)",
    )
    forms = ", ".join(f"{name}:{numbers}" for name, (_, numbers) in _PRIORS.items())
    parser.add_argument(
        "--prior",
        metavar="NAME:NUMBERS",
        default="gaussian:0.3",
        help=f"{forms} (default: %(default)s)",
    )
    text = "index of one layer whose weights get a full covariance"
    shared.add_integer(parser, "--correlated", 0, None, text)
    shared.add_normalise(parser)
    parser.add_argument(
        "--likelihood",
        metavar="NAME",
        help="categorical, gaussian (with learned variance) or energy; by default the first for "
        "classes, the second for targets",
    )


def _add_optimisation(parser: argparse.ArgumentParser) -> None:
    """Options that say how the network is trained."""
    for name, least, text in (
        ("epochs", 1, "passes over the data"),
        ("batch-size", 1, "examples per step"),
        ("n-samples", 1, "posterior samples per step"),
        ("kl-warmup", 0, "epochs over which the weight of KL grows to 1"),
    ):
        shared.add_integer(
            parser, f"--{name}", least, getattr(Options, name.replace("-", "_")), text
        )
    parser.add_argument(
        "--learning-rate",
        metavar="RATE",
        type=float,
        default=Options.learning_rate,
        help="learning rate of Adam, which the schedule multiplies (default: %(default)s)",
    )
    parser.add_argument(
        "--schedule",
        metavar="NAME",
        default=Options.schedule,
        help="constant, linear or cosine (default: %(default)s)",
    )
    parser.add_argument(
        "--local",
        action="store_true",
        help="local reparameterisation: less noise in the gradient, Gaussian law only",
    )
    parser.add_argument(
        "--clip-norm",
        metavar="NORM",
        type=float,
        help="clip gradients to this norm (default: no limit)",
    )
    parser.add_argument(
        "--validation",
        metavar="SHARE",
        type=float,
        default=0.0,
        help="share of the training data to hold out; the epoch with the best score on it is kept "
        "(default: 0)",
    )
    text = "stop after so many epochs without a better validation score"
    shared.add_integer(parser, "--patience", 1, None, text)
    parser.add_argument(
        "--dtype", choices=TYPES, default=Options.dtype, help="(default: %(default)s)"
    )
    text = (
        "parts of each minibatch computed at the same time; sums round differently for another "
        "number"
    )
    shared.add_integer(parser, "--threads", 1, Options.threads, text)


def run(arguments: argparse.Namespace) -> list[str]:
    """Train; print the loss of some epochs."""
    from threadpoolctl import threadpool_limits
    from tqdm import tqdm

    from refbnn import data, train
    from refbnn.cli.malloc import keep_freed_memory
    from refbnn.cli.output import write_json
    from refbnn.training.data import held_out

    _require_new_checkpoint(arguments)
    parts = _parts(arguments)
    keep_freed_memory()
    examples = data.load(arguments.data, "train")
    likelihood = arguments.likelihood or (
        "categorical" if examples.task == "classes" else "gaussian"
    )
    fields = {f.name for f in dataclasses.fields(Options)} - {"likelihood"}
    chosen = Options(likelihood, **{name: getattr(arguments, name) for name in fields})
    n_outputs = examples.n_outputs * (2 if likelihood == "gaussian" else 1)
    net = _network(arguments, parts, examples.x.shape[1:], n_outputs)
    source = examples.source
    x, y = net.shaped(examples.x), examples.y
    validation = None
    if arguments.validation:
        held = held_out(x, arguments.validation, arguments.seed)
        validation = x[held], y[held]
        x, y = x[~held], y[~held]
    del examples  # or the data would be there twice
    with (
        threadpool_limits(1, "blas"),
        tqdm(total=arguments.epochs, desc="train", unit="epoch", disable=None) as bar,
    ):

        def on_epoch(epoch) -> None:
            bar.n = epoch.number
            bar.set_postfix_str(f"NLL {epoch.loss.nll:.0f}, KL {epoch.loss.kl:.0f} nats")

        history = train(
            net,
            x,
            y,
            validation=validation,
            checkpoint=arguments.out,
            resume=arguments.resume,
            on_step=lambda _, steps: bar.update(1 / steps),
            on_epoch=on_epoch,
            **dataclasses.asdict(chosen),
        )
    write_json(arguments.json, {"epochs": _rows(history)})
    _print(history)
    size = f"{arguments.arch}, {net.layout.size} weights"
    print(f"\n{arguments.out}: {size}, trained on {arguments.data} ({source})")
    return []


def _require_new_checkpoint(arguments: argparse.Namespace) -> None:
    """Raise InputError if training would overwrite a file that is to be kept."""
    out = arguments.out
    if out.exists() and not arguments.resume:
        raise InputError(f"{out} already exists: continue it with --resume, or choose another name")


def _parts(arguments: argparse.Namespace):
    """Find architecture, law and prior, before the data is loaded."""
    from refbnn.network.architectures import architecture_named
    from refbnn.noise import Gaussian, load_law

    law = Gaussian() if arguments.noise is None else load_law(arguments.noise)[0]
    return architecture_named(arguments.arch), law, _prior(arguments.prior)


def _network(arguments: argparse.Namespace, parts, image: tuple[int, ...], n_outputs: int):
    """Make the network for images of this shape."""
    from refbnn import Network
    from refbnn.layers import Flatten

    architecture, law, prior = parts
    before, shape = shared.normalise(arguments), architecture.input_shape(image)
    if len(arguments.normalise or ()) > 1 and architecture.flat:  # channels, before they are rows
        before, shape = [*before, Flatten()], image
    return Network(
        [*before, *architecture.layers(n_outputs, image)],
        law=law,
        prior=prior,
        seed=arguments.seed,
        input_shape=shape,
        correlated=() if arguments.correlated is None else (arguments.correlated,),
    )


def _prior(text: str):
    from refbnn import prior

    name, _, numbers = text.partition(":")
    shared.require_one_of("--prior", name, _PRIORS)
    kind, meaning = _PRIORS[name]
    try:
        values = [float(number) for number in numbers.split(",")]
    except ValueError:
        values = []
    if len(values) != len(meaning.split(",")):
        raise InputError(f"--prior {text}: expected {name}:{meaning}")
    return getattr(prior, kind)(*values)


def _rows(history) -> list[dict]:
    return [
        {
            "epoch": epoch.number,
            "nll_nats": epoch.loss.nll,
            "kl_nats": epoch.loss.kl,
            "kl_weight": epoch.kl_weight,
            "validation_nats_per_example": epoch.validation,
        }
        for epoch in history
    ]


def _print(history) -> None:
    from tabulate import tabulate

    stride = -(-len(history) // _ROWS)
    shown = [epoch for epoch in history if epoch.number % stride == 0 or epoch is history[-1]]
    rows = [list(row.values()) for row in _rows(shown)]
    print("Loss for the whole data set, nats: mean over each epoch's minibatches\n")
    header = ["epoch", "NLL", "KL", "weight of KL", "validation, nats per example"]
    print(tabulate(rows, header, floatfmt=("d", ".1f", ".1f", ".3g", ".4f")))
