"""Fit one normal law, or a mixture of two or three.

Formula
-------
f(G) = Σᵢ wᵢ φ((G − mᵢ)/sᵢ)/sᵢ. With the responsibilities rᵢ = wᵢ fᵢ/f and zᵢ = (G − mᵢ)/sᵢ the
gradient of log f is

    ∂/∂mᵢ = rᵢ zᵢ/sᵢ,   ∂/∂log sᵢ = rᵢ(zᵢ² − 1),   ∂/∂wᵢ = rᵢ/wᵢ.

The likelihood is unbounded: a component that shrinks onto one value makes it infinite (Kiefer &
Wolfowitz 1956). It is maximised where it is bounded (in the spirit of Hathaway 1985): every sᵢ at
least half the measurements' step and 1/20 of their standard deviation and no more than their
range, and every component worth at
least ten values, so that none is one outlier: wᵢ = w₀ + (1 − k w₀) softmax(a)ᵢ, w₀ = 10/n or 0.002.

Inside, it has several maxima, and the best that L-BFGS finds is kept. For two components it starts
from clusters side by side, from a narrow one within a broad one, and from peaks, the shortest
intervals that hold 10 and 30 % of the values; for three from the best pair, either component of
which is split or which a peak joins.
"""

from __future__ import annotations

import numpy as np
from scipy.special import softmax

from refbnn.noise.fitting.estimate import AT_BOUND, FIRST, LAST, Estimate
from refbnn.noise.fitting.placing import place_gaussian, place_mixture
from refbnn.noise.fitting.sample import Sample

_NARROWEST = 0.05  # of the values' standard deviation
_MIN_VALUES = 10.0  # in any component
_MIN_WEIGHT = 2e-3  # twice what the laws take

# m₁, m₂, s₁, s₂, w₁ in standard deviations: side by side, then a narrow one within a broad one.
_PAIRS = (
    (-0.9, 0.9, 0.5, 0.5, 0.5),
    (-0.4, 1.4, 0.6, 0.6, 0.8),
    (-1.4, 0.4, 0.6, 0.6, 0.2),
    (0.0, 0.0, 0.4, 1.6, 0.6),
    (-0.5, 0.1, 1.5, 0.3, 0.3),
    (-0.1, 0.5, 0.3, 1.5, 0.7),
)
_PEAKS = (0.1, 0.3)  # shares of the values

# Places and scales of both parts in standard deviations of the whole, and weight of the first.
_SPLITS = (
    ((-0.7, 0.7), (0.7, 0.7), 0.5),  # side by side
    ((0.0, 0.0), (0.5, 1.5), 0.5),  # a narrower and a broader one
    ((0.0, 0.0), (1.0, 4.0), 0.9),  # a few far values
    ((0.0, -1.0), (1.0, 0.2), 0.9),  # a narrow peak on either flank
    ((0.0, 1.0), (1.0, 0.2), 0.9),
)


def fit_gaussian(sample: Sample) -> Estimate:
    """Mean and standard deviation of the values: the maximum in closed form."""
    n, s = sample.n, sample.deviation
    return Estimate(
        family="Gaussian",
        names=("mean", "standard deviation"),
        theta=np.array([sample.mean, s]),
        units=np.array([s, s]),
        place=place_gaussian,
        log_likelihood=-0.5 * n * float(np.log(2.0 * np.pi * np.e * s**2)),
    )


def fit_bimodal(sample: Sample) -> Estimate:
    """Maximise the likelihood of two components within the bounds above."""
    search = _Search(sample)
    return search.estimate("bimodal", *search.pair())


def fit_three_normals(sample: Sample) -> Estimate:
    """Maximise the likelihood of three components within the bounds above."""
    search = _Search(sample)
    _, pair = search.pair()
    starts = [_split(pair, i, *split) for i in range(2) for split in _SPLITS]
    starts += [_joined(pair, peak) for peak in search.peaks]
    return search.estimate("three normals", *search.best(3, starts))


class _Search:
    """L-BFGS over (m, log s, a) in standard deviations of the values."""

    def __init__(self, sample: Sample):
        self.sample = sample
        self.x = (sample.points - sample.mean) / sample.deviation
        self.share = sample.weights / sample.n
        self.span = (self.x.min(), self.x.max())
        self.broadest = float(np.log(np.ptp(self.x)))
        self.narrowest = float(np.log(max(0.5 * sample.step / sample.deviation, _NARROWEST)))

    @property
    def peaks(self) -> list[np.ndarray]:
        """Mean, standard deviation and weight of the values in the shortest intervals."""
        values = (self.sample.values - self.sample.mean) / self.sample.deviation
        found = []
        for share in _PEAKS:
            held = max(round(share * self.sample.n), 2)
            lengths = values[held - 1 :] - values[: 1 - held]
            first = int(np.argmin(lengths))
            middle = 0.5 * (values[first] + values[first + held - 1])
            # A normal law of this deviation has its densest 38 % in an interval of its length.
            found.append(np.array([middle, max(lengths[first], np.exp(self.narrowest)), share]))
        return found

    def pair(self) -> tuple[float, np.ndarray]:
        """Two components, as `best`."""
        starts = [np.array([*pair, 1.0 - pair[-1]]) for pair in _PAIRS]
        whole = np.array([0.0, 1.0, 1.0]).reshape(3, 1)
        return self.best(2, starts + [_joined(whole, peak) for peak in self.peaks])

    def least_weight(self, k: int) -> float:
        """w₀."""
        return min(max(_MIN_VALUES / self.sample.n, _MIN_WEIGHT), 0.5 / k)

    def best(self, k: int, starts) -> tuple[float, np.ndarray]:
        """Greatest log-likelihood per value and its (m, s, w), m increasing."""
        from scipy.optimize import minimize

        least_weight = self.least_weight(k)
        bounds = [self.span] * k + [(self.narrowest, self.broadest)] * k + [(-15.0, 15.0)] * k

        def negative(p):
            log_f, gradient = _mixture(p, self.x, least_weight)
            return -float(self.share @ log_f), -(gradient @ self.share)

        def search(p, tolerance):
            options = {"ftol": tolerance, "gtol": 1e-8, "maxiter": 500}
            return minimize(
                negative, p, jac=True, method="L-BFGS-B", bounds=bounds, options=options
            )

        def on_line(start):
            m, s, w = start.reshape(3, k)
            soft = np.maximum((w - least_weight) / (1.0 - k * least_weight), 1e-3)
            return np.concatenate([m, np.log(s), np.log(soft)])

        first = min((search(on_line(s), FIRST) for s in starts), key=lambda result: result.fun)
        found = search(first.x, LAST)
        m, log_s, a = found.x.reshape(3, k)
        order = np.argsort(m)
        w = least_weight + (1.0 - k * least_weight) * softmax(a)
        return -float(found.fun), np.concatenate([m[order], np.exp(log_s)[order], w[order]])

    def estimate(self, family: str, value: float, components: np.ndarray) -> Estimate:
        """In the measurements' unit, with the parameters that ended at a bound."""
        m, s, w = components.reshape(3, -1)
        k = m.size
        unit, centre = self.sample.deviation, self.sample.mean
        at_bound = {
            f"standard deviation {i + 1}": "the narrowest component allowed"
            for i in range(k)
            if np.log(s[i]) - self.narrowest < AT_BOUND
        }
        least = self.least_weight(k)
        few = [i for i in range(k - 1) if w[i] < 1.001 * least]
        at_bound |= {f"weight {i + 1}": f"{least:.3g}" for i in few}
        names = [f"{word} {i + 1}" for word in ("mean", "standard deviation") for i in range(k)]
        return Estimate(
            family=family,
            names=(*names, *(f"weight {i + 1}" for i in range(k - 1))),
            theta=np.concatenate([centre + unit * m, unit * s, w[:-1]]),
            units=np.concatenate([unit * s, unit * s, np.minimum(w[:-1], w[-1])]),
            place=place_mixture,
            log_likelihood=self.sample.n * (value - float(np.log(unit))),
            at_bound=at_bound,
        )


def _mixture(p, x, least_weight):
    """Log density (N,) and its gradient (3k, N) by m, log s and a."""
    m, log_s, a = p.reshape(3, -1, 1)
    k = m.size
    soft = softmax(a)
    w = least_weight + (1.0 - k * least_weight) * soft
    z = (x - m) / np.exp(log_s)
    log_parts = np.log(w) - 0.5 * z**2 - log_s
    peak = log_parts.max(axis=0)
    log_f = peak + np.log(np.exp(log_parts - peak).sum(axis=0))
    r = np.exp(log_parts - log_f)
    by_soft = (1.0 - k * least_weight) * r / w * soft
    by_a = by_soft - soft * by_soft.sum(axis=0)
    gradient = np.concatenate([r * z / np.exp(log_s), r * (z**2 - 1.0), by_a])
    return log_f - 0.5 * np.log(2.0 * np.pi), gradient


def _split(components: np.ndarray, i: int, places, scales, part: float) -> np.ndarray:
    """Three components (m, s, w) from two, number i of them split."""
    m, s, w = components.reshape(3, 2)[:, i]
    rest = components.reshape(3, 2)[:, 1 - i]
    both = (m + s * np.array(places), s * np.array(scales), w * np.array([part, 1.0 - part]))
    return np.concatenate([np.append(one, two) for one, two in zip(rest, both, strict=True)])


def _joined(components: np.ndarray, peak: np.ndarray) -> np.ndarray:
    """One component (m, s, w) more; the others make room for its weight."""
    m, s, w = components.reshape(3, -1)
    place, scale, weight = peak
    rows = (np.append(m, place), np.append(s, scale), np.append((1.0 - weight) * w, weight))
    return np.concatenate(rows)
