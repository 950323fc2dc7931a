"""Options of a run of training, checked. Light to import: the command line shows the defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING

from refbnn.errors import InputError

if TYPE_CHECKING:
    from refbnn.training.elbo import Objective

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


@dataclass(frozen=True)
class Options:
    """How to train; what the words mean is said in `train`."""

    likelihood: str = "categorical"
    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 2e-3
    schedule: str = "cosine"
    n_samples: int = 1
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

        likelihood_named(self.likelihood)
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None or name != "patience":
                object.__setattr__(self, name, _integer(name, value, least))
        for name in ("learning_rate", "clip_norm"):
            value = getattr(self, name)
            if value is not None or name != "clip_norm":
                object.__setattr__(self, name, _positive(name, value))
        if self.kl_warmup >= self.epochs:
            raise InputError(
                f"train: kl_warmup is {self.kl_warmup}; expected less than epochs, {self.epochs}"
            )
        if not isinstance(self.local, bool):
            raise InputError(f"train: local is {self.local!r}; expected True or False")
        if self.local and self.threads > 1:
            raise InputError(f"train: local with {self.threads} threads; expected one")
        for name, known in (("schedule", tuple(SCHEDULES)), ("dtype", TYPES)):
            if getattr(self, name) not in known:
                raise InputError(
                    f"train: {name} {getattr(self, name)!r}; expected one of {', '.join(known)}"
                )

    @property
    def objective(self) -> Objective:
        """What is minimised."""
        from refbnn.training.elbo import Objective
        from refbnn.training.likelihood import likelihood_named

        return Objective(
            likelihood_named(self.likelihood), self.n_samples, self.local, self.threads
        )


def _integer(name: str, value: object, least: int) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise InputError(f"train: {name} is {value!r}; expected an integer of at least {least}")
    return int(value)


def _positive(name: str, value: object) -> float:
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not (number and math.isfinite(value) and value > 0.0):  # type: ignore[arg-type, operator]
        raise InputError(f"train: {name} is {value!r}; expected a number above 0")
    return float(value)  # type: ignore[arg-type]
