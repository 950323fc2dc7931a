"""Training: minibatch Adam on means and unconstrained scales, σ = softplus(ρ).

A `Training` is a run. Its state consists of arrays and the state of one random generator, so it can
stop after any epoch, be saved (`refbnn.training.checkpoint`) and continue as if it had never
stopped: bit for bit with the same packages, processor and number of BLAS threads.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from refbnn.errors import InputError
from refbnn.layers.posterior import Posterior
from refbnn.network.network import Network
from refbnn.numerics.arrays import all_finite
from refbnn.numerics.random.streams import stream
from refbnn.numerics.softplus import inverse_softplus, softplus, softplus_and_slope
from refbnn.training.elbo import Loss, check_network, correlation_name, flat_loss_and_gradient
from refbnn.training.likelihood import likelihood_named
from refbnn.training.optimise import SCHEDULES, Adam, clip
from refbnn.training.options import Options

_LEAST_RATIO = 1e-4  # of a noise's variance in one epoch: outputs that meet all targets
_VALIDATION_SAMPLES = 8  # enough to rank epochs; 30 would cost as much as a short epoch
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Epoch:
    """Loss of one pass over the data.

    Parameters
    ----------
    number : int
        Counts from 1.
    loss : Loss
        Mean over the minibatches, in nats for the whole data set.
    kl_weight : float
        λ at the end of the epoch.
    validation : float or None
        Score of the validation data in nats an example; less is better.
    """

    number: int
    loss: Loss
    kl_weight: float = 1.0
    validation: float | None = None


@dataclass(frozen=True, eq=False)
class Best:
    """The epoch of least validation score so far, and the parameters and noise after it."""

    epoch: int
    score: float
    parameters: Arrays
    noise_sd: tuple[float, ...] | None = None


@dataclass(eq=False)
class Training:
    """A run of training: the network, and all that is needed to continue.

    Parameters
    ----------
    net : Network
        Its means and scales are replaced after every epoch.
    options : Options
    """

    net: Network
    options: Options
    history: list[Epoch] = field(default_factory=list)
    best: Best | None = None

    def __post_init__(self):
        check_network(self.net, self.options)
        if not self.net.layout.size:
            raise InputError("train: no layer has weights; expected at least one")
        layout, parameters = self.net.layout, self.net.parameters()
        number = np.dtype(self.options.dtype).type
        scale = layout.flatten({name: p.scale for name, p in parameters.items()})
        if not (scale > 0.0).all():
            raise InputError("train: a weight has scale 0, so KL is infinite; expected above 0")
        start = {
            "mean": layout.flatten({name: p.mean for name, p in parameters.items()}),
            "rho": inverse_softplus(scale),
        } | {correlation_name(i): A for i, A in self.net.correlation.items()}
        self.adam = Adam({name: array.astype(number) for name, array in start.items()})
        self.rng = stream(self.options.seed, "train")
        # The same network with the correlations that Adam holds, in Adam's type.
        self._work = copy.copy(self.net)
        self._work.correlation = {
            i: self.parameters[correlation_name(i)] for i in self.net.correlation
        }
        self.refresh()

    @property
    def parameters(self) -> Arrays:
        """µ and ρ, flat, and A of correlated layers: the arrays that Adam changes in place."""
        return self.adam.parameters

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the validation score has run out of patience."""
        done, patience = len(self.history), self.options.patience
        stalled = (
            self.best is not None and patience is not None and done - self.best.epoch >= patience
        )
        return done >= self.options.epochs or stalled

    def step(self, x: np.ndarray, y: np.ndarray, n_data: int, epochs_done: float) -> Loss:
        """Update the parameters from one minibatch.

        Parameters
        ----------
        x, y : (B, ...)
            Examples of the options' type, and targets.
        n_data : int
            N, the size of the whole data set.
        epochs_done : float
            Progress of the run, for the learning rate's schedule and KL's warm-up.

        Raises
        ------
        InputError
            If KL is undefined or the loss not finite at these parameters; nothing is updated then.
        """
        scale, slope = softplus_and_slope(self.parameters["rho"])
        loss, grads = flat_loss_and_gradient(
            self._work,
            self.parameters["mean"],
            scale,
            x,
            y,
            n_data,
            self.rng,
            self.options,
            self._kl_weight(epochs_done),
        )
        if not np.isfinite(loss.total):
            raise InputError(
                self._explained(f"loss is {loss.nll} (likelihood) + {loss.kl} (KL); ", x)
            )
        grads["rho"] = grads.pop("scale") * slope
        if self.options.clip_norm is not None:
            grads = clip(grads, self.options.clip_norm)
        factor = SCHEDULES[self.options.schedule](epochs_done / self.options.epochs)
        self.adam.step(grads, factor * self.options.learning_rate)
        return loss

    def run_epoch(
        self,
        x: np.ndarray,
        y: np.ndarray,
        validation: tuple[np.ndarray, np.ndarray] | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Epoch:
        """Pass over the data once, in a new random order; the network then holds the result.

        Raises
        ------
        InputError
            If the loss or the validation score is NaN or infinite; the network keeps what the last
            epoch left.
        """
        number = len(self.history) + 1
        loss, residual = self._pass_over(x, y, number, on_step)
        kept = self.net.parameters(), dict(self.net.correlation), self.noise_sd
        self.refresh()
        if self.noise_sd is not None and self.options.noise_sd is None:
            self.set_noise(_likeliest_noise(self.noise_sd, residual))
        score = None
        if validation is not None:
            try:
                score = self._score(*validation, number)
            except InputError:
                self.net.set_parameters(kept[0])
                self.net.correlation.update(kept[1])
                self.set_noise(kept[2])
                raise
        self.history.append(Epoch(number, loss, self._kl_weight(number), score))
        # While KL warms up the posterior is a tempered one, and no candidate: KL counted in full
        # from the first step of the epoch on.
        whole = self._kl_weight(number - 1) == 1.0
        if score is not None and whole and (self.best is None or score < self.best.score):
            copies = {name: array.copy() for name, array in self.parameters.items()}
            self.best = Best(number, score, copies, self.noise_sd)
        return self.history[-1]

    def _pass_over(
        self,
        x: np.ndarray,
        y: np.ndarray,
        number: int,
        on_step: Callable[[int, int], None] | None,
    ) -> tuple[Loss, np.ndarray]:
        """Take the steps of epoch `number`.

        Returns the mean loss of its minibatches, and the mean of (y − m)² of each target over all
        examples, (D,), where all inputs have the same noise.
        """
        order = self.rng.permutation(len(x))
        starts = range(0, len(x), self.options.batch_size)
        nll = kl = 0.0
        residual = np.zeros(len(self.noise_sd or ()))
        for done, start in enumerate(starts):
            batch = order[start : start + self.options.batch_size]
            try:
                with np.errstate(all="ignore"):  # `step` reports what is not finite
                    loss = self.step(x[batch], y[batch], len(x), number - 1 + done / len(starts))
                if done + 1 == len(starts) and not self._finite():
                    raise InputError(self._explained("", x[:0]))
            except InputError as error:
                place = f"train: epoch {number}, step {done + 1} of {len(starts)}"
                raise InputError(f"{place}: {error}") from None
            nll += loss.nll / len(starts)
            kl += loss.kl / len(starts)
            residual += len(batch) / len(x) * np.asarray(loss.residual)
            if on_step is not None:
                on_step(done + 1, len(starts))
        return Loss(nll, kl), residual

    def finish(self) -> None:
        """Set the network to the parameters of the best epoch, if validation chose one."""
        if self.best is not None:
            self.refresh(self.best.parameters)
            self.net.noise_sd = self.best.noise_sd

    @property
    def noise_sd(self) -> tuple[float, ...] | None:
        """Noise of the targets in the next step; `finish` gives the network the best one."""
        return self._work.noise_sd

    def set_noise(self, noise_sd: tuple[float, ...] | None) -> None:
        """Set the standard deviations of the targets' noise."""
        self.net.noise_sd = self._work.noise_sd = noise_sd

    def _kl_weight(self, epochs_done: float) -> float:
        warmup = self.options.kl_warmup
        return min(1.0, epochs_done / warmup) if warmup else 1.0

    def refresh(self, parameters: Arrays | None = None) -> None:
        """Set the network to these parameters or the current ones, as float64."""
        held = self.parameters if parameters is None else parameters
        means = self.net.layout.views(held["mean"].astype(float))
        scales = self.net.layout.views(softplus(held["rho"]).astype(float))
        self.net.set_parameters({n: Posterior(means[n], scales[n]) for n in means})
        for index in self.net.correlation:
            self.net.correlation[index] = held[correlation_name(index)].astype(float)

    def _score(self, x: np.ndarray, y: np.ndarray, epoch: int) -> float:
        """Validation score in nats an example: −log of the mean likelihood over samples.

        The posterior noise is the same in every epoch, so that the parameters alone differ.
        """
        rng = stream(self.options.seed, "validation")
        score = np.nan
        with contextlib.suppress(InputError), np.errstate(all="ignore"):  # of outputs that overflow
            outputs = self.net.sample(x, _VALIDATION_SAMPLES, rng)
            likelihood = likelihood_named(self.options.likelihood, self.net.noise_sd)
            score = float(likelihood.predictive_score(outputs, y).mean())
        if not np.isfinite(score):
            raise InputError(
                f"train: epoch {epoch}: the validation score is {score}; expected a finite number, "
                "try a smaller learning_rate"
            )
        return score

    def _explained(self, error: str, x: np.ndarray) -> str:
        """Append to an error the first layer that overflows at µ, or what to try."""
        if not self._finite():
            return "a weight is no longer finite; expected a smaller learning_rate"
        with np.errstate(all="ignore"):
            y, inputs = self._work.forward(x, self._work.layout.views(self.parameters["mean"]))
        for index, output in enumerate([*inputs[1:], y]):
            if not np.isfinite(output).all():
                kind = type(self.net.layers[index]).__name__
                return f"{error}the output of layer {index}, {kind}, overflows at the means"
        return f"{error}expected finite numbers, try a smaller learning_rate"

    def _finite(self) -> bool:
        return all(all_finite(array) for array in self.parameters.values())


def _likeliest_noise(noise_sd: tuple[float, ...], residual: np.ndarray) -> tuple[float, ...]:
    """Noise that maximises the likelihood of the epoch's samples, each target's by itself.

    With N examples and r_d the mean of (y − m)² of target d, −log p is N Σ_d (r_d/2s_d² + log s_d)
    but for a constant, and least where s_d² = r_d. A step of variational EM, exact in s for the
    posterior that the epoch saw.
    """
    least = _LEAST_RATIO * np.square(noise_sd)
    return tuple(np.sqrt(np.maximum(residual, least)).tolist())
