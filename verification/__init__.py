"""Verification: operators against high-sample Monte Carlo, kernels against the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from tabulate import tabulate

from kernels.devices import Board
from refbnn.noise import Bimodal, HeavyTailed, Law
from refbnn.numerics.random.streams import stream
from verification import (
    activations,
    conv2d,
    covariance,
    dense,
    gradient,
    kl,
    layers,
    max_pool2d,
    relu,
    sampling,
    softmax,
)
from verification.check import Check
from verification.kernels import activations as kernel_activations
from verification.kernels import gradients as kernel_gradients
from verification.kernels import networks
from verification.kernels import sampling as kernel_sampling

__all__ = ["SHAPES", "Check", "Step", "as_rows", "as_text", "steps"]

# Shapes that a fit may or may not choose.
SHAPES: dict[str, Law] = {"two peaks": Bimodal(), "heavy tails": HeavyTailed(0.7, 0.2)}


@dataclass(frozen=True)
class Step:
    """Some checks that run together, with random numbers of their own.

    Parameters
    ----------
    name : str
        For progress.
    checks : callable (n_samples, rng) -> list of Check
    """

    name: str
    checks: Callable[[int, np.random.Generator], list[Check]]

    def run(self, n_samples: int, seed: int) -> list[Check]:
        """Run with random numbers that depend on the seed and on this step's name alone."""
        return self.checks(n_samples, stream(seed, self.name))


def steps(laws: Mapping[str, Law], target: str, device: str | Board) -> list[Step]:
    """Every check for every law by label, and the kernels for one target, on a device."""
    listed = []
    for label, law in laws.items():
        for module in (sampling, kl, gradient, dense, conv2d, layers, covariance):
            name = f"{module.__name__.rpartition('.')[2]}, {label}"
            listed.append(Step(name, _bind(module.check, label, law)))
    listed.append(Step("relu", relu.check))
    listed.append(Step("relu covariance", covariance.check_rectified))
    listed.append(Step("activations", activations.check))
    listed.append(Step("max_pool2d", max_pool2d.check))
    listed.append(Step("softmax", softmax.check))
    listed.append(Step("kernels", lambda _, rng: networks.check(target, device, rng)))
    listed.append(
        Step("kernel activations", lambda _, rng: kernel_activations.check(target, device, rng))
    )
    listed.append(
        Step("kernel gradients", lambda _, rng: kernel_gradients.check(target, device, rng))
    )
    listed.append(
        Step("sampling kernels", lambda _, rng: kernel_sampling.check(target, device, rng))
    )
    return listed


def _bind(check, label, law):
    return lambda n_samples, rng: check(label, law, n_samples, rng)


def as_rows(checks: list[Check]) -> list[dict]:
    """The checks as plain data, for JSON and tables."""
    return [{**asdict(check), "holds": check.holds} for check in checks]


def as_text(rows: list[dict]) -> str:
    """The rows as a table for a terminal."""
    columns = {"name": "check", "statistic": "deviation", "limit": "limit", "unit": "unit"}
    return tabulate(
        [[row[key] for key in columns] + ["yes" if row["holds"] else "NO"] for row in rows],
        headers=[*columns.values(), "holds"],
        floatfmt=".3g",
    )
