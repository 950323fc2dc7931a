"""Normalisation and the first dense layer as one operator, in which zero inputs stay zeros.

Formulas
--------
`refbnn.layers.normalise` has x' = (x − µ₀)/s; a dense layer has the sums of x' µ and of x'² σ² over
its inputs. A row of inputs is summed in one of two ways, both exact. With c = µ₀/s,

    centred  terms x' µ and x'² σ², and the biases µ_b and σ_b²;
    raw      with m = x/s, terms m µ and m (m − 2c) σ², and the biases
                 µ_b − Σ c µ        σ_b² + Σ c² σ²

from x'² = m (m − 2c) + c². Both take the same weights. In the second, an input of 0 has terms of
exactly 0: a blank pixel adds nothing.

Which rows are summed raw
-------------------------
The raw variance cancels where x is close to µ₀. Let w = σ²/s², t = x − µ₀, v' = Σ w t² + σ_b² and
B = Σ w µ₀². Since |x (x − 2µ₀)| = |t² − µ₀²| ≤ t² + µ₀², and 0 at x = 0, the terms and the bias
add up to, in magnitude,

    T ≤ v' + 2 (B − Z),    Z = Σ w µ₀² over the inputs that are 0.

Such inputs have t² = µ₀², so v' ≥ Z, and T/v' ≤ 1 + 2 (B − Z)/Z: rows with Z ≥ B/4 lose a factor
of 7 at most, whatever their other inputs, c and the biases. All other rows are centred; their
results have the bits of the layers one by one. Z/B depends on the output. The least over outputs of
w µ₀²/B, the *share* of an input, does not, and its sum over zeros is at most Z/B for every output.
Shares are rounded down to whole multiples of 2⁻²⁴, so that their sums are exact in any order.

Without this choice no limit on c would do, because nothing bounds T/v' where all x are near µ₀. For
784 inputs to 100 outputs, the greatest relative errors of v' in float32 are

    x                          raw always    this choice   layers one by one
    digits, MNIST's µ₀, s      6e-7          6e-7          2e-6
    all µ₀, the same           7e-4          2e-8          2e-8
    all µ₀, CIFAR-10's (c = 2) 6e-3          2e-8          2e-8
    µ₀ = 293, s = 5            4e-3          7e-7          7e-7
    all µ₀, the same           below 0       2e-8          2e-8

Range
-----
With u, γ and n as in `kernels.layers.dense`, and v' as there, the raw way has

    |error of m'| ≤ γ_{n+5} (Σ |m µ| + |µ_b − Σ c µ|)        |error of v'| ≤ 7 γ_{n+11} v'

In the variance, 7 γ_{n+7} is due to the sum. Roundings of m and m − 2c change a term by at most
u (5 t² + 7 µ₀²) w, in all 21u v'. Σ |m µ| is at most Σ |x' µ| + Σ |c µ|, where a blank row has
Σ |c µ| in the layers one by one.

Cost
----
What folding brings is zeros, which a sum may leave out. By itself it saves nothing: against a
784-100-100-10 without normalisation, with AVX-512, it takes 6, 3 and 6 % more time at batches 1, 10
and 256, and a pass of its own 2, 1 and 7 % (one run, in turns). On the emulated A72 it executes
4 % more instructions at batches 1 and 10, and the pass 1 and 2 %.

A convolution keeps the pass of `kernels.layers.normalise`, 0.05 to 0.07 % of the instructions of a
LeNet-5 with or without padding. Its windows lie anywhere between blank and filled parts of an
image, so that no test of a row would bound what an output loses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import tvm
from tvm import te, tirx

from kernels.layers import dense, flatten, images, normalise
from kernels.layers.products import Folded
from kernels.program.program import Activation, Program, Step
from refbnn.layers import Dense, Flatten, Layer, Normalise
from refbnn.layers.posterior import Posterior

FORMS = ("variance", "mean")  # of `kernels.layers.products`, that can be folded
LEAST_SHARE = 0.25  # Z/B of a row that is summed raw
_UNIT = 2**24  # whole numbers up to it are exact in float32
_MOST = 1e3  # |c|: larger ones are no data of which float32 keeps enough digits, and may overflow


def parts(
    layers: Sequence[Layer], of_layers: Sequence[Mapping[str, Posterior]], form: str
) -> list[range]:
    """Ranges of indices of the layers that each operator of a network computes.

    Parameters
    ----------
    layers, of_layers
        The layers, and the weights of each by name.
    form : str
        A form of `kernels.layers.products`.

    Returns
    -------
    list of range
        One layer each; but Normalise up to a dense layer, with or without Flatten between, are one
        operator where a row can be summed raw.
    """
    end = _end_of_first(layers, of_layers) if form in FORMS else 0
    folded = [range(end)] if end else []
    return [*folded, *(range(index, index + 1) for index in range(end, len(layers)))]


def _end_of_first(layers: Sequence[Layer], of_layers: Sequence[Mapping[str, Posterior]]) -> int:
    """Number of layers that the first operator folds, 0 if it is one layer."""
    match layers:
        case [Normalise() as normalised, Dense(), *_]:
            end = 2
        case [Normalise() as normalised, Flatten(), Dense(), *_]:
            end = 3
        case _:
            return 0
    weight = of_layers[end - 1]["weight"]
    offsets = np.asarray(normalised.mean) / np.asarray(normalised.sd)
    if np.abs(offsets).max() > _MOST:
        return 0
    pixels = weight.shape[1] // offsets.size  # of a channel; one number is that of all inputs
    return end if shares(weight, np.repeat(offsets, pixels)).sum() >= LEAST_SHARE else 0


def shares(weight: Posterior, offsets: np.ndarray) -> np.ndarray:
    """The share of each input, rounded down; the top of the file says what it is.

    Parameters
    ----------
    weight : Posterior of shape (out, in)
    offsets : (in,)
        c of each input.

    Returns
    -------
    (in,)
        From 0 to 1, multiples of 2⁻²⁴; 0 where no output has a variance at a blank row.
    """
    with np.errstate(all="ignore"):
        base = weight.var * offsets**2
        of_output = base / base.sum(axis=1, keepdims=True)
    least = np.where(np.isnan(of_output), np.inf, of_output).min(axis=0)  # NaN: nothing cancels
    return np.floor(np.where(np.isinf(least), 0.0, least) * _UNIT) / _UNIT


def add(
    program: Program,
    name: str,
    layers: Sequence[Layer],
    posteriors: Mapping[str, Posterior],
    x: Activation,
    form: str,
) -> Activation:
    """Apply the layers of one operator of `parts`: Normalise, Flatten if it is there, and Dense.

    Other arguments as in `kernels.layers.dense.add`.
    """
    first, *between, _ = layers
    assert isinstance(first, Normalise)
    mean, sd = np.asarray(first.mean), np.asarray(first.sd)
    if between:
        _, height, width = images.images(x).shape
        x = flatten.add(program, f"{name}_rows", x)
        if mean.ndim:
            mean, sd = np.repeat(mean, height * width), np.repeat(sd, height * width)
    weight, bias = posteriors["weight"], posteriors["bias"]
    offsets = np.broadcast_to(mean / sd, weight.shape[1:])
    centred = centred_rows(program, name, x, shares(weight, offsets))
    with np.errstate(over="ignore"):
        raw = Posterior(
            bias.mean - weight.mean @ offsets, np.sqrt(bias.var + weight.var @ offsets**2)
        )
    twice = normalise.numbers(program, f"{name}_twice", 2.0 * mean / sd, x)
    m = normalise.add(program, f"{name}_normalised", Normalise(mean, sd), x, centred)
    images.one_by_one(program, m)  # a row's second pass finds it in the first cache
    return dense.add(program, name, posteriors, m, form, Folded(centred, twice, raw))


def centred_rows(program: Program, name: str, x: Activation, shares: np.ndarray) -> te.Tensor:
    """1 for each row that is centred, 0 for each that is raw, (batch,)."""
    batch, (_, columns), lanes = program.batch, x.layout.tensor_shape(1), program.target.lanes
    padded = np.pad(shares * _UNIT, (0, columns - len(shares)))
    share = program.weight(f"{name}_shares", padded)
    k, lane = te.reduce_axis((0, columns // lanes)), te.reduce_axis((0, lanes))

    def of_zeros(i, lane):
        is_zero = x.mean[i, k * lanes + lane] == tirx.const(0.0, "float32")
        whole = tirx.Cast("int32", share[k * lanes + lane])
        return te.sum(tirx.Select(is_zero, whole, tirx.const(0, "int32")), axis=k)

    by_lane = te.compute((batch, lanes), of_zeros, f"{name}_zeros")
    total = te.compute((batch,), lambda i: te.sum(by_lane[i, lane], axis=lane), f"{name}_share")
    least = tirx.const(int(LEAST_SHARE * _UNIT), "int32")
    one, none = tirx.const(1.0, "float32"), tirx.const(0.0, "float32")
    centred = te.compute(
        (batch,), lambda i: tirx.Select(total[i] >= least, none, one), f"{name}_centred"
    )
    transform = partial(_schedule_zeros, name=f"{name}_zeros")
    program.steps.append(Step(f"zeros {columns} batch {batch}", {}, {}, transform))
    return centred


def _schedule_zeros(sch: tvm.s_tir.Schedule, decisions, name: str) -> None:
    """Whole vectors: LLVM would branch for each input. Sums are set to zero before the loop."""
    block = sch.get_sblock(name)
    _, lane, k = sch.get_loops(block)
    sch.reorder(k, lane)
    sch.vectorize(lane)
    sch.decompose_reduction(block, k)
