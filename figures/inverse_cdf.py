"""Inverse CDF with and without its edges factored out, compared with SciPy's.

The laws: one with a singular and a vanishing edge, one with two singular and one with two vanishing
edges. Shown are G(u), its distance from the lower edge (a gap where G lies outside), and the error
|Q(G(u)) − u| towards either edge, for

* the pieces of `refbnn.numerics.inverse_cdf`, which hold d = s·P(s), s = u^{1/(α+1)}, at an edge;
* one Chebyshev interpolant of G in u with as many coefficients: the uncorrected fit;
* SciPy's `stats.sampling.NumericalInversePolynomial` at the finest u-resolution at which its
  set-up succeeds: for the law in place, and, at its best, with its lower edge moved to 0.

Q(d), the probability within d of an edge, is Gauss–Jacobi quadrature of the density's formula; it
shares nothing with the law's panels. The grey line is the error in u that two units in the last
place of x = a + d cause for any method, large at a singular edge. Errors in a tail are those of d,
before d is added to a.

KL(sampled ‖ law): x = G(u) has the density 1/G′(u), so KL = −E_u[log(q(G(u)) G′(u))], here by
Gauss–Legendre on intervals that halve towards both edges. Values within 1e-10 of 0 are rounding
error. KL does not exist where G falls or leaves the support; then the share of such u is given.
Sampled values are counted in 20 equally likely cells, the outermost two halved six times towards
the edges, and tested by χ².

Source: arXiv 2501.05564, section 3.1.3 and figure 3 (fit of G with and without its singularities).

What to look for. Without the edges factored out, the error near an edge is not small against u,
unless G happens to be smooth in u (the arcsine law, α + 1 = ½: d = sin²). SciPy is as accurate as
the pieces, or more so, where no edge is singular or the only singular one can be moved to 0; with a
singular edge elsewhere its error is 1e-8 or far more.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.polynomial import legendre
from scipy.stats import chisquare

from figures.support.inverse_ways import (
    Distance,
    Exact,
    Way,
    by_pieces,
    by_scipy,
    uncorrected,
)
from figures.support.style import AMBER, BLUE, GREY, ORANGE, PINK, figure, legend_below, save
from refbnn.noise import DeviceLaw
from refbnn.numerics.random.streams import stream

# SciPy's u-resolutions with the edge at 0 and in place. At a tenth of these SciPy 1.17 fails to set
# up, or needs more than minutes; 1e-14 is the finest it accepts. None: whether its set-up succeeds
# depends on the last digit of the density.
LAWS = {
    "singular and vanishing edge": (DeviceLaw(-0.7, 3.0, (1.0, -0.5, 0.2)), 1e-14, None),
    "arcsine: two singular edges": (DeviceLaw(-0.5, -0.5), 1e-13, 1e-13),
    "two vanishing edges": (DeviceLaw(3.0, 2.0), 1e-14, 1e-14),
}
WITH, WITHOUT, MOVED, IN_PLACE = (
    "edges factored out",
    "Chebyshev in u",
    "SciPy, edge at 0",
    "SciPy in place",
)
_COLOURS = {WITH: BLUE, WITHOUT: ORANGE, MOVED: PINK, IN_PLACE: AMBER}
_ROUNDING = 1e-10  # nats
_LEAST = 1e-19  # smaller errors are drawn here
_SMALLEST = -50  # towards an edge u goes down to two to this power
_BLOCK = 1 << 20
STEPS = len(LAWS)  # calls of `tick`


def make(folder: Path, seed: int, mc_samples: int, tick: Callable[[str], None]) -> dict:
    """Save the picture; return the numbers."""
    fig, axes = figure(len(LAWS), 4, (4.6, 2.7))
    cases = []
    for column, (name, (law, *resolutions)) in enumerate(LAWS.items()):
        cases.append(_case(name, law, resolutions, axes[:, column], seed, mc_samples))
        tick(f"inverse CDF: {name}")
    for row, label in enumerate(("x = G(u)", "G(u) − a", "u-error", "u-error")):
        axes[row, 0].set_ylabel(label)
    legend_below(fig, axes[2, 1])
    save(fig, folder / "inverse_cdf.png")
    return {"mc_samples": mc_samples, "laws": cases}


def _case(name: str, law: DeviceLaw, resolutions, axes, seed: int, mc_samples: int) -> dict:
    """Measure and draw all ways for one law."""
    exact, ways = Exact(law), _ways(law, resolutions)
    reference = ways[WITH].distance
    u = 2.0 ** np.linspace(_SMALLEST, -1.0, 50 * 16)
    rounding = [
        2.0 * np.spacing(abs(end)) * np.exp(exact.log_density(side, reference(side, u)))
        for side, end in enumerate(law.support)
    ]
    results = {}
    for method, way in ways.items():
        d = [way.distance(side, u) for side in range(2)]
        error = [np.abs(exact.probability(side, np.maximum(d[side], 0.0)) - u) for side in range(2)]
        kl, bad = _divergence(exact, way.distance, way.slope) if way.slope else (None, None)
        results[method] = {
            "greatest_u_error": float(np.max(error)),
            "greatest_u_error_beyond_rounding_of_x": float(np.max(np.subtract(error, rounding))),
            "greatest_u_error_share_of_u": float(np.max(error / u)),
            "kl_sampled_from_law_nats": kl,
            "share_of_u_falling_or_outside": bad,
            "mc_chi_square_p_value": _count(exact, reference, law, way.draw, seed, mc_samples),
        }
        _draw_way(axes, law, method, u, d, error)
    for side in range(2):
        axes[2 + side].plot(u, rounding[side], color=GREY, ls=":", label="rounding of x = a + d")
    _label(axes, name, results, resolutions)
    return {
        "law": {"alpha": law.alpha, "beta": law.beta, "coefficients": list(law.coefficients)},
        "name": name,
        "n_coefficients": _size(law),
        "scipy_u_resolution": dict(zip((MOVED, IN_PLACE), resolutions, strict=True)),
        "methods": results,
    }


def _size(law: DeviceLaw) -> int:
    return sum(p.coefficients.size for p in (law.inverse.bulk, *law.inverse.tails))


def _ways(law: DeviceLaw, resolutions) -> dict[str, Way]:
    ways = {
        WITH: by_pieces(law),
        WITHOUT: uncorrected(law, _size(law)),
        MOVED: by_scipy(law, 0.0, resolutions[0]),
    }
    if resolutions[1] is not None:
        ways[IN_PLACE] = by_scipy(law, law.support[0], resolutions[1])
    return ways


def _draw_way(axes, law: DeviceLaw, method: str, u, d, error) -> None:
    low, high = law.support
    style = {"color": _COLOURS[method], "lw": 1, "label": method}
    x = np.append(low + d[0], high - d[1][::-1])
    axes[0].plot(np.append(u, 1.0 - u[::-1]), x, **style)
    axes[1].plot(u, np.where(d[0] > 0.0, d[0], np.nan), **style)
    for side in range(2):
        axes[2 + side].plot(u, np.maximum(error[side], _LEAST), **style)


def _label(axes, name: str, results: dict[str, dict], resolutions) -> None:
    notes = []
    for method, numbers in results.items():
        kl, bad = numbers["kl_sampled_from_law_nats"], numbers["share_of_u_falling_or_outside"]
        words = "" if bad is None else "no KL, "
        if kl is not None:
            words = f"KL {kl:.0e}, " if abs(kl) > _ROUNDING else f"|KL| < {_ROUNDING:g}, "
        notes.append(f"{method}: {words}χ² p = {numbers['mc_chi_square_p_value']:.2g}")
    in_place = "set-up fails" if resolutions[1] is None else f"{resolutions[1]:.0e}"
    notes.append(f"u-resolution of SciPy: {resolutions[0]:.0e}, in place {in_place}")
    axes[0].text(0.03, 0.97, "\n".join(notes), transform=axes[0].transAxes, va="top", fontsize=7)
    axes[0].set(title=name, xlabel="u")
    axes[1].set(xscale="log", yscale="log", xlabel="u, from the lower edge a")
    for ax, label in zip(
        axes[2:], ("u, from the lower edge a", "1 − u, from the upper edge"), strict=True
    ):
        ax.set(xscale="log", yscale="log", ylim=(_LEAST, 10.0), xlabel=label)


def _divergence(exact: Exact, distance: Distance, slope: Distance) -> tuple[float | None, float]:
    """KL(sampled ‖ law), and the share of u where G falls or leaves the support."""
    x, w = legendre.leggauss(16)
    breaks = (2.0 ** np.arange(_SMALLEST, -1)[:, np.newaxis] * (1.0 + np.arange(4) / 4)).ravel()
    step = np.diff(breaks, append=0.5)[:, np.newaxis]
    u = (breaks[:, np.newaxis] + 0.5 * step * (1.0 + x)).ravel()
    weight = (0.5 * step * w).ravel()
    total, bad = 0.0, 0.0
    for side in range(2):
        d, rate = distance(side, u), slope(side, u)
        good = (d > 0.0) & (rate > 0.0)
        bad += float(weight[~good].sum())
        log_ratio = exact.log_density(side, d[good]) + np.log(rate[good])
        total -= float(weight[good] @ log_ratio)
    return (total if bad == 0.0 else None), bad


def _count(exact: Exact, distance: Distance, law, draw, seed: int, n: int) -> float:
    """P-value of χ² for the counts of n sampled values in cells of known probability."""
    u = np.append(0.05 * 2.0 ** np.arange(-6.0, 0.0), np.arange(1, 11) / 20)
    d = [distance(side, u) for side in range(2)]
    p = [exact.probability(side, d[side]) for side in range(2)]
    # The median belongs to both edges and is one cut.
    cuts = np.append(law.support[0] + d[0], (law.support[1] - d[1])[-2::-1])
    probability = np.diff(np.concatenate([[0.0], p[0], 1.0 - p[1][-2::-1], [1.0]]))
    counts = np.zeros(probability.size)
    rng = stream(seed, "inverse cdf")
    for start in range(0, n, _BLOCK):
        x = draw(rng, min(_BLOCK, n - start))
        counts += np.bincount(np.searchsorted(cuts, x), minlength=counts.size)
    return float(chisquare(counts, n * probability / probability.sum()).pvalue)
