"""One network computed in several ways: calls from Python, kernels on a device, instructions.

Names: "PFP" is propagation of moments, "linearised" adds the covariance of the outputs, "mean" is
the deterministic network of the means, "SVI-30" thirty passes of sampled weights, "SVI-30 local"
thirty draws of the layers' outputs (`refbnn.network.local_sampling`); then who computes it. NumPy
is the reference, in float64, whose convolutions and pooling are loops of Numba. "Numba" has loops
of Numba for dense layers as well, written to be read: they check the reference, and are not the
fastest that Numba can do. "prediction" is PFP, and from its moments the probabilities of classes
with their entropies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from kernels import compile_network
from kernels.bench.latency import on_device
from kernels.devices import Board
from kernels.devices.instructions import InstructionCount
from kernels.devices.targets import Target
from kernels.program.compiled import CompiledNetwork
from kernels.sampled_network import SampledNetwork, compile_sampled
from refbnn.errors import InputError
from refbnn.layers import Dense
from refbnn.layers.dense import moments_loops
from refbnn.layers.moments import Moments, deterministic
from refbnn.network.network import Network
from refbnn.prediction.predict import SVI_SAMPLES, predict

_SVI = f"SVI-{SVI_SAMPLES}"
_WITHOUT = ", without zeros"


def compiled(
    net: Network,
    x: np.ndarray,
    target: Target,
    schedules: Sequence[str],
    records: Path | None,
    device: str | Board = "local",
) -> tuple[dict[str, CompiledNetwork | SampledNetwork], dict[str, str]]:
    """Compile a network in all our ways.

    Parameters
    ----------
    net : Network
    x : (batch, ...)
    target : Target
    schedules : sequence of str
        As in `kernels.compile_network`. On the emulated core, sampling has the schedule "hand"
        alone: by "default", thirty passes of a LeNet-5 would take minutes to count.
    records : Path, optional
        Folder of records of tuning.
    device : str or Board

    Returns
    -------
    networks : dict of name to network
    absent : dict of name to reason
    """
    made: dict[str, CompiledNetwork | SampledNetwork] = {}
    absent: dict[str, str] = {}
    for schedule in schedules:
        for name, form in (("PFP", "variance"), ("mean", "mean")):
            made[f"{name}, kernel, {schedule}"] = compile_network(
                net, len(x), target.name, schedule, form, records, device
            )
        name = f"linearised, kernel, {schedule}"
        try:
            made[name] = compile_network(
                net, len(x), target.name, schedule, "variance", records, device, "linearised"
            )
        except InputError as error:  # a layer without a rule, outputs that are no row
            absent[name] = str(error)
        if device == "emulated" and schedule != "hand":
            continue
        for name, local in ((_SVI, False), (f"{_SVI} local", True)):
            name = f"{name}, kernel, {schedule}"
            try:
                made[name] = compile_sampled(
                    net, len(x), SVI_SAMPLES, target.name, schedule, device, local=local
                )
            except InputError as error:
                absent[name] = str(error)
    return made, absent


def calls(
    net: Network,
    x: np.ndarray,
    target: Target,
    schedules: Sequence[str],
    records: Path | None,
    random: np.ndarray | None = None,
) -> tuple[dict[str, Callable[[], object]], dict[str, str]]:
    """Whole calls from Python on this machine, and reasons for absent ones; see `compiled`.

    With inputs without zeros, `random`, there are calls by the schedule "hand" for them too.
    """
    single = x.astype(np.float32)
    networks, absent = compiled(net, x, target, schedules, records)
    made: dict[str, Callable[[], object]] = {
        name: partial(network, single, *_seed(network)) for name, network in networks.items()
    }
    if random is not None:
        made |= {
            f"{name}{_WITHOUT}": partial(network, random.astype(np.float32), *_seed(network))
            for name, network in networks.items()
            if name.endswith(", hand")
        }
    rng = np.random.default_rng(0)
    for schedule in schedules:
        network = networks[f"PFP, kernel, {schedule}"]
        if isinstance(network, CompiledNetwork) and network.predicts:
            made[f"prediction, kernel, {schedule}"] = partial(network.predict, single)
            made["prediction, NumPy"] = partial(predict, net, x)
    made["PFP, NumPy"] = partial(net.propagate, x)
    made["PFP, Numba"] = partial(_propagate_by_loops, net, x)
    made[f"{_SVI}, NumPy"] = partial(net.sample, x, SVI_SAMPLES, rng)
    return made, absent


def latencies(
    net: Network,
    x: np.ndarray,
    target: Target,
    schedules: Sequence[str],
    records: Path | None,
    device: str | Board,
) -> tuple[dict[str, float], dict[str, str]]:
    """Seconds of our kernels by a device's own clock, and reasons for absent ones."""
    networks, absent = compiled(net, x, target, schedules, records, device)
    for network in networks.values():
        network.kernel.inputs[-1][...] = x
    return on_device({name: network.kernel for name, network in networks.items()}), absent


def instructions(
    net: Network,
    x: np.ndarray,
    target: Target,
    schedules: Sequence[str],
    records: Path | None,
    random: np.ndarray | None = None,
) -> tuple[dict[str, InstructionCount], dict[str, str]]:
    """Executed instructions on the emulated core, and reasons for absent ones; as `calls`."""
    networks, absent = compiled(net, x, target, schedules, records, "emulated")
    counts = {
        name: network.instruction_count(x, *_seed(network)) for name, network in networks.items()
    }
    if random is not None:
        counts |= {
            f"{name}{_WITHOUT}": network.instruction_count(random, *_seed(network))
            for name, network in networks.items()
            if name.endswith(", hand")
        }
    return counts, absent


def _seed(network: CompiledNetwork | SampledNetwork) -> tuple[int, ...]:
    """Arguments of a call after x."""
    return (0,) if isinstance(network, SampledNetwork) else ()


def _propagate_by_loops(net: Network, x: np.ndarray) -> Moments:
    """Propagate, dense layers by explicit loops."""
    moments: np.ndarray | Moments = x
    for layer, own in zip(net.layers, net.by_layer(net.propagated_parameters()), strict=True):
        if isinstance(layer, Dense):
            known = moments if isinstance(moments, Moments) else deterministic(moments)
            weight, bias = own["weight"], own["bias"]
            arrays = known.mean, known.var, weight.mean, weight.scale, bias.mean, bias.scale
            moments = Moments(*moments_loops(*arrays))
        else:
            moments = layer.moments(moments, own)
    assert isinstance(moments, Moments)
    return moments
