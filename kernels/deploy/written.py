"""Source of the files of a deployed network: kernels and names, and how C writes numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from string import Template

import numpy as np

import refbnn
from kernels.deploy.memory import ALIGNMENT, Library
from kernels.deploy.statistics import Statistics
from kernels.program.program import Layout

_SHORT = {"variance": "var", "covariance": "cov"}


@dataclass(frozen=True, eq=False)
class Written:
    """Kernels, names and kind of a library, from which its files are written.

    Parameters
    ----------
    name : str
        Prefix of functions and files.
    library : Library
        Kernels; the first propagates moments, the second predicts if there is one.
    predicted : Statistics or None
    second : {"variance", "covariance"}
        What stands beside the mean.
    """

    name: str
    library: Library
    predicted: Statistics | None
    second: str

    @property
    def inputs(self) -> Layout:
        """Layout of the inputs."""
        return self.library.parts[0].program.inputs[0][0]

    @property
    def outputs(self) -> Layout:
        """Layout of the outputs."""
        return self.library.parts[0].program.outputs[0][0]

    @property
    def batch(self) -> int:
        """Examples of one call."""
        return self.library.parts[0].program.batch

    @property
    def has_variance(self) -> bool:
        """Whether the kernel gives one: mean, variance and status come out."""
        return len(self.library.parts[0].program.outputs) > 2

    def filled(self, template: str, **words: object) -> str:
        """Fill in a template; words that all have in common come from here."""
        path = Path(__file__).with_name("templates") / template
        return Template(path.read_text(encoding="utf-8")).substitute(
            words,
            name=self.name,
            upper=self.name.upper(),
            version=refbnn.__version__,
            alignment=ALIGNMENT,
            second_name=c_name(self.second),
        )


def c_name(result: str) -> str:
    """Name of a result's array in C."""
    return _SHORT.get(result, result)


def sizes(written: Written) -> dict[str, int]:
    """Numbers of mean, variance and covariance that a call hands out."""
    n = prod(written.outputs.shape)
    return {
        "mean": written.batch * n,
        "variance": written.batch * n,
        "covariance": written.batch * n * n,
    }


def rows(layout: Layout, batch: int) -> tuple[int, int, int]:
    """Count rows, numbers in a row, and numbers from row to row in the kernel's memory."""
    *outer, pitch = layout.tensor_shape(batch)
    return prod(outer), layout.shape[-1], pitch


def in_words(shape: Sequence[int]) -> str:
    """Write a shape for a reader."""
    return " x ".join(map(str, shape))


def numbers(values: np.ndarray) -> str:
    """Write numbers for C, eight to a line: the shortest decimals that are read as the same."""
    suffix = "f" if values.dtype == np.float32 else ""
    flat = values.ravel()

    def word(number) -> str:
        return "NAN" if np.isnan(number) else f"{number!s}{suffix}"

    lines = (flat[i : i + 8] for i in range(0, flat.size, 8))
    return "".join(f"  {', '.join(map(word, line))},\n" for line in lines)
