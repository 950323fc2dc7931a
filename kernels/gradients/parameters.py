"""The parameters of a layer with sampled weights, and its gradients by all of them as outputs."""

from __future__ import annotations

from collections.abc import Callable

from kernels.arithmetic import softplus
from kernels.gradients.noise import Noise
from kernels.program.program import Layout, Program


def add(
    program: Program,
    weights: Layout,
    biases: Layout,
    parameter: str,
    noise: Callable[[], Callable[[str], Noise]],
    by_weights: Callable,
    by_bias: Callable,
    by_input: Callable | None,
    images: Layout,
) -> None:
    """Declare means and scales, and give the gradients by weights, by biases, and by x.

    Parameters
    ----------
    program : Program
    weights, biases : Layout
    parameter : {"scale", "rho"}
        What the kernel is given for σ, and gives the gradient by.
    noise : callable () -> (callable (name) -> Noise)
        Declares the noise, and finds that of a gradient by name.
    by_weights, by_bias : callable (z) -> ∂L/∂µ, ∂L/∂σ
    by_input : callable (µ, σ, z) -> ∂L/∂x, or None
        None for a first layer.
    images : Layout
        Of ∂L/∂x.
    """
    mean, scale = program.array(weights, "mean"), program.array(weights, parameter)
    bias_scale = program.array(biases, f"bias_{parameter}")
    z = noise()

    slope = bias_slope = None
    if parameter == "rho":
        scale, slope = softplus.add(program, "softplus", scale)
        _, bias_slope = softplus.add(program, "softplus_bias", bias_scale)
    d_mean, d_scale = by_weights(z("by_weights"))
    d_bias_mean, d_bias_scale = by_bias(z("by_bias"))
    if slope is not None:
        d_scale = softplus.by_rho(program, "by_rho", d_scale, slope)
        d_bias_scale = softplus.by_rho(program, "bias_by_rho", d_bias_scale, bias_slope)
    program.give_arrays(weights, d_mean, d_scale)
    program.give_arrays(biases, d_bias_mean, d_bias_scale)
    if by_input is not None:
        program.give_arrays(images, by_input(mean, scale, z("by_input")))
