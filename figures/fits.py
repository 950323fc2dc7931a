"""Fitted laws over measurements, and the difference that remains between them.

Shown: the packaged junction conductances; and relaxed resistive memory, where the environment
variable REFBNN_DATA names a folder with `device_noise/rram_tech{B,C}_relaxation.csv.gz`: of the 49
samples (a target range and a time since programming each) eight in full, and all by the family
chosen, its p-value and the values' excess kurtosis.

Above: histogram, chosen law, Gaussian of equal mean and standard deviation. Below: the difference
F_n − F of the empirical and the fitted distribution function, the 95 % band of the
Kolmogorov–Smirnov distance for a law fitted to these values (`refbnn.noise.fitting.evidence`), and
±1.36/√n, the textbook's band for a law known beforehand.

Source: arXiv 2501.05564, figure 2 (fit of a device law to measured noise). Measurements:
A. Levy, RRAM-Relaxation-Master-Model.

What to look for. A line that leaves the band refutes the law; the wider textbook band would miss
this. Memory is flat and bounded just after programming, and heavy-tailed or multimodal later. One
test in twenty leaves its band by chance; a law is called refuted only at p < 1 %.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.patches import Rectangle
from scipy.optimize import bisect
from scipy.stats import kurtosis

from figures.support.style import AMBER, BLUE, GREEN, GREY, ORANGE, PINK, figure, legend_below, save
from refbnn.data import packaged
from refbnn.noise import Gaussian, NoiseFit, read_measurements
from refbnn.noise.fitting import FAMILIES
from refbnn.noise.fitting.bounded import MAX_DEGREE
from refbnn.noise.fitting.evidence import Cells, cells_of, ks_p_value
from refbnn.noise.fitting.sample import checked_sample
from refbnn.noise.fitting.selection import choose, estimates

# Flat, heavy-tailed and multimodal samples, and the one that no law fits.
_SHOWN = (
    ("B", 6, 0.0), ("B", 12, 0.1), ("B", 6, 1e4), ("B", 30, 1e4),
    ("C", 6, 0.01), ("C", 12, 0.1), ("C", 21, 1.0), ("C", 30, 1e5),
)  # fmt: skip
_COLOURS = dict(zip(FAMILIES, (GREY, AMBER, GREEN, PINK, BLUE), strict=True))

Group = tuple[str, int, float]  # technology, range, seconds since programming
STEPS = 2  # calls of `tick`


@dataclass(frozen=True, eq=False)
class Fitted:
    """One sample of measurements and the law fitted to it."""

    values: np.ndarray
    fit: NoiseFit
    cells: Cells

    def residual(self) -> np.ndarray:
        """Difference F_n − F at the cells' edges."""
        below = np.searchsorted(np.sort(self.values), self.cells.edges)
        return below / self.values.size - self.cells.cdf

    def band(self, seed: int) -> float:
        """Distance with a p-value of 5 %."""
        n, root = self.values.size, np.sqrt(self.values.size)

        def excess(d: float) -> float:
            return ks_p_value(self.cells, d, n, seed) - 0.05

        return float(bisect(excess, 0.2 / root, 2.0 / root, xtol=0.005 / root))

    def numbers(self) -> dict:
        """Numbers that the pictures show."""
        fit = self.fit
        return {
            "n_values": fit.n_values,
            "mean_uS": fit.location,
            "standard_deviation_uS": fit.scale,
            "family": fit.family,
            "fits": fit.fits,
            "ks_distance": fit.ks_distance,
            "ks_p_value": fit.ks_p_value,
            "bic": {c.family: c.bic for c in fit.candidates},
            "excess_kurtosis_of_values": float(kurtosis(self.values)),
            "kl_from_data_nats": fit.kl_from_data,
        }


def fitted(values: np.ndarray, seed: int, families: Collection[str] = FAMILIES) -> Fitted:
    """Fit as `refbnn.noise.fit` does, and keep the cells that the test compared."""
    bounds = (-np.inf, np.inf)
    sample = checked_sample(values, bounds)
    found = estimates(sample, families, bounds, MAX_DEGREE)
    fit = choose(found, sample, seed)
    chosen = next(e for e in found if e.family == fit.family)
    return Fitted(values, fit, cells_of(chosen, sample))


def groups() -> dict[Group, np.ndarray]:
    """Read conductances of every range and time; empty where there are no measurements."""
    found: dict[Group, np.ndarray] = {}
    folder = Path(os.environ.get("REFBNN_DATA") or "/nonexistent") / "device_noise"
    for technology in "BC" if folder.is_dir() else "":
        path = folder / f"rram_tech{technology}_relaxation.csv.gz"
        columns = ("range", "elapsed_s", "conductance_uS")
        level, elapsed, values = (
            read_measurements(path, column, pool=True)[0] for column in columns
        )
        for key in sorted(set(zip(level.tolist(), elapsed.tolist(), strict=True))):
            of_group = (level == key[0]) & (elapsed == key[1])
            found[technology, int(key[0]), key[1]] = values[of_group]
    return found


def make(folder: Path, seed: int, mc_samples: int, tick: Callable[[str], None]) -> dict:
    """Save the pictures; return the numbers."""
    values, _ = read_measurements(packaged("mtj_conductance.csv"))
    junction = fitted(values, seed)
    tick("fits: junction")
    title = "simulated magnetic tunnel junction"
    draw({title: junction}, 1, seed, folder / "fits_junction.png")
    numbers: dict = {"junction": junction.numbers()}
    memory = {group: fitted(of_group, seed) for group, of_group in groups().items()}
    tick("fits: memory")
    if memory:
        shown = {_title(group): memory[group] for group in _SHOWN}
        draw(shown, 4, seed, folder / "fits_memory.png")
        draw_groups(memory, folder / "fits_memory_groups.png")
        numbers["n_memory_groups"] = len(memory)
        numbers["n_memory_groups_that_fit"] = sum(f.fit.fits for f in memory.values())
        numbers["memory_groups"] = [
            {"technology": t, "range": level, "elapsed_s": elapsed, **found.numbers()}
            for (t, level, elapsed), found in memory.items()
        ]
    return numbers


def draw(samples: dict[str, Fitted], columns: int, seed: int, path: Path) -> None:
    """Draw law and values above, residuals below, for every sample."""
    rows = len(samples) // columns
    fig, axes = figure(columns, 2 * rows, (5.0, 2.9) if columns == 1 else (3.6, 2.4))
    for i, (title, found) in enumerate(samples.items()):
        column, row = i % columns, 2 * (i // columns)
        _draw_one(found, title, seed, axes[row, column], axes[row + 1, column])
        if column == 0:
            axes[row, 0].set_ylabel("density (1/µS)")
            axes[row + 1, 0].set_ylabel("F_n − F")
    legend_below(fig, *axes[:2, 0], columns=min(2 * columns, 6))
    save(fig, path)


def _draw_one(found: Fitted, title: str, seed: int, density, residual) -> None:
    values, fit = found.values, found.fit
    n, span = values.size, np.ptp(values)
    g = np.linspace(values.min() - 0.05 * span, values.max() + 0.05 * span, 801)
    z = fit.standardise(g)
    bins = 60 if n > 1000 else 30
    heights, *_ = density.hist(values, bins, density=True, color=GREY, alpha=0.4, label="values")
    law = np.exp(fit.law.log_pdf(z)) / fit.scale
    density.plot(g, law, color=BLUE, lw=1.5, label="chosen law")
    gaussian = np.exp(Gaussian().log_pdf((g - values.mean()) / values.std())) / values.std()
    density.plot(g, gaussian, color=ORANGE, lw=1.2, ls="--", label="Gaussian")
    bic = {c.family: c.bic for c in fit.candidates}
    density.set_title(
        f"{title}, n = {n}\n{fit.family}, p = {fit.ks_p_value:.2g}\n"
        f"BIC {bic[fit.family]:.0f}, Gaussian {bic['Gaussian']:.0f}",
        fontsize=9,
    )
    # Show all of a peak, but cut a singular edge, which would hide the rest.
    density.set_ylim(0.0, max(1.35 * heights.max(), min(1.1 * law.max(), 3.0 * heights.max())))
    band = found.band(seed)
    residual.axhspan(-band, band, color=BLUE, alpha=0.12, lw=0, label="95 % band, law fitted")
    for sign, label in ((1, "±1.36/√n, law known"), (-1, None)):
        residual.axhline(sign * 1.36 / np.sqrt(n), color=GREY, ls=":", label=label)
    residual.plot(found.cells.edges, found.residual(), color=BLUE, lw=0.9, label="F_n − F")
    residual.set(xlabel="conductance (µS)", xlim=density.get_xlim())


def draw_groups(memory: dict[Group, Fitted], path: Path) -> None:
    """Draw the table of all groups: family by colour, p-value and excess kurtosis."""
    technologies = sorted({t for t, *_ in memory})
    fig, axes = figure(len(technologies), 1, (7.2, 3.9))
    fit = sum(found.fit.fits for found in memory.values())
    fig.suptitle(f"Chosen law of {len(memory)} samples, {fit} of them not refuted at 1 %")
    for axis, technology in zip(axes[0], technologies, strict=True):
        chosen = {(level, e): f for (t, level, e), f in memory.items() if t == technology}
        levels, times = (sorted({key[i] for key in chosen}) for i in range(2))
        for (level, elapsed), found in chosen.items():
            x, y = times.index(elapsed), levels.index(level)
            family = found.fit.family.split(",")[0]
            corner, colour = (x - 0.48, y - 0.48), _COLOURS[family]
            axis.add_patch(Rectangle(corner, 0.96, 0.96, color=colour, alpha=0.35, lw=0))
            degree = found.fit.family.rpartition(" ")[2] if family == "device" else ""
            axis.text(
                x, y,
                f"{family.replace(' ', chr(10))} {degree}\np = {found.fit.ks_p_value:.2g}\n"
                f"κ₄ = {kurtosis(found.values):.1f}",
                ha="center", va="center", fontsize=7.5,
                color="black" if found.fit.fits else "red",
            )  # fmt: skip
        axis.set(
            xlim=(-0.5, len(times) - 0.5), ylim=(-0.5, len(levels) - 0.5),
            xlabel="time since programming (s)", ylabel="target range",
            title=f"technology {technology}: family, p-value, excess kurtosis (red: refuted)",
        )  # fmt: skip
        axis.set_xticks(range(len(times)), [f"{t:g}" for t in times])
        axis.set_yticks(range(len(levels)), [str(level) for level in levels])
        axis.grid(visible=False)
    save(fig, path)


def _title(group: Group) -> str:
    technology, level, elapsed = group
    return f"memory {technology}, range {level}, {elapsed:g} s"
