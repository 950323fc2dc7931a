"""`train`: a run of training from its options and data to its last epoch, with checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from refbnn.errors import InputError
from refbnn.network.network import Network
from refbnn.training import checkpoint as checkpoints
from refbnn.training.data import fingerprint, prepare, training_data
from refbnn.training.options import Options
from refbnn.training.run import Epoch, Training


def train(
    net: Network,
    x: np.ndarray,
    y: np.ndarray,
    *,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    trained_on: tuple[str, str] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
    **options: Any,
) -> list[Epoch]:
    """Train a network in place by mean-field variational inference; return its epochs.

    Parameters
    ----------
    net : Network
        Its means, scales and correlations are replaced; law and prior stay. It takes the name of
        the likelihood, the range of x, the noise of the targets and, with `scale_targets`, a last
        layer; its variance factor is 1 again.
    x : (N, ...)
        Examples that fit the network.
    y : (N, ...)
        Targets as the likelihood takes them.
    validation : (x, y), optional
        Held-out data. Each epoch is scored by the mean of −log p(y | x) in nats an example, under
        8 posterior samples. The network ends with the parameters of the best epoch among those
        in which KL counts in full.
    checkpoint : path, optional
        File that holds network and run after every epoch, and at the end the best network. An
        existing file is refused without `resume`.
    resume : bool
        Continue from the checkpoint if it exists, with the options, data and architecture of its
        start: bit-identical to a run that never stopped. `epochs` alone may differ, if it is no
        less than what is done: the schedule of the learning rate is then that of the new number
        from the next epoch on.
    trained_on : (str, str), optional
        Name and fingerprint of the data set, which the network and its file then have.
    on_epoch, on_step : callable, optional
        Called with each epoch, and with the number of each step and of all steps in the epoch.
    **options
        Fields of `refbnn.training.options.Options`, such as epochs=20, learning_rate=2e-3, seed=0.

    Raises
    ------
    InputError
        If an option or the data are wrong, the loss stops being finite, or the checkpoint belongs
        to another run. Before the first epoch's end the network is then left as it was; later it
        keeps what the last epoch left.

    Examples
    --------
    >>> import numpy as np
    >>> from refbnn import Network, train
    >>> from refbnn.layers import Dense
    >>> x = np.random.default_rng(0).standard_normal((64, 4))
    >>> y = (x[:, 0] > 0).astype(int)
    >>> epochs = train(Network([Dense(4, 2)]), x, y, epochs=2, batch_size=8, learning_rate=0.1)
    >>> [epoch.number for epoch in epochs], epochs[1].loss.nll < epochs[0].loss.nll
    ([1, 2], True)
    """
    chosen = Options.of_keywords(options)
    x, y, validation = _checked(net, x, y, validation, chosen)
    if checkpoint is None and resume:
        raise InputError("train: resume without a checkpoint; expected the file to continue from")
    before, training = vars(net) | {"correlation": dict(net.correlation)}, None
    try:
        prepare(net, x, y, chosen)
        net.trained_on = trained_on
        training, save = _start(net, x, y, validation, chosen, checkpoint, resume)
        _run_to_the_end(training, save, x, y, validation, on_epoch, on_step)
    except InputError:
        if training is None or not training.history:
            vars(net).update(before)
        raise
    return training.history


def _checked(
    net: Network, x, y, validation: tuple[np.ndarray, np.ndarray] | None, options: Options
):
    """Data of training and validation; InputError unless they fit network and options."""
    x, y = training_data(net, x, y, options, "x and y")
    if validation is not None:
        validation = training_data(net, *validation, options, "validation x and y")
    elif options.patience is not None:
        raise InputError("train: patience without validation data; expected both")
    return x, y, validation


def _run_to_the_end(training: Training, save, x, y, validation, on_epoch, on_step) -> None:
    """Run the epochs that are left, each of which is saved, and choose the best one."""
    while not training.finished:
        epoch = training.run_epoch(x, y, validation, on_step)
        save()
        if on_epoch is not None:
            on_epoch(epoch)
    training.finish()
    if training.best is not None:
        save()  # now with the network of the best epoch


def _start(
    net, x, y, validation, options: Options, checkpoint: str | Path | None, resume: bool
) -> tuple[Training, Callable[[], None]]:
    """Begin or resume a run; the function returned saves it, if there is a checkpoint."""
    if checkpoint is None:
        return Training(net, options), lambda: None
    path = Path(checkpoint)
    checkpoints.check(path, net, options, validated=validation is not None)
    if path.exists() and not resume:
        raise InputError(
            f"{path} already exists: continue it with resume=True, or choose another name"
        )
    data = fingerprint(x, y, *(validation or ()))
    if resume and path.exists():
        training = checkpoints.load_training(path, net, options, data)
    else:
        training = Training(net, options)
    return training, lambda: checkpoints.save_training(path, training, data)
