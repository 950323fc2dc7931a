"""`refbnn train`: a network of a named architecture, or of a file, on a data set."""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from refbnn.cli import arguments as shared
from refbnn.cli.models import shaped
from refbnn.errors import InputError
from refbnn.training.options import TYPES, Options

if TYPE_CHECKING:
    from refbnn import Network
    from refbnn.data import Dataset

_ROWS = 10  # epochs that the table shows
_ABSENT, _FEW = 5, 20  # labels in a warning; whole numbers that may be labels
_LEARNED = "learned"
_MODERATE = 10.0  # mean and deviation of targets that need not be standardised
_PRIOR = "gaussian:0.3"
_EPOCH_LINES, _STEP_LINES = 1.0, 10.0  # seconds at least between lines where no bar is shown
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
        help="continue from the checkpoint, or begin if there is none; a greater --epochs than "
        "before makes the run longer, under the schedule of the new number",
    )
    _add_network(parser)
    _add_optimisation(parser)
    shared.add_json(parser, "every epoch's loss")
    shared.add_plot(parser, "likelihood, KL and validation score by epoch")
    shared.add_seed(parser)


def _add_network(parser: argparse.ArgumentParser) -> None:
    """Options that say what network is trained on what data."""
    parser.add_argument("--arch", metavar="NAME", help="mlp, lenet5, vgg7, narrow12")
    parser.add_argument(
        "--start",
        metavar="MODEL.npz",
        type=Path,
        help="begin with this network, trained or imported, in place of --arch; its law and prior "
        "stay, unless --noise or --prior names another",
    )
    shared.add_data(
        parser,
        "data set, its training split; own targets are standardised inside, and the file holds "
        "their scale (not with --likelihood energy, which expects standardised ones)",
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
        help=f"{forms} (default: {_PRIOR})",
    )
    text = (
        "index of one layer of the architecture, from 0 and without --normalise, whose weights get "
        "a full covariance"
    )
    shared.add_integer(parser, "--correlated", 0, None, text)
    shared.add_normalise(parser)
    parser.add_argument(
        "--likelihood",
        metavar="NAME",
        help="categorical, bernoulli (two classes from one logit), gaussian or energy; by default "
        "categorical for classes, gaussian for targets",
    )
    parser.add_argument(
        "--noise-sd",
        metavar="SD",
        type=shared.positive(_LEARNED),
        help="gaussian: standard deviation of the targets' noise, the same for all inputs and in "
        f"the targets' unit, or `{_LEARNED}` (default: a log variance for each input; with --start "
        f"of a network of one output a target, `{_LEARNED}`)",
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

    from refbnn import data
    from refbnn.cli.malloc import keep_freed_memory
    from refbnn.cli.output import plotter, write_json
    from refbnn.data.own import is_own
    from refbnn.layers import Normalise
    from refbnn.training.data import held_out

    _require_new_checkpoint(arguments)
    plot = plotter(arguments.plot, "training")
    parts = _parts(arguments)
    keep_freed_memory()
    examples = data.load(arguments.data, "train")
    _warn_of_odd_answers(examples)
    with _options_as_typed():
        net, likelihood = _network(arguments, parts, examples)
        trained_on = examples.name, examples.fingerprint
        _require_fitting_noise_and_targets(arguments, net, likelihood, examples)
        fields = {f.name for f in dataclasses.fields(Options)} - {"likelihood", "scale_targets"}
        chosen = {name: getattr(arguments, name) for name in fields} | {
            "likelihood": likelihood,
            "noise_sd": None if arguments.noise_sd == _LEARNED else arguments.noise_sd,
            # A last `Normalise` has the scale of the targets that --start was trained on.
            "scale_targets": likelihood == "gaussian"
            and (is_own(examples.name) or isinstance(net.layers[-1], Normalise)),
        }
        Options(**chosen)
        source = f"{arguments.data} ({examples.source})"
        if is_own(examples.name):
            plural = "s" if examples.n_outputs > 1 else ""
            what = f"regression of {examples.n_outputs} target{plural}"
            source += f", {f'{examples.n_outputs} classes' if examples.task == 'classes' else what}"
        x, y = shaped(net, examples), examples.y
        validation = None
        if arguments.validation:
            held = held_out(x, arguments.validation, arguments.seed)
            validation = x[held], y[held]
            x, y = x[~held], y[~held]
        del examples  # or the data would be there twice
        with threadpool_limits(1, "blas"):
            chosen["trained_on"] = trained_on
            history = _train(arguments, net, x, y, validation, chosen)
    numbers = {"epochs": _rows(history), "noise_sd": net.noise_sd, "data": source}
    write_json(arguments.json, numbers)
    _print(history)
    plot(history)
    if len(history) < arguments.epochs:
        print(f"\nended early: no better validation score in {arguments.patience} epochs")
    if net.noise_sd is not None:
        print(f"\nstandard deviation of the noise: {', '.join(f'{sd:.4g}' for sd in net.noise_sd)}")
    size = f"{arguments.arch or f'begun with {arguments.start}'}, {net.layout.size} weights"
    print(f"\n{arguments.out}: {size}, trained on {source}")
    return []


def _train(arguments: argparse.Namespace, net, x, y, validation, chosen: dict):
    """Train with a bar on a terminal, and with a line now and then elsewhere."""
    from tqdm import tqdm

    from refbnn import train
    from refbnn.cli.output import Lines

    done, beginning = 0, []
    if arguments.resume and arguments.out.exists():
        done, text = _going_on(arguments)
        beginning.append(text)  # to print when the run is known to be this one
    with tqdm(total=arguments.epochs, desc="train", unit="epoch", disable=None) as bar:
        lines = Lines(bool(bar.disable))

        def on_step(step: int, steps: int) -> None:
            bar.update(1 / steps)
            lines.say(
                _STEP_LINES, f"epoch {done + 1} of {arguments.epochs}: step {step} of {steps}"
            )

        def on_epoch(epoch) -> None:
            nonlocal done
            bar.n = done = epoch.number
            loss = f"NLL {epoch.loss.nll:.0f}, KL {epoch.loss.kl:.0f} nats"
            bar.set_postfix_str(loss)
            lines.say(_EPOCH_LINES, f"epoch {epoch.number} of {arguments.epochs}: {loss}")

        history = train(
            net,
            x,
            y,
            validation=validation,
            checkpoint=arguments.out,
            resume=arguments.resume,
            on_step=on_step,
            on_epoch=on_epoch,
            **chosen,
        )
    for text in beginning:  # of a run without a step
        print(text)
    return history


def _going_on(arguments: argparse.Namespace) -> tuple[int, str]:
    """Number of epochs done, and a line that says so and under what schedule the run goes on."""
    from refbnn.training.checkpoint import progress
    from refbnn.training.optimise import SCHEDULES

    done, planned = progress(arguments.out)
    epochs, text = arguments.epochs, f"{arguments.out}: {done} of {planned} epochs are done"
    if done >= epochs:
        return done, f"{text}; a greater --epochs makes the run longer"
    if epochs == planned or arguments.schedule not in SCHEDULES:
        return done, f"{text}; it goes on"
    rate = arguments.learning_rate * SCHEDULES[arguments.schedule](done / epochs)
    return done, (
        f"{text}; it goes on to {epochs}, with the {arguments.schedule} schedule of {epochs} "
        f"epochs: learning rate {rate:.3g} in epoch {done + 1}"
    )


def _require_new_checkpoint(arguments: argparse.Namespace) -> None:
    """Raise InputError if training would overwrite a file that is to be kept."""
    out = arguments.out
    if out.exists() and not arguments.resume:
        raise InputError(f"{out} already exists: continue it with --resume, or choose another name")


def _parts(arguments: argparse.Namespace):
    """Find architecture or network, law and prior, before the data is loaded."""
    from refbnn import load
    from refbnn.network.architectures import architecture_named
    from refbnn.noise import Gaussian, load_law

    if (arguments.arch is None) == (arguments.start is None):
        raise InputError("expected either --arch NAME or --start MODEL.npz")
    law = None if arguments.noise is None else load_law(arguments.noise)[0]
    prior = None if arguments.prior is None else _prior(arguments.prior)
    if arguments.start is None:
        architecture = architecture_named(arguments.arch)
        return architecture, law or Gaussian(), prior or _prior(_PRIOR)
    for option in ("correlated", "normalise"):
        if getattr(arguments, option) is not None:
            raise InputError(f"--{option} is for a new network; expected it without --start")
    net = load(arguments.start)
    net = net if law is None else net.with_noise(law)
    net.prior = prior or net.prior
    return net, law, prior


def _network(arguments: argparse.Namespace, parts, examples: Dataset) -> tuple[Network, str]:
    """Make or take the network for these examples; also the name of its likelihood."""
    from refbnn import Network
    from refbnn.cli.models import require_classes
    from refbnn.layers import Flatten
    from refbnn.network.likelihoods import OF_CLASSES, OF_TARGETS

    likelihood = arguments.likelihood
    if examples.task == "regression" and likelihood in OF_CLASSES:
        raise InputError(
            f"--likelihood {likelihood}: {examples.name} holds targets of a regression; expected "
            "gaussian or energy (integers in y are classes)"
        )
    if examples.task == "classes" and likelihood in OF_TARGETS:
        raise InputError(
            f"--likelihood {likelihood}: {examples.name} holds classes; expected "
            f"{' or '.join(OF_CLASSES)}"
        )
    if isinstance(parts[0], Network):
        if examples.task == "regression" and parts[0].likelihood in OF_CLASSES:
            raise InputError(
                f"{arguments.start} was trained on classes; expected a data set of classes, not "
                f"{examples.name}"
            )
        if examples.task == "classes":
            require_classes(parts[0], arguments.start, examples)
            one_logit = parts[0].check_input(shaped(parts[0], examples).shape[1:]) == (1,)
            likelihood = likelihood or ("bernoulli" if one_logit else "categorical")
        return parts[0], likelihood or "gaussian"
    architecture, law, prior = parts
    image = examples.x.shape[1:]
    if not architecture.flat and len(image) == 1:
        raise InputError(
            f"--arch {arguments.arch} takes images; expected inputs (N, channels, height, width), "
            f"but {examples.name} has rows of {image[0]}"
        )
    n_outputs = examples.n_outputs
    if examples.task == "classes":
        likelihood = likelihood or "categorical"
        if likelihood == "bernoulli" and n_outputs != 2:
            raise InputError(
                f"--likelihood bernoulli: {examples.name} has {n_outputs} classes; expected 2"
            )
        n_outputs = 1 if likelihood == "bernoulli" else n_outputs
    else:
        likelihood = likelihood or "gaussian"
        n_outputs *= 2 if likelihood == "gaussian" and arguments.noise_sd is None else 1
    before, shape = shared.normalise(arguments), architecture.input_shape(image)
    if len(arguments.normalise or ()) > 1 and architecture.flat and len(image) > 1:
        before, shape = [*before, Flatten()], image  # channels, before they are rows
    layers = architecture.layers(n_outputs, image)
    net = Network(
        [*before, *layers],
        law=law,
        prior=prior,
        seed=arguments.seed,
        input_shape=shape,
        correlated=_correlated(arguments, before, layers),
    )
    return net, likelihood


def _correlated(arguments: argparse.Namespace, before: list, layers: list) -> tuple[int, ...]:
    """Index in the network of --correlated, which counts the architecture's own layers."""
    index = arguments.correlated
    if index is None:
        return ()
    with_weights = [i for i, layer in enumerate(layers) if layer.parameter_shapes()]
    if index not in with_weights:
        raise InputError(
            f"--correlated {index}: expected the index of a layer with weights, one of "
            f"{', '.join(map(str, with_weights))}"
        )
    return (len(before) + index,)


def _require_fitting_noise_and_targets(
    arguments: argparse.Namespace, net: Network, likelihood: str, examples: Dataset
) -> None:
    """Raise InputError if no shared noise can be learned, or the energy score gets raw targets."""
    from refbnn.training.data import in_unit_of_outputs

    if arguments.noise_sd == _LEARNED:
        if likelihood != "gaussian":
            raise InputError(
                f"--noise-sd {_LEARNED} with the likelihood {likelihood!r}; expected 'gaussian'"
            )
        outputs = net.check_input(shaped(net, examples, 1).shape[1:])
        if outputs != (examples.n_outputs,):
            raise InputError(
                f"--noise-sd {_LEARNED}: the network has outputs {outputs} for "
                f"{examples.n_outputs} targets; expected an output a target, since log variances "
                "are a noise of each input"
            )
    if likelihood == "energy" and examples.task == "regression":
        y = in_unit_of_outputs(net, examples.y)
        mean, sd = y.mean(axis=0, dtype=float), y.std(axis=0, dtype=float)
        if abs(mean).max() > _MODERATE or sd.max() > _MODERATE or sd.min() < 1.0 / _MODERATE:
            raise InputError(
                f"--likelihood energy: targets of {examples.name} have means up to "
                f"{abs(mean).max():.4g} and deviations from {sd.min():.4g} to {sd.max():.4g}; "
                "expected standardised ones (about 0 and 1), or --likelihood gaussian, which "
                "standardises them"
            )


def _warn_of_odd_answers(examples: Dataset) -> None:
    """Say on standard error if labels have holes, or targets look like labels."""
    import numpy as np

    y, said = examples.y, ""
    if examples.task == "classes":
        absent = np.setdiff1d(np.arange(examples.n_outputs), y)
        if absent.size:
            shown = ", ".join(map(str, absent[:_ABSENT])) + ", ..." * (absent.size > _ABSENT)
            said = f"{examples.n_outputs} classes, of which {shown} never occur"
    elif (y == np.round(y)).all() and 2 <= np.unique(y).size <= _FEW:
        said = (
            f"y holds {np.unique(y).size} whole numbers as floats, so it is taken for targets; "
            "write integers if they are classes"
        )
    if said:
        print(f"refbnn train: warning: {examples.name}: {said}", file=sys.stderr)


@contextmanager
def _options_as_typed() -> Iterator[None]:
    """Name options in errors as they are typed: --kl-warmup for kl_warmup."""
    names = [f.name for f in dataclasses.fields(Options) if "_" in f.name]
    pattern = re.compile(rf"(?<![\w/.-])({'|'.join(names)})(?![\w/.-])")
    try:
        yield
    except InputError as error:
        text = pattern.sub(lambda found: f"--{found[0].replace('_', '-')}", str(error))
        raise InputError(text) from None


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
