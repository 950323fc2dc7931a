"""Gradients of one layer with sampled weights as a kernel: what it takes and what it gives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod

from kernels.arithmetic import softplus
from kernels.devices import Board, targets
from kernels.devices.targets import Target
from kernels.gradients import conv2d, dense, frames
from kernels.gradients.noise import Noise, drawn
from kernels.program.kernel import Kernel
from kernels.program.kernel import build as build_program
from kernels.program.program import Padded, Program
from kernels.sampling import weights as sampled_weights
from refbnn.noise import Law

Sizes = dense.Sizes | frames.Sizes


def build(
    sizes: Sizes,
    target: str = "host",
    schedule: str = "hand",
    parameter: str = "scale",
    law: Law | None = None,
    layer: int = 0,
    device: str | Board = "local",
) -> Kernel:
    """Compile the gradients of a layer.

    Parameters
    ----------
    sizes : kernels.gradients.dense.Sizes or kernels.gradients.frames.Sizes
        Sizes of a dense layer or of a convolution.
    target, schedule, device
        As in `kernels.compile_network`.
    parameter : {"scale", "rho"}
        With "scale" the kernel takes σ and gives ∂L/∂σ; with "rho" it takes ρ, σ = softplus(ρ),
        and gives ∂L/∂ρ.
    law : Law, optional
        The kernel draws noise from this law, as `refbnn.network.counter_sampling` does. By
        default noise is an input.
    layer : int
        Index of the layer in the network, by which noise is drawn.

    Returns
    -------
    Kernel
        Its inputs, for a dense layer (a convolution has (C, H, W), (O, OH, OW) and (O, C, K, L) in
        place of (in,), (out,) and (out, in)):

        - x, (S, B, in), or (B, in) if `first`; ∂L/∂y, (S, B, out)
        - means and scales of the weights, (out, in) each; scales of the bias, (out,)
        - with a law the words of a seed, (2,); without, z of the weights, (S, out, in), and of the
          bias, (S, out)

        Its outputs: gradients by means and scales of the weights, by means and scales of the bias,
        and unless `first` by x.
    """
    program = alone(sizes, targets.target(target), parameter, law, layer)
    return build_program(program, schedule, device=device)


def alone(
    sizes: Sizes, target: Target, parameter: str = "scale", law: Law | None = None, layer: int = 0
) -> Program:
    """The program of the gradients of one layer; parameters as in `build`."""
    softplus.require_parameter(parameter)
    operator = dense if isinstance(sizes, dense.Sizes) else conv2d
    program, lanes = Program(target, 1), target.lanes
    weights = sizes.layout(lanes, *sizes.weight_shape)
    biases = sizes.layout(lanes, sizes.weight_shape[0])
    x = program.array(sizes.images(lanes), "x")
    grad_y = program.array(sizes.gradients(lanes), "grad_y")
    mean, scale = program.array(weights, "mean"), program.array(weights, parameter)
    bias_scale = program.array(biases, f"bias_{parameter}")
    z = _noise(program, sizes, law, layer)

    slope = bias_slope = None
    if parameter == "rho":
        scale, slope = softplus.add(program, "softplus", scale)
        _, bias_slope = softplus.add(program, "softplus_bias", bias_scale)
    d_mean, d_scale = operator.by_weights(program, sizes, x, grad_y, z("by_weights"))
    d_bias_mean, d_bias_scale = operator.by_bias(program, sizes, grad_y, z("by_bias"))
    if slope is not None:
        d_scale = softplus.by_rho(program, "by_rho", d_scale, slope)
        d_bias_scale = softplus.by_rho(program, "bias_by_rho", d_bias_scale, bias_slope)
    program.give_arrays(weights, d_mean, d_scale)
    program.give_arrays(biases, d_bias_mean, d_bias_scale)
    if not sizes.first:
        d_x = operator.by_input(program, sizes, grad_y, mean, scale, z("by_input"))
        shape = sizes.samples, sizes.batch, *sizes.input_shape
        program.give_arrays(Padded(shape, lanes), d_x)
    return program


def _noise(program: Program, sizes: Sizes, law: Law | None, layer: int) -> Callable[[str], Noise]:
    """Declare the noise, two arrays or a seed; the result gives the noise of a named gradient."""
    shape, lanes = sizes.weight_shape, program.target.lanes
    if law is None:
        z = program.array(sizes.layout(lanes, sizes.samples, *shape), "z")
        z_bias = program.array(sizes.layout(lanes, sizes.samples, shape[0]), "z_bias")
        weights = Noise(lambda s, o, i: z(s, o, *sizes.index(i)))
        biases = Noise(lambda s, o, i: z_bias[s, o])
        return lambda name: biases if name == "by_bias" else weights
    source = sampled_weights.source(program, law, sizes.samples)
    columns = prod(sizes.layout(lanes, *shape).tensor_shape(1)[1:])
    rows = shape[0], prod(shape[1:]) + 1
    return partial(drawn, program, layer=layer, shape=rows, columns=columns, source=source)
