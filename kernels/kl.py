"""KL divergence of a whole array of weights from its prior, and both gradients, in float32.

Formulas
--------
As `refbnn.kl`: weights θ = µ + σz, z from a law of entropy H, and log p = c₀ + c₂θ² + f(θ):

    Σ KL = Σ [ −H − c₀ − log σ − c₂(µ² + σ²) − E[f] ],
    ∂KL/∂µ = −2c₂µ − E[f′],      ∂KL/∂σ = −1/σ − 2c₂σ − E[z f′].

*Gaussian prior*: f = 0. *Laplace prior*: a kink, beyond a plain rule; in closed form for the
Gaussian law. *Other priors*: by nodes z_j and weights w_j of the law's own Gauss rule (arXiv
2501.05564, section 3.1.2),

    E[f] = Σ_j w_j f(µ + σz_j).

f and the closed form are in `kernels.kl_prior`. The parabola is not left to the rule. How many
nodes it takes: `kernels.kl_nodes`.

The sum over the array is formed in float64 from each weight's float32 value, one sum a lane.

Range
-----
Within 1e-5 of the largest of the terms that are added up: H, log σ, E|log p| for the value of a
weight; E|s_p|; 1/σ, E|z s_p| (s_p the derivative of log p). Half of it is left to the rule, the
rest to rounding. For σ from the least normal float32 number, 1.2e-38, up to the one that the number
of nodes was chosen for; what is beyond is refused at the call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import tvm
from tvm import te, tirx

from kernels import kl_nodes, softplus, targets
from kernels.kernel import Kernel
from kernels.kernel import build as build_program
from kernels.kl_prior import integrand, laplace
from kernels.logarithm import log
from kernels.polynomials import f32, named
from kernels.products import joint_sum
from kernels.program import Padded, Plain, Program, Step
from kernels.targets import Target
from refbnn.errors import InputError
from refbnn.moments import all_finite
from refbnn.noise import Gaussian, Law
from refbnn.prior import (
    DevicePrior,
    GaussianPrior,
    LaplacePrior,
    Prior,
)
from refbnn.quadrature import Rule
from refbnn.softplus import softplus as softplus_reference

RELATIVE_ERROR = 1e-5  # see the range above


def add(
    program: Program,
    size: int,
    mean: te.Tensor,
    scale: te.Tensor,
    slope: te.Tensor | None,
    law: Law,
    prior: Prior,
    rule: Rule | None,
) -> tuple[te.Tensor, te.Tensor, te.Tensor]:
    """Say what is computed: ∂KL/∂µ and ∂KL/∂σ, (P padded), and KL of all weights, (1,).

    Parameters
    ----------
    program : Program
    size : int
        P.
    mean, scale : (P padded)
    slope : (P padded) or None
        A factor of ∂KL/∂σ, as of the chain rule.
    law, prior
    rule : Rule or None
        Nodes and weights, for priors that need them.
    """
    lanes = program.target.lanes
    c_0, c_2 = _parabola(prior)
    sums, stages = _expectations(program, mean, scale, prior, rule)

    def weight(name, i):
        mu, sigma = mean[i], scale[i]
        value = -log(name, sigma)
        d_mean, d_scale = f32(0.0), f32(-1.0) / sigma
        if c_2 != 0.0:
            value = value - f32(c_2) * (mu * mu + sigma * sigma)
            d_mean = f32(-2.0 * c_2) * mu
            d_scale = d_scale - f32(2.0 * c_2) * sigma
        if sums is not None:
            value, d_mean, d_scale = value - sums[0][i], d_mean - sums[1][i], d_scale - sums[2][i]
        return value, d_mean, d_scale if slope is None else d_scale * slope[i]

    value, d_mean, d_scale = te.compute(
        mean.shape, lambda i: named(lambda name: weight(name, i), 3), name="kl"
    )
    vector = te.reduce_axis((0, mean.shape[0] // lanes), name="vector")

    def of_lane(lane):
        i = vector * lanes + lane
        return te.sum(
            tirx.Select(i < size, value[i].astype("float64"), tirx.const(0.0, "float64")),
            axis=vector,
        )  # what pads the array does not count

    partial_sums = te.compute((lanes,), of_lane, name="kl_lanes")
    lane = te.reduce_axis((0, lanes), name="lane")
    double = te.compute((1,), lambda _: te.sum(partial_sums[lane], axis=lane), name="kl_double")
    constant = tirx.const(size * (-law.entropy - c_0), "float64")
    total = te.compute((1,), lambda i: (double[i] + constant).astype("float32"), name="kl_total")
    n = 0 if rule is None else rule.nodes.size
    program.steps.append(
        Step(
            workload=f"kl {size} {type(prior).__name__} {n} nodes",
            by_hand={"vectors": 2},
            space={"vectors": range(1, 9)},
            transform=partial(schedule, stages=stages, n=n, lanes=lanes),
        )
    )
    return d_mean, d_scale, total


def _parabola(prior: Prior) -> tuple[float, float]:
    """c₀ and c₂ of log p = c₀ + c₂θ² + f."""
    if isinstance(prior, GaussianPrior):
        return -0.5 * np.log(2.0 * np.pi * prior.scale**2), -0.5 / prior.scale**2
    if isinstance(prior, LaplacePrior):
        return -np.log(2.0 * prior.scale), 0.0
    return prior.loop_form().parabola  # type: ignore[attr-defined]  # `_rule` refused others


def _expectations(program, mean, scale, prior, rule):
    """E[f], E[f′] and E[z f′], (P padded) each, or None; and the names of the stages before."""
    if isinstance(prior, GaussianPrior):
        return None, []
    if isinstance(prior, LaplacePrior):
        names = ["f", "df", "z_df"]
        return [
            _of_weight(j, name, mean, scale, prior.scale) for j, name in enumerate(names)
        ], names
    names = ["f", "df"]
    z = program.weight("nodes", rule.nodes)
    w = program.weight("weights", rule.weights)
    wz = program.weight("weighted_nodes", rule.weights * rule.nodes)
    form = prior.loop_form()
    f, df = (_of_node(j, name, mean, scale, z, form) for j, name in enumerate(names))
    k = te.reduce_axis((0, rule.nodes.size), name="k")

    def terms(i):
        return joint_sum([w[k] * f[i, k], w[k] * df[i, k], wz[k] * df[i, k]], axis=k)

    return te.compute(mean.shape, terms, name="expectations"), names


def _of_weight(index, name, mean, scale, b):
    """One of the three terms of a Laplace prior as a stage, (P padded)."""
    return te.compute(mean.shape, lambda i: laplace(b, mean[i], scale[i])[index], name=name)


def _of_node(index, name, mean, scale, z, form):
    """f or f′ at every weight and node as a stage, (P padded, n)."""
    shape = mean.shape[0], z.shape[0]
    return te.compute(
        shape, lambda i, k: integrand(form, mean[i], scale[i], z[k])[index], name=name
    )


def schedule(
    sch: tvm.s_tir.Schedule, decisions: Mapping[str, int], stages: list[str], n: int, lanes: int
) -> None:
    """Say how it is computed: one decision a paragraph; the vectors of a tile are decided."""
    # A tile of a few vectors of weights, whose independent chains hide each other's latencies.
    # Value and gradients share one nest of loops.
    vectors = decisions["vectors"]
    (weight,) = sch.get_loops(sch.get_sblock("kl_v0"))
    tile, vector, lane = sch.split(weight, [None, vectors, lanes])
    sch.annotate(tile, "pragma_loop_partition_hint", True)
    sch.unroll(vector)
    sch.vectorize(lane)

    # The loop over nodes around that tile: a node and its weight are read once for all of it.
    around = tile
    if n:
        sums = sch.get_sblock("expectations")
        sch.compute_at(sums, tile, preserve_unit_loops=True)
        *_, weight, around = sch.get_loops(sums)
        vector, lane = sch.split(weight, [None, lanes])
        sch.reorder(around, vector, lane)
        sch.unroll(vector)
        sch.vectorize(lane)

    # The stages inside it, of the same vectors: what they hand on stays in registers.
    for name in reversed(stages):
        stage = sch.get_sblock(name)
        sch.compute_at(stage, around, preserve_unit_loops=True)
        weight = sch.get_loops(stage)[-2 if n else -1]
        vector, lane = sch.split(weight, [None, lanes])
        sch.unroll(vector)
        sch.vectorize(lane)

    # Sums are set to zero before the nodes, not by a test at each.
    if n:
        sch.decompose_reduction(sums, around)

    # The sum over the array: one number of double precision a lane.
    lanes_sum = sch.get_sblock("kl_lanes")
    lane, vector = sch.get_loops(lanes_sum)
    sch.reorder(vector, lane)
    sch.vectorize(lane)
    sch.decompose_reduction(lanes_sum, vector)


@dataclass(frozen=True)
class Divergence:
    """A compiled divergence.

    Parameters
    ----------
    kernel : Kernel
        Gives both gradients, (P,), and KL of all weights together, (1,).
    parameter : {"scale", "rho"}
        What stands for the scales.
    law, prior, widest
        As in `build`.
    """

    kernel: Kernel
    parameter: str
    law: Law
    prior: Prior
    widest: float

    def __call__(self, mean: np.ndarray, scale: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """KL in nats and its derivatives.

        Parameters
        ----------
        mean : (P,)
        scale : (P,)
            σ; or ρ with σ = softplus(ρ), if compiled for that.

        Returns
        -------
        value : float
        d_mean, d_scale : (P,) float32
            By σ, or by ρ.

        Raises
        ------
        InputError
            If a scale is 0 in float32, NaN, or beyond what the kernel was compiled for; if a weight
            comes too near the end of a device-shaped prior; or if a number overflows.
        """
        views = self.kernel.inputs
        for view, array, name in zip(views, (mean, scale), ("mean", self.parameter), strict=True):
            if np.shape(array) != view.shape:
                raise InputError(f"KL: {name} has shape {np.shape(array)}; expected {view.shape}")
            with np.errstate(over="ignore"):
                view[...] = array
        self._check(*views)
        self.kernel.run()
        if not all(all_finite(array) for array in self.kernel.outputs):
            raise InputError("KL overflows; expected means and scales of usual size")
        d_mean, d_scale, value = self.kernel.outputs
        return float(value[0]), d_mean.copy(), d_scale.copy()

    def _check(self, mean, scale):
        """Raise InputError where KL is infinite or the nodes too few."""
        ends = np.array([scale.min(), scale.max()], dtype=float)
        least, largest = softplus_reference(ends) if self.parameter == "rho" else ends
        if not (least >= np.finfo(np.float32).tiny and largest <= self.widest):
            raise InputError(
                f"KL: scales from {least:.6g} to {largest:.6g}; expected "
                f"{np.finfo(np.float32).tiny:.3g} to {self.widest:.6g}"
            )
        if isinstance(self.prior, DevicePrior):
            sigma = scale.astype(float)
            sigma = softplus_reference(sigma) if self.parameter == "rho" else sigma
            kl_nodes.require_distance(mean.astype(float), sigma, self.law, self.prior)


def build(
    size: int,
    law: Law,
    prior: Prior,
    widest: float | None = None,
    target: str = "host",
    schedule: str = "hand",
    parameter: str = "scale",
) -> Divergence:
    """Compile KL of an array of weights.

    Parameters
    ----------
    size : int
        P.
    law : Law
        Of the weights' noise; Gaussian, if the prior is Laplace.
    prior : Prior
    widest : float, optional
        Largest σ it will be called with, for priors by nodes; the others take any.
    target, schedule : str
        As in `kernels.compile_network`.
    parameter : {"scale", "rho"}
        Whether it is called with σ and gives ∂KL/∂σ, or with ρ, σ = softplus(ρ), and gives ∂KL/∂ρ.

    Raises
    ------
    InputError
        If there is no kernel for this prior and law, or 64 nodes are too few for these scales.
    """
    rule = _rule(law, prior, widest)
    program = alone(size, law, prior, rule, targets.target(target), parameter)
    largest = np.inf if widest is None else widest
    return Divergence(build_program(program, schedule), parameter, law, prior, largest)


def _rule(law: Law, prior: Prior, widest: float | None) -> Rule | None:
    """Nodes and weights, for priors that need them."""
    if isinstance(prior, GaussianPrior):
        return None
    if isinstance(prior, LaplacePrior):
        if isinstance(law, Gaussian):
            return None
        raise InputError(
            f"KL from {prior!r}: no kernel for the law {law!r}; expected Gaussian() (its kink is "
            "beyond a plain rule)"
        )
    if not isinstance(prior, kl_nodes.NodesPrior):
        raise InputError(f"KL: the prior is {prior!r}; expected one of refbnn.prior")
    if widest is None or not (np.isfinite(widest) and widest > 0.0):
        raise InputError(f"KL from {prior!r}: widest is {widest}; expected a scale above 0")
    return kl_nodes.choose(law, prior, widest)


def alone(
    size: int, law: Law, prior: Prior, rule: Rule | None, target: Target, parameter: str
) -> Program:
    """The program of the divergence alone; parameters as in `build`, and the rule of the nodes."""
    softplus.require_parameter(parameter)
    program = Program(target, 1)
    layout = Padded((size,), target.lanes)
    mean, scale = program.array(layout, "mean"), program.array(layout, parameter)
    slope = None
    if parameter == "rho":
        scale, slope = softplus.add(program, "softplus", scale)
    d_mean, d_scale, value = add(program, size, mean, scale, slope, law, prior, rule)
    program.give_arrays(layout, d_mean, d_scale)
    program.outputs.append((Plain((1,)), value))
    return program
