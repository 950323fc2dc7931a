"""`train`: a run of training from its options and data to its last epoch, with checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from refbnn.errors import InputError
from refbnn.network.network import Network
from refbnn.training import checkpoint as checkpoints
from refbnn.training.data import checked, fingerprint
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
    on_epoch: Callable[[Epoch], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
    **options: Any,
) -> list[Epoch]:
    """Train a network in place by mean-field variational inference.

    From then on the process keeps up to 1 GiB of freed memory (`refbnn.training.malloc`).

    Parameters
    ----------
    net : Network
        Its means and scales (and what correlates them) are replaced; law and prior stay.
    x : (N, ...)
        Examples that fit the network.
    y : (N, ...)
        Targets as the likelihood wants them (`refbnn.training.likelihood`).
    validation : (x, y), optional
        Held-out data. Each epoch is scored by the mean of −log p(y | x) in nats an example, under
        8 posterior samples; the network ends with the parameters of the best epoch, of those in
        which KL counts in full.
    checkpoint : path, optional
        File that holds network and run after every epoch (`refbnn.training.checkpoint`); at the
        end, the network of the best epoch. One that is there is refused without `resume`.
    resume : bool
        Go on from the checkpoint if it is there; bit-identical to not having stopped. Options,
        data and architecture must be those of the start.
    on_epoch, on_step : callable, optional
        Called with each epoch; with the number of each step and of all in the epoch.
    likelihood : str
        "categorical" (default), "gaussian" or "energy".
    epochs, batch_size, n_samples : int
        Passes over the data (20); examples a step, a last smaller batch is kept (128); posterior
        samples a step (1).
    learning_rate : float
        Of Adam (2e-3), times the schedule.
    schedule : str
        "cosine" (default), "linear" or "constant", over all epochs.
    local : bool
        Local reparameterisation: less noise in the gradient, Gaussian law only, one thread.
    kl_warmup : int
        Epochs over which the weight of KL grows from 0 to 1, in equal steps (0: always 1); fewer
        than `epochs`.
    clip_norm : float, optional
        Longest gradient, in all of µ and ρ together; nats for the whole data set.
    patience : int, optional
        Epochs without a better validation score before training ends; needs `validation`.
    dtype : str
        "float32" (default) or "float64", of the arithmetic.
    seed : int
        Of the order of examples and of the posterior samples.
    threads : int
        Parts of each minibatch that are computed at the same time (1). Sums round differently for
        another number. Hold BLAS itself to one thread (threadpoolctl): its threads wait for each
        other after every product.

    Returns
    -------
    list of Epoch

    Raises
    ------
    InputError
        If the arrays do not fit the network or each other, hold NaN, or an option is out of range;
        if the loss stops being finite, where; if a checkpoint is of another run.
    """
    chosen = Options(**options)
    x, y = checked(net, x, y, chosen, "x and y")
    if validation is not None:
        validation = checked(net, *validation, chosen, "validation x and y")
    elif chosen.patience is not None:
        raise InputError("train: patience without validation data; expected both")
    path = None if checkpoint is None else Path(checkpoint)
    if resume and path is None:
        raise InputError("train: resume without a checkpoint; expected a file to go on from")
    data = ""
    if path is not None:
        checkpoints.check(path, net, chosen, validated=validation is not None)
        if path.exists() and not resume:
            raise InputError(f"{path}: is there; expected resume to go on with it, or another name")
        data = fingerprint(x, y, *(validation or ()))
    if resume and path is not None and path.exists():
        training = checkpoints.load_training(path, net, chosen, data)
    else:
        training = Training(net, chosen)
    while not training.finished:
        epoch = training.run_epoch(x, y, validation, on_step)
        if path is not None:
            checkpoints.save_training(path, training, data)
        if on_epoch is not None:
            on_epoch(epoch)
    training.finish()
    if path is not None and training.best is not None:
        checkpoints.save_training(path, training, data)  # now with the network of the best epoch
    return training.history
