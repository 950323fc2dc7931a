"""Inverse CDF with and without its edges factored out, beside SciPy's.

Shown, for a law with a singular and a vanishing edge, one with two singular and one with two
vanishing edges: G(u), its distance from the lower edge (a gap where G lies outside), and
|Q(G(u)) − u| towards either edge, for

* the pieces of `refbnn.numerics.inverse_cdf`, which hold d = s·P(s), s = u^{1/(α+1)}, at an edge;
* one Chebyshev interpolant of G in u with as many coefficients: the uncorrected fit;
* SciPy's `stats.sampling.NumericalInversePolynomial` at the finest u-resolution at which it sets
  up: for the law in place, and with its lower edge moved to 0, where floating-point numbers are
  densest, which is the most that can be had from it.

Q(d), the probability within d of an edge, is Gauss–Jacobi quadrature of the density's formula, not
of the law's panels. The grey line is what two units in the last place of x = a + d do to
u, whatever the method: at a singular edge, much. Errors in a tail are those of d, before it.

KL(sampled ‖ law): x = G(u) has the density 1/G′(u), so KL = −E_u[log(q(G(u)) G′(u))], here by
Gauss–Legendre on intervals that halve towards both edges; within 1e-10 of 0, of either sign, it is
rounding. It does not exist where G falls or leaves the support, and is then given with that share
of u. Values sampled by every method from the same u are counted in 20 equally likely cells, the
outermost two halved six times towards the edges: χ² of the counts.

Source: arXiv 2501.05564, section 3.1.3 and figure 3 (fit of G with and without its singularities).

What to look for: without the edges factored out the error near an edge is not small against u
itself. Where G happens to be smooth in u (the arcsine law, α + 1 = ½: d = sin²) it does no harm but
for rounding. SciPy is as accurate as the pieces, or more so, where no edge is singular or the only
singular one can be moved to 0; with a singular edge elsewhere its error is some 1e-8, or far more.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.polynomial import legendre
from scipy.stats import chisquare

from figures.support.inverse_ways import Distance, Exact, by_pieces, by_scipy, uncorrected
from figures.support.style import AMBER, BLUE, GREY, ORANGE, PINK, figure, save
from refbnn.noise import DeviceLaw
from refbnn.numerics.random.streams import stream

# With SciPy's u-resolutions, edge at 0 and in place: tenfold finer ones (than 1e-14: the finest it
# takes) do not set up with SciPy 1.17, or not within minutes. None: whether it sets up at all, in a
# minute, hangs on the last digit of the density.
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


def steps() -> int:
    """How often `make` ticks."""
    return len(LAWS)


def make(folder: Path, seed: int, mc_samples: int, tick: Callable[[str], None]) -> dict:
    """Save the picture; return the numbers. Parameters as `figures.kl_error.make`."""
    fig, axes = figure(len(LAWS), 4, (4.6, 2.7))
    cases = []
    for column, (name, (law, *resolutions)) in enumerate(LAWS.items()):
        cases.append(_case(name, law, resolutions, axes[:, column], seed, mc_samples))
        tick(f"inverse CDF: {name}")
    for row, label in enumerate(("x = G(u)", "G(u) − a", "u-error", "u-error")):
        axes[row, 0].set_ylabel(label)
    handles, labels = axes[2, 1].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    save(fig, folder / "inverse_cdf.png")
    return {"mc_samples": mc_samples, "laws": cases}


def _case(name: str, law: DeviceLaw, resolutions, axes, seed: int, mc_samples: int) -> dict:
    exact, (low, high) = Exact(law), law.support
    ours, our_rate, size = by_pieces(law)
    plain, plain_rate, fit = uncorrected(law, size)
    moved = by_scipy(law, 0.0, resolutions[0])
    methods: dict[str, tuple] = {
        WITH: (ours, our_rate, lambda rng, n: law.sample(rng, (n,))),
        WITHOUT: (plain, plain_rate, lambda rng, n: fit(rng.random(n))),
        MOVED: (
            lambda side, u: moved.ppf(u) if side == 0 else high - low - moved.ppf(1.0 - u),
            None,
            lambda rng, n: low + moved.rvs(n, random_state=rng),
        ),
    }
    if resolutions[1] is not None:
        in_place = by_scipy(law, low, resolutions[1])
        methods[IN_PLACE] = (
            lambda side, u: in_place.ppf(u) - low if side == 0 else high - in_place.ppf(1.0 - u),
            None,
            lambda rng, n: in_place.rvs(n, random_state=rng),
        )
    u = 2.0 ** np.linspace(_SMALLEST, -1.0, 50 * 16)
    rounding = [
        2.0 * np.spacing(abs(end)) * np.exp(exact.log_density(side, ours(side, u)))
        for side, end in enumerate(law.support)
    ]
    results, notes = {}, []
    for method, (distance, rate, draw) in methods.items():
        d = [distance(side, u) for side in range(2)]
        error = [np.abs(exact.probability(side, np.maximum(d[side], 0.0)) - u) for side in range(2)]
        kl, bad = _divergence(exact, distance, rate) if rate else (None, None)
        p_value = _count(exact, ours, law, draw, seed, mc_samples)
        results[method] = {
            "greatest_u_error": float(np.max(error)),
            "greatest_u_error_beyond_rounding_of_x": float(np.max(np.subtract(error, rounding))),
            "greatest_u_error_share_of_u": float(np.max(error / u)),
            "kl_sampled_from_law_nats": kl,
            "share_of_u_falling_or_outside": bad,
            "mc_chi_square_p_value": p_value,
        }
        seen = "" if rate is None else "no KL, "
        if kl is not None:
            seen = f"KL {kl:.0e}, " if abs(kl) > _ROUNDING else f"|KL| < {_ROUNDING:g}, "
        notes.append(f"{method}: {seen}χ² p = {p_value:.2g}")
        style = {"color": _COLOURS[method], "lw": 1, "label": method}
        places = np.append(low + d[0], high - d[1][::-1])
        axes[0].plot(np.append(u, 1.0 - u[::-1]), places, **style)
        axes[1].plot(u, np.where(d[0] > 0.0, d[0], np.nan), **style)
        for side in range(2):
            axes[2 + side].plot(u, np.maximum(error[side], _LEAST), **style)
    for side in range(2):
        axes[2 + side].plot(u, rounding[side], color=GREY, ls=":", label="rounding of x = a + d")
        axes[2 + side].set(xscale="log", yscale="log", ylim=(_LEAST, 10.0))
    axes[0].set(title=name, xlabel="u")
    axes[1].set(xscale="log", yscale="log", xlabel="u, from the lower edge a")
    axes[2].set_xlabel("u, from the lower edge a")
    axes[3].set_xlabel("1 − u, from the upper edge")
    in_its_place = "does not set up" if resolutions[1] is None else f"{resolutions[1]:.0e}"
    notes.append(f"u-resolution of SciPy: {resolutions[0]:.0e}, in place {in_its_place}")
    axes[0].text(0.03, 0.97, "\n".join(notes), transform=axes[0].transAxes, va="top", fontsize=7)
    return {
        "law": {"alpha": law.alpha, "beta": law.beta, "coefficients": list(law.coefficients)},
        "name": name,
        "n_coefficients": size,
        "scipy_u_resolution": dict(zip((MOVED, IN_PLACE), resolutions, strict=True)),
        "methods": results,
    }


def _divergence(exact: Exact, distance: Distance, rate: Distance) -> tuple[float | None, float]:
    """KL(sampled ‖ law), and the share of u where G falls or leaves the support."""
    x, w = legendre.leggauss(16)
    breaks = (2.0 ** np.arange(_SMALLEST, -1)[:, np.newaxis] * (1.0 + np.arange(4) / 4)).ravel()
    step = np.diff(breaks, append=0.5)[:, np.newaxis]
    u = (breaks[:, np.newaxis] + 0.5 * step * (1.0 + x)).ravel()
    weight = (0.5 * step * w).ravel()
    total, bad = 0.0, 0.0
    for side in range(2):
        d, slope = distance(side, u), rate(side, u)
        good = (d > 0.0) & (slope > 0.0)
        bad += float(weight[~good].sum())
        log_ratio = exact.log_density(side, d[good]) + np.log(slope[good])
        total -= float(weight[good] @ log_ratio)
    return (total if bad == 0.0 else None), bad


def _count(exact: Exact, distance: Distance, law, draw, seed: int, n: int) -> float:
    """p-value of χ² for the counts of n sampled values in cells of known probability."""
    u = np.append(0.05 * 2.0 ** np.arange(-6.0, 0.0), np.arange(1, 11) / 20)
    d = [distance(side, u) for side in range(2)]
    p = [exact.probability(side, d[side]) for side in range(2)]
    # The median, seen from both edges, is one cut.
    cuts = np.append(law.support[0] + d[0], (law.support[1] - d[1])[-2::-1])
    probability = np.diff(np.concatenate([[0.0], p[0], 1.0 - p[1][-2::-1], [1.0]]))
    counts = np.zeros(probability.size)
    rng = stream(seed, "inverse cdf")
    for start in range(0, n, _BLOCK):
        x = draw(rng, min(_BLOCK, n - start))
        counts += np.bincount(np.searchsorted(cuts, x), minlength=counts.size)
    return float(chisquare(counts, n * probability / probability.sum()).pvalue)
