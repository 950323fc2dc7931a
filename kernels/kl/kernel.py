"""KL divergence of a whole array of weights from its prior, and both gradients, in float32.

Formulas
--------
Weights θ = µ + σz, z from a law of entropy H, and log p = c₀ + c₂θ² + f(θ), as in
`refbnn.training.kl.kl`:

    Σ KL = Σ [ −H − c₀ − log σ − c₂(µ² + σ²) − E[f] ],
    ∂KL/∂µ = −2c₂µ − E[f′],      ∂KL/∂σ = −1/σ − 2c₂σ − E[z f′].

*Gaussian prior*: f = 0. *Laplace prior*: f has a kink, which a plain rule misses; in closed form
for the Gaussian law, for others by a table of the law (`kernels.kl.table`). *Other priors*: by
nodes z_j and weights w_j of the law's own Gauss rule (arXiv 2501.05564, section 3.1.2),

    E[f] = Σ_j w_j f(µ + σz_j).

`kernels.kl.prior` has f, the closed form and the reading of the table, `kernels.kl.sums` the sums,
`kernels.kl.nodes` the number of nodes. The rule does not integrate the parabola.

The sum over the array is formed in float64 from each weight's float32 value, one sum a lane.

Range
-----
Errors are within 1e-5 of the largest of the terms that are added up: H, log σ, E|log p| for the
value of a weight; E|s_p| for ∂KL/∂µ; 1/σ, E|z s_p| for ∂KL/∂σ (s_p the derivative of log p). The
rule may take half of it, a table a tenth, rounding the rest. σ may be from the least normal float32
number, 1.2e-38, up to the one that the number of nodes was chosen for; the call refuses others. By
ρ, the bound holds for the float32 number that σ becomes: where −µ/σ is within rounding of a
singular end of the law, the gradients of a Laplace prior change by more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels.arithmetic import softplus
from kernels.devices import Board, targets
from kernels.devices.targets import Target
from kernels.kl import nodes as kl_nodes
from kernels.kl import sums as kl_sums
from kernels.program.kernel import Kernel
from kernels.program.kernel import build as build_program
from kernels.program.program import Padded, Plain, Program
from refbnn.errors import InputError
from refbnn.noise import Law
from refbnn.numerics.arrays import all_finite
from refbnn.numerics.quadrature import Rule
from refbnn.numerics.softplus import softplus as softplus_reference
from refbnn.prior import DevicePrior, GaussianPrior, LaplacePrior, Prior

RELATIVE_ERROR = 1e-5  # see the range above


@dataclass(frozen=True, eq=False)
class Divergence:
    """Compiled KL of P weights and its gradients; called with means and scales.

    Parameters
    ----------
    kernel : Kernel
        Gives both gradients, (P,) each, and KL of all weights together, (1,).
    parameter, law, prior, widest
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
            σ, or ρ where the parameter is "rho".

        Returns
        -------
        value : float
        d_mean, d_scale : (P,) float32
            ∂KL/∂µ, and ∂KL/∂σ or ∂KL/∂ρ.

        Raises
        ------
        InputError
            If a shape is wrong; if a scale is 0 in float32, NaN, or wider than the kernel was
            compiled for; if a weight comes too near the end of a device-shaped prior; or if a
            number overflows.
        """
        views = self.kernel.inputs
        names = "mean", self.parameter
        with self.kernel.lock:
            for view, array, name in zip(views, (mean, scale), names, strict=True):
                if np.shape(array) != view.shape:
                    shape = np.shape(array)
                    raise InputError(f"KL: {name} has shape {shape}; expected {view.shape}")
                with np.errstate(over="ignore"):
                    view[...] = array
            self._check(*views)
            self.kernel.run()
            if not all(all_finite(array) for array in self.kernel.outputs):
                raise InputError("KL overflows; expected means and scales of usual size")
            d_mean, d_scale, value = self.kernel.outputs
            return float(value[0]), d_mean.copy(), d_scale.copy()

    def _check(self, mean, scale):
        """Raise InputError where KL is infinite or the nodes are too few."""
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
    device: str | Board = "local",
) -> Divergence:
    """Compile KL of an array of weights.

    Parameters
    ----------
    size : int
        P.
    law : Law
        Law of the weights' noise.
    prior : Prior
    widest : float, optional
        Largest σ of any call, for priors by nodes; the others take any.
    target, schedule, device
        As in `kernels.compile_network`.
    parameter : {"scale", "rho"}
        With "scale" the kernel takes σ and gives ∂KL/∂σ; with "rho" it takes ρ, σ = softplus(ρ),
        and gives ∂KL/∂ρ.

    Raises
    ------
    InputError
        If there is no kernel for this prior, 64 nodes are too few for these scales, or the law has
        too many spikes and jumps for a table.
    """
    rule = _rule(law, prior, widest)
    program = alone(size, law, prior, rule, targets.target(target), parameter)
    kernel = build_program(program, schedule, device=device)
    return Divergence(kernel, parameter, law, prior, np.inf if widest is None else widest)


def _rule(law: Law, prior: Prior, widest: float | None) -> Rule | None:
    """Choose nodes and weights, for priors that need them."""
    if isinstance(prior, GaussianPrior | LaplacePrior):
        return None
    if not isinstance(prior, kl_nodes.NodesPrior):
        raise InputError(f"KL: the prior is {prior!r}; expected one of refbnn.prior")
    if widest is None or not (np.isfinite(widest) and widest > 0.0):
        raise InputError(f"KL from {prior!r}: widest is {widest}; expected a scale above 0")
    return kl_nodes.choose(law, prior, widest)


def alone(
    size: int, law: Law, prior: Prior, rule: Rule | None, target: Target, parameter: str
) -> Program:
    """The program of KL alone; parameters as in `build`, and the rule of the nodes."""
    softplus.require_parameter(parameter)
    program = Program(target, 1)
    layout = Padded((size,), target.lanes)
    mean, scale = program.array(layout, "mean"), program.array(layout, parameter)
    slope = None
    if parameter == "rho":
        scale, slope = softplus.add(program, "softplus", scale)
    d_mean, d_scale, value = kl_sums.add(program, size, mean, scale, slope, law, prior, rule)
    program.give_arrays(layout, d_mean, d_scale)
    program.outputs.append((Plain((1,)), value))
    return program
