"""`refbnn train`: a network of a named architecture on a named data set."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from refbnn.cli import arguments as options
from refbnn.errors import InputError
from refbnn.files.atomic import require_writable, write_text
from refbnn.training.options import TYPES, Options

HELP = "train a network by mean-field variational inference, with checkpoints"
_ROWS = 10  # epochs that the table shows
_PRIORS = {  # classes of refbnn.prior, with what their numbers mean
    "gaussian": ("GaussianPrior", "SCALE"),
    "laplace": ("LaplacePrior", "SCALE"),
    "student": ("StudentTPrior", "DOF,SCALE"),
    "mixture": ("ScaleMixturePrior", "SHARE,SCALE,SCALE"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to train, how, and where to; the defaults are those of `refbnn.train`."""
    parser.add_argument("--arch", metavar="NAME", required=True, help="mlp, lenet5, vgg7, narrow12")
    parser.add_argument(
        "--data", metavar="NAME", required=True, help="a data set that `refbnn data list` names"
    )
    parser.add_argument(
        "-o",
        "--out",
        metavar="MODEL.npz",
        type=Path,
        required=True,
        help="checkpoint, written after every epoch",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the checkpoint, or begin if there is none"
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
    parser.add_argument(
        "--correlated",
        metavar="LAYER",
        type=options.integer_from(0),
        help="index of one layer whose weights get a full covariance",
    )
    parser.add_argument(
        "--likelihood",
        metavar="NAME",
        help="categorical, gaussian (with learned variance) or energy; by default the first for "
        "classes, the second for targets",
    )
    for name, least, text in (
        ("epochs", 1, "passes over the data"),
        ("batch-size", 1, "examples a step"),
        ("n-samples", 1, "posterior samples a step"),
        ("kl-warmup", 0, "epochs over which the weight of KL grows to 1"),
    ):
        parser.add_argument(
            f"--{name}",
            metavar="N",
            type=options.integer_from(least),
            default=getattr(Options, name.replace("-", "_")),
            help=f"{text} (default: %(default)s)",
        )
    parser.add_argument(
        "--learning-rate",
        metavar="RATE",
        type=float,
        default=Options.learning_rate,
        help="of Adam, times the schedule (default: %(default)s)",
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
        "--clip-norm", metavar="NORM", type=float, help="longest gradient (default: any)"
    )
    parser.add_argument(
        "--validation",
        metavar="SHARE",
        type=float,
        default=0.0,
        help="share of the training data held out; the best epoch by it is kept (default: 0)",
    )
    parser.add_argument(
        "--patience",
        metavar="N",
        type=options.integer_from(1),
        help="stop after so many epochs without a better validation score",
    )
    parser.add_argument(
        "--dtype", choices=TYPES, default=Options.dtype, help="(default: %(default)s)"
    )
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="also write every epoch's loss as JSON"
    )
    parser.add_argument(
        "--threads",
        metavar="N",
        type=options.integer_from(1),
        default=Options.threads,
        help="parts of each minibatch computed at the same time; sums round differently for "
        "another number (default: %(default)s)",
    )
    options.add_seed(parser)


def run(arguments: argparse.Namespace) -> list[str]:
    """Train; print the loss of some epochs."""
    from threadpoolctl import threadpool_limits

    from refbnn import Network, data, train
    from refbnn.cli.malloc import keep_freed_memory
    from refbnn.cli.report import as_json
    from refbnn.network.architectures import architecture_named
    from refbnn.noise import Gaussian, load_law
    from refbnn.training.data import held_out

    _check_out(arguments)
    keep_freed_memory()
    architecture = architecture_named(arguments.arch)
    law = Gaussian() if arguments.noise is None else load_law(arguments.noise)[0]
    prior = _prior(arguments.prior)
    examples = data.load(arguments.data, "train")
    likelihood = arguments.likelihood or (
        "categorical" if examples.task == "classes" else "gaussian"
    )
    fields = {f.name for f in dataclasses.fields(Options)} - {"likelihood"}
    chosen = Options(likelihood, **{name: getattr(arguments, name) for name in fields})
    net = Network(
        architecture.layers(
            examples.n_outputs * (2 if likelihood == "gaussian" else 1), examples.x.shape[1:]
        ),
        law=law,
        prior=prior,
        seed=arguments.seed,
        input_shape=architecture.input_shape(examples.x.shape[1:]),
        correlated=() if arguments.correlated is None else (arguments.correlated,),
    )
    source = examples.source
    x, y = net.shaped(examples.x), examples.y
    validation = None
    if arguments.validation:
        held = held_out(x, arguments.validation, arguments.seed)
        validation = x[held], y[held]
        x, y = x[~held], y[~held]
    del examples  # or the data would be there twice
    with _Progress(arguments.epochs) as progress, threadpool_limits(1, "blas"):
        history = train(
            net,
            x,
            y,
            validation=validation,
            checkpoint=arguments.out,
            resume=arguments.resume,
            on_step=progress.step,
            on_epoch=progress.epoch,
            **dataclasses.asdict(chosen),
        )
    if arguments.json is not None:
        write_text(arguments.json, as_json({"epochs": _rows(history)}))
    _print(history)
    print(f"\n{arguments.out}: {arguments.arch}, {net.layout.size} weights, {source}")
    return []


def _check_out(arguments: argparse.Namespace) -> None:
    out = arguments.out
    if out.suffix != ".npz":
        raise InputError(f"{out}: expected a name that ends in .npz")
    if out.exists() and not arguments.resume:
        raise InputError(f"{out}: is there; expected --resume to go on with it, or another name")
    if arguments.json is not None and arguments.json.resolve() == out.resolve():
        raise InputError(f"--json {out}: expected another file than the checkpoint")
    for path in (out, arguments.json):
        if path is not None:
            require_writable(path)


def _prior(text: str):
    from refbnn import prior

    name, _, numbers = text.partition(":")
    if name not in _PRIORS:
        raise InputError(f"--prior {text}: expected one of {', '.join(_PRIORS)}")
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
    rows = [
        [e.number, e.loss.nll, e.loss.kl, e.kl_weight, "" if e.validation is None else e.validation]
        for e in shown
    ]
    print("Loss for the whole data set, nats: mean over each epoch's minibatches\n")
    header = ["epoch", "NLL", "KL", "weight of KL", "validation, nats an example"]
    print(tabulate(rows, header, floatfmt=("d", ".1f", ".1f", ".3g", ".4f")))


class _Progress:
    """A bar over all steps of a run, on a terminal."""

    def __init__(self, epochs: int):
        from tqdm import tqdm

        self._bar = tqdm(total=epochs, desc="train", unit="epoch", disable=None)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def step(self, number: int, steps: int) -> None:
        """One step of an epoch is done."""
        self._bar.update(1 / steps)

    def epoch(self, epoch) -> None:
        """An epoch is done."""
        self._bar.n = epoch.number
        self._bar.set_postfix_str(f"NLL {epoch.loss.nll:.0f}, KL {epoch.loss.kl:.0f} nats")
