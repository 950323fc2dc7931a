"""Options of a run of training, checked. Light to import: the command line shows the defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any

from refbnn.errors import InputError, suggestion

TYPES = ("float32", "float64")
_LEAST = {
    "epochs": 1,
    "batch_size": 1,
    "n_samples": 1,
    "kl_warmup": 0,
    "patience": 1,
    "seed": 0,
    "threads": 1,
}
_OPTIONAL = ("clip_norm", "noise_sd", "patience")  # may be None


@dataclass(frozen=True)
class Options:
    """How to train.

    Parameters
    ----------
    likelihood : str
        "categorical", "bernoulli" (two classes from one logit), "gaussian" or "energy"
        (`refbnn.training.likelihood`). With "gaussian", D outputs for D targets have one noise for
        all inputs; 2D outputs are means and log variances.
    epochs : int
        Passes over the data.
    batch_size : int
        Examples in a step; the last step of an epoch may have fewer.
    learning_rate : float
        Step size of Adam, before the schedule's factor.
    schedule : str
        Factor of the learning rate over the run: "cosine", "linear" or "constant".
    n_samples : int
        Posterior samples in a step.
    noise_sd : float, optional
        "gaussian" with D outputs: known standard deviation of the noise, in the targets' unit. By
        default it is learned: after each epoch it becomes the one that maximises the likelihood.
    scale_targets : bool
        "gaussian": a last layer `Normalise` turns standardised outputs into the targets' unit, by
        the mean and deviation of the training targets. It is appended to the network, or replaces a
        last `Normalise`, which has the scale of other targets.
    local : bool
        Local reparameterisation (`refbnn.training.local_reparameterisation`): a less noisy
        gradient, for the Gaussian law and one thread.
    kl_warmup : int
        Epochs, fewer than `epochs`, over which the weight of KL grows linearly from 0 to 1.
    clip_norm : float, optional
        Greatest norm of the gradient of all µ and ρ together, in nats for the whole data set.
    patience : int, optional
        Training ends after so many epochs without a better validation score.
    dtype : str or NumPy type
        float32 or float64, the type of the arithmetic.
    seed : int
        Seed of the order of examples and of the posterior samples.
    threads : int
        Parts of a minibatch computed at the same time. Sums round differently for another number.
        Limit BLAS to one thread meanwhile (threadpoolctl), or both compete for the cores.
    """

    likelihood: str = "categorical"
    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 2e-3
    schedule: str = "cosine"
    n_samples: int = 1
    noise_sd: float | None = None
    scale_targets: bool = False
    local: bool = False
    kl_warmup: int = 0
    clip_norm: float | None = None
    patience: int | None = None
    dtype: str = "float32"
    seed: int = 0
    threads: int = 1

    def __post_init__(self):
        from refbnn.training.likelihood import likelihood_named
        from refbnn.training.optimise import SCHEDULES

        least_samples = likelihood_named(self.likelihood).least_samples
        for name in (*_LEAST, "learning_rate", "clip_norm", "noise_sd"):
            value = getattr(self, name)
            if value is not None or name not in _OPTIONAL:
                plain = _integer(name, value) if name in _LEAST else _positive(name, value)
                object.__setattr__(self, name, plain)
        if self.n_samples < least_samples:
            raise InputError(
                f"train: n_samples is {self.n_samples}; expected at least {least_samples} for the "
                f"likelihood {self.likelihood!r}"
            )
        if self.kl_warmup >= self.epochs:
            raise InputError(
                f"train: kl_warmup is {self.kl_warmup}; expected less than epochs, {self.epochs}"
            )
        for name in ("local", "scale_targets"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(
                    f"train: {name} is {getattr(self, name)!r}; expected True or False"
                )
        if self.likelihood != "gaussian" and (self.noise_sd is not None or self.scale_targets):
            name = "scale_targets" if self.noise_sd is None else "noise_sd"
            raise InputError(
                f"train: {name} with the likelihood {self.likelihood!r}; expected 'gaussian'"
            )
        if self.local and self.threads > 1:
            raise InputError(f"train: local with {self.threads} threads; expected one")
        object.__setattr__(self, "dtype", _name_of_type(self.dtype))
        for name, known in (("schedule", tuple(SCHEDULES)), ("dtype", TYPES)):
            if getattr(self, name) not in known:
                raise InputError(
                    f"train: {name} {getattr(self, name)!r}; expected one of {', '.join(known)}"
                )

    @classmethod
    def of_keywords(cls, given: Mapping[str, Any]) -> Options:
        """Options from the keywords of `train`; InputError names one that does not exist."""
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                raise InputError(f"train: no option {name!r}{suggestion(name, known)}")
        return cls(**given)


def _integer(name: str, value: object) -> int:
    least = _LEAST[name]
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise InputError(f"train: {name} is {value!r}; expected an integer of at least {least}")
    return int(value)


def _positive(name: str, value: object) -> float:
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not (number and math.isfinite(value) and value > 0.0):  # type: ignore[arg-type, operator]
        raise InputError(f"train: {name} is {value!r}; expected a number above 0")
    return float(value)  # type: ignore[arg-type]


def _name_of_type(dtype: object) -> object:
    """Return "float32" for np.float32 and for its np.dtype; another object is returned as it is."""
    if isinstance(dtype, type):
        return dtype.__name__
    return dtype if isinstance(dtype, str) else getattr(dtype, "name", dtype)
