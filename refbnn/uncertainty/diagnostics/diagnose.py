"""Where propagation's Gaussian assumption is poor: skewness and excess kurtosis, layer by layer.

Propagation hands on means and variances, and takes every pre-activation y = Σ_i w_i x_i + b as
Gaussian. Here its third and fourth cumulants are added up beside them.

Formulas
--------
w = µ + σz, the law's skewness and excess kurtosis γ, κ; x = m + su with s² = Var x and γ_x, κ_x
alike; K = κ + 3, K_x = κ_x + 3. wx − µm = µs·u + σm·z + σs·zu has, multiplied out for independent z
and u,

    κ₃(wx) = γ_x s³(µ³ + 3µσ²) + γσ³(m³ + 3ms²) + γγ_x σ³s³ + 6µm σ²s²,
    κ₄(wx) = κ_x µ⁴s⁴ + κ σ⁴m⁴ + (K K_x − 3) σ⁴s⁴ + 6(K_x − 1) µ²σ²s⁴ + 6(K − 1) σ⁴m²s²
             + 4γK_x µσ³s⁴ + 4Kγ_x mσ⁴s³ + 12γ_x µ²σ²m s³ + 12γ µσ³m²s² + 12γγ_x µσ³m s³.

Cumulants of independent terms add: over the inputs, for every entry of a layer with weights, each
sum is that layer's own forward pass with functions of µ and σ for weights. *Exact* for any law and
independent inputs; even Gaussian weights and inputs give 6µmσ²s² ≠ 0: a product is not Gaussian.

*First order*: mean and variance of every activation are those of propagation, without a variance
factor. γ_x and κ_x are those of a rectified Gaussian behind ReLU (moments h_n of
`refbnn.numerics.normal`), kept by Flatten, and 0 behind any other layer. The effect of a
pre-activation's own skewness on the next layer is of second order in 1/√width, and left out.

*Missing* in these sums: the correlation of a layer's inputs, which adds to variance and cumulants
alike, and shapes behind layers other than ReLU and Flatten. In practice they are a lower bound: the
sampled logits of a trained LeNet-5 had five times their kurtosis, of a 784-100-100-10 four times.
Sampled passes (`refbnn.uncertainty.diagnostics.sampled`) include both, to the resolution of their
number; an entry is flagged where either says so. Where `refbnn.prediction.covariance` applies, the
ratio of full to diagonal variance shows the correlation too, and so does the ratio of linearised to
diagonal variance: for each layer that of the network cut behind it (`refbnn.network.linearised`),
for at most 64 of its outputs, evenly spaced, as each costs a pass back.

*Divergence* of y from the Gaussian of its mean and variance, with γ_y = κ₃/v^{3/2}, κ_y = κ₄/v²:
γ_y²/12 + κ_y²/48 (`refbnn.uncertainty.diagnostics.non_gaussianity`).

*Threshold*. By Pinsker's inequality no probability of y is off by more than √(KL/2). With
KL ≤ 1/(2S) that is at most 1/(2√S), the greatest standard error of a probability sampled S times:
with the S = 30 passes of SVI, sampling would not show the difference. The default is KL ≤ 1/60.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import repeat
from typing import Any

import numpy as np

from refbnn.errors import InputError
from refbnn.layers import Conv2d, Dense, Flatten, Layer, Normalise, ReLU
from refbnn.layers.images.pool_first import pool_first
from refbnn.layers.linearisation import NoRuleError
from refbnn.layers.moments import Moments, deterministic
from refbnn.layers.posterior import Posterior
from refbnn.network import linearised
from refbnn.network.input_range import warn_if_far
from refbnn.network.network import Network
from refbnn.noise.law import Law, cumulants
from refbnn.numerics.arguments import whole_number
from refbnn.numerics.arrays import finite_array
from refbnn.numerics.normal import lower_rectified
from refbnn.prediction.covariance.propagation import (
    JointMoments,
    block_size,
    obstacle,
    propagate_layers,
)
from refbnn.prediction.predict import SVI_SAMPLES
from refbnn.uncertainty.diagnostics.non_gaussianity import NonGaussianity
from refbnn.uncertainty.diagnostics.sampled import (
    FEWEST,
    SAMPLES,
    SampledMoments,
    sampled_moments,
)

THRESHOLD = 1.0 / (2.0 * SVI_SAMPLES)  # nats
BLOCK = 50  # inputs at a time
MOST_UNITS = 64  # of a layer whose linearised variances are computed


@dataclass(frozen=True, eq=False)
class LayerDiagnosis:
    """Deviation from a Gaussian in the outputs of one layer with weights.

    Parameters
    ----------
    index : int
    layer : str
        Class of the layer.
    first_order : NonGaussianity of (B, ...)
        By the formulas, for independent inputs.
    variance_ratio : (B, n) or None
        Full-covariance variance over the diagonal one, where that mode applies.
    linearised_ratio : (B, n) or None
        Linearised variance over the diagonal one, of the outputs `units`; None where a layer has no
        rule.
    units : (n,) of int
        Places in the flattened output of one input: all, or `MOST_UNITS` evenly spaced.
    sampled : SampledMoments or None
        None without sampled passes.
    """

    index: int
    layer: str
    first_order: NonGaussianity
    variance_ratio: np.ndarray | None
    linearised_ratio: np.ndarray | None
    units: tuple[int, ...]
    sampled: SampledMoments | None

    @property
    def sampled_to_linearised(self) -> np.ndarray | None:
        """Sampled over linearised variance of `units`, (B, n); 1 where the latter is 0.

        None without sampled passes, or where a layer has no rule.
        """
        linear = self.linearised_ratio
        if self.sampled is None or linear is None:
            return None
        sampled = self.sampled.variance_ratio
        own = sampled.reshape(len(sampled), -1)[:, self.units]
        return np.divide(own, linear, out=np.ones(linear.shape), where=linear > 0.0)

    def flagged(self, threshold: float = THRESHOLD) -> np.ndarray:
        """Entries, (B, ...), flagged to first order or by sampled passes."""
        first = self.first_order.divergence > threshold
        return first if self.sampled is None else first | self.sampled.flagged(threshold)


def weighted_sum(
    index: int,
    layer: Layer,
    x: Moments,
    shape: NonGaussianity,
    posteriors: Mapping[str, Posterior],
    law: Law,
) -> tuple[np.ndarray, np.ndarray]:
    """Third and fourth cumulants of the outputs of Dense or Conv2d, for independent inputs."""
    if not isinstance(layer, Dense | Conv2d):
        raise InputError(
            f"diagnose: layer {index} is {type(layer).__name__}; expected Dense or Conv2d where "
            "there are weights"
        )
    _, _, g, k = cumulants(law, 4)
    K, gx, kx = k + 3.0, shape.skewness, shape.kurtosis
    Kx = kx + 3.0
    m, s = x.mean, np.sqrt(x.var)
    µ, σ = posteriors["weight"].mean, posteriors["weight"].scale
    b = posteriors["bias"].scale
    zero = np.zeros_like(b)

    def total(inputs, weights, bias=zero):
        return layer.forward(inputs, {"weight": weights, "bias": bias})

    third = (
        total(gx * s**3, µ**3 + 3.0 * µ * σ**2)
        + total(g * (m**3 + 3.0 * m * s**2) + g * gx * s**3, σ**3, g * b**3)
        + total(6.0 * m * s**2, µ * σ**2)
    )
    fourth = (
        total(kx * s**4, µ**4)
        + total(
            k * m**4
            + (K * Kx - 3.0) * s**4
            + 6.0 * (K - 1.0) * m**2 * s**2
            + 4.0 * K * gx * m * s**3,
            σ**4,
            k * b**4,
        )
        + total(6.0 * (Kx - 1.0) * s**4 + 12.0 * gx * m * s**3, µ**2 * σ**2)
        + total(4.0 * g * Kx * s**4 + 12.0 * g * (m**2 * s**2 + gx * m * s**3), µ * σ**3)
    )
    return third, fourth


def rectified(x: Moments) -> NonGaussianity:
    """Skewness and excess kurtosis of max(0, x) for Gaussian x.

    With a = mean/s, they follow from E[r^n] = s^n h_n(a), h_{n+1} = a h_n + n h_{n−1}. Beyond
    |a| = 6 both are set to 0: all but one in 1e9 values are those of x, or are 0.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        a = np.where(x.var > 0.0, x.mean / np.sqrt(x.var), np.inf)
    ordinary = np.abs(a) < 6.0
    a = np.where(ordinary, a, 0.0)
    _, h1, h2 = lower_rectified(np.abs(a))
    # h_n(a) at a > 0 from h_n(−a): h₁ = a + h₁, h₂ = 1 + a² − h₂.
    h1 = np.where(a > 0.0, a + h1, h1)
    h2 = np.where(a > 0.0, 1.0 + a**2 - h2, h2)
    h3 = a * h2 + 2.0 * h1
    h4 = a * h3 + 3.0 * h2
    v = h2 - h1**2
    third = h3 - 3.0 * h1 * h2 + 2.0 * h1**3
    fourth = h4 - 4.0 * h1 * h3 + 6.0 * h1**2 * h2 - 3.0 * h1**4
    return NonGaussianity(third / v**1.5, fourth / v**2 - 3.0).where(ordinary)


def diagnose(
    net: Network,
    x: np.ndarray,
    *,
    n_samples: int = SAMPLES,
    seed: int = 0,
    on_inputs: Callable[[int], object] | None = None,
) -> list[LayerDiagnosis]:
    """Diagnose every layer with weights.

    Parameters
    ----------
    net : Network
    x : (B, ...)
        Known inputs, at least one.
    n_samples : int
        Sampled passes, at least 20; 0 for none.
    seed : int
        Seed of the sampled passes.
    on_inputs : callable, optional
        Called with the number of inputs done since the last call.

    Raises
    ------
    InputError
        If x does not fit, weights are correlated, a layer with weights is neither Dense nor Conv2d,
        or n_samples is from 1 to 19.
    """
    n_samples = whole_number(n_samples, 0, "diagnose: n_samples")
    if 0 < n_samples < FEWEST:
        raise InputError(f"diagnose: n_samples is {n_samples}; expected 0, or at least {FEWEST}")
    x = finite_array(x, "diagnose: x").astype(float, copy=False)
    net.check_input(x.shape[1:])
    warn_if_far(x, net.input_range)
    if not len(x):
        raise InputError("diagnose: x holds no example; expected at least one")
    if net.correlation:
        raise InputError(
            f"diagnose: layers {sorted(net.correlation)} have correlated weights; expected "
            "independent ones"
        )
    block = min(BLOCK, block_size(net))
    parts = []
    for start in range(0, len(x), block):
        rows = x[start : start + block]
        parts.append(_diagnose(net, rows, n_samples, seed))
        if on_inputs is not None:
            on_inputs(len(rows))
    return [_joined(same) for same in zip(*parts, strict=True)]


def _diagnose(net: Network, x: np.ndarray, n_samples: int, seed: int) -> list[LayerDiagnosis]:
    layers: list[LayerDiagnosis] = []
    propagated: dict[int, Moments] = {}
    # One layer's covariances at a time: they are the square of its width.
    joint: Iterator[Any] = repeat(None) if obstacle(net) else propagate_layers(net, x)
    next(joint)  # the inputs
    now, shape = deterministic(x), NonGaussianity.gaussian(x.shape)
    order, posteriors = pool_first(net.layers), net.by_layer(net.parameters())
    activations: list[np.ndarray | Moments] = [x]
    for index, (layer, own) in enumerate(zip(order, posteriors, strict=True)):
        before = now
        now, joint_now = layer.moments(before, own), next(joint)
        known = linearised.known_outputs(layer, activations[-1])
        activations.append(now if known is None else known)
        if own:
            cumulants = weighted_sum(index, layer, before, shape, own, net.law)
            of_layer = NonGaussianity.from_cumulants(*cumulants, now.var)
            ratio = _variance_ratio(joint_now, now.var)
            so_far = order[: index + 1], posteriors[: index + 1], activations
            units, linear = _linearised_ratio(*so_far)
            kind = type(layer).__name__
            layers.append(LayerDiagnosis(index, kind, of_layer, ratio, linear, units, None))
            propagated[index] = now
        if isinstance(layer, Flatten):
            parts = (part.reshape(now.shape) for part in (shape.skewness, shape.kurtosis))
            shape = NonGaussianity(*parts)
        elif isinstance(layer, ReLU):
            shape = rectified(before)
        elif not isinstance(layer, Normalise):  # a scale changes no skewness and no kurtosis
            shape = NonGaussianity.gaussian(now.shape)
    if n_samples == 0:
        return layers
    sampled = sampled_moments(net, x, propagated, n_samples, seed)
    return [replace(layer, sampled=sampled[layer.index]) for layer in layers]


def _linearised_ratio(
    layers: Sequence[Layer],
    posteriors: Sequence[dict[str, Posterior]],
    activations: Sequence[np.ndarray | Moments],
) -> tuple[tuple[int, ...], np.ndarray | None]:
    """Some outputs of the last of these layers, and their linearised variance over the diagonal."""
    last = activations[-1]
    assert isinstance(last, Moments)  # of a layer with weights
    diagonal = last.var.reshape(len(last.var), -1)
    n = diagonal.shape[1]
    units = np.linspace(0, n - 1, min(n, MOST_UNITS)).round().astype(int)
    try:
        found = linearised.variances(layers, posteriors, activations, units)
    except NoRuleError:
        return tuple(units.tolist()), None
    v = diagonal[:, units]
    return tuple(units.tolist()), np.where(v != 0.0, found / np.where(v != 0.0, v, 1.0), 1.0)


def _variance_ratio(joint: object, diagonal: np.ndarray) -> np.ndarray | None:
    if not isinstance(joint, JointMoments):
        return None
    random = diagonal != 0.0
    return np.where(random, joint.marginal.var / np.where(random, diagonal, 1.0), 1.0)


def _joined(parts: Sequence[Any]) -> Any:
    """Join results for several blocks of inputs: concatenate the arrays in their fields."""
    first: Any = parts[0]
    if isinstance(first, np.ndarray):
        return np.concatenate(parts)
    if not is_dataclass(first):
        return first  # the same in all
    columns = ([getattr(part, field.name) for part in parts] for field in fields(first))
    return first.__class__(*map(_joined, columns))
