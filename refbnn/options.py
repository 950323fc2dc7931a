"""Options of a run of training, checked. Light to import: the command line shows the defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from refbnn.errors import InputError

if TYPE_CHECKING:
    from refbnn.elbo import Objective

TYPES = ("float32", "float64")


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
        from refbnn.likelihood import likelihood_named
        from refbnn.optimise import SCHEDULES

        likelihood_named(self.likelihood)
        for name, least in (("epochs", 1), ("batch_size", 1), ("n_samples", 1), ("kl_warmup", 0), ("threads", 1)):
            _require_integer(name, getattr(self, name), least)
        if self.patience is not None:
            _require_integer("patience", self.patience, 1)
        for name in ("learning_rate", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0.0):
                raise InputError(f"train: {name} is {value}; expected a number above 0")
        for name, known in (("schedule", SCHEDULES), ("dtype", TYPES)):
            if getattr(self, name) not in known:
                raise InputError(
                    f"train: {name} {getattr(self, name)!r}; expected one of {', '.join(known)}"
                )

    @property
    def objective(self) -> Objective:
        """What is minimised."""
        from refbnn.elbo import Objective
        from refbnn.likelihood import likelihood_named

        return Objective(likelihood_named(self.likelihood), self.n_samples, self.local, self.threads)


def _require_integer(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"train: {name} is {value!r}; expected an integer of at least {least}")
