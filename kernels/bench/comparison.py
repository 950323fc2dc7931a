"""What `refbnn bench` measures: one network in several ways, and its operators one by one.

Whole calls from Python, each on one core, in one process and in turns (`kernels.bench.latency`), so
that their ratios are of one run.

Names: "PFP" is propagation of moments, "mean" the deterministic network of the means, "SVI-30"
thirty passes of sampled weights; then who computes it. NumPy is the reference, in float64, whose
convolutions and pooling are loops of Numba; "Numba" has loops of Numba for dense layers as well,
written to be read: they are its check, not its best.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kernels import compile_network
from kernels.bench import roofline
from kernels.bench.latency import on_device
from kernels.bench.operators import one_by_one
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
from refbnn.prediction.predict import SVI_SAMPLES

Call = Callable[[], object]
SVI = f"SVI-{SVI_SAMPLES}"


def calls(
    net: Network, x: np.ndarray, target: Target, schedules: Sequence[str], records: Path | None
) -> tuple[dict[str, Call], dict[str, str]]:
    """Our ways to compute a network, and why some are missing.

    Parameters
    ----------
    net : Network
    x : (batch, ...)
    target : Target
    schedules : names, as of `kernels.compile_network`
    records : Path, optional
        Folder of records of tuning.

    Returns
    -------
    calls : dict of name to callable without arguments
    absent : dict of name to reason
    """
    single = x.astype(np.float32)
    networks, absent = compiled(net, len(x), target, schedules, schedules, records)
    made: dict[str, Call] = {
        name: _bound(network, single, *_seed(network)) for name, network in networks.items()
    }
    rng = np.random.default_rng(0)
    made["PFP, NumPy"] = _bound(net.propagate, x)
    made["PFP, Numba"] = _bound(_by_loops, net, x)
    made[f"{SVI}, NumPy"] = _bound(net.sample, x, SVI_SAMPLES, rng)
    return made, absent


def latencies(
    net: Network,
    x: np.ndarray,
    target: Target,
    schedules: Sequence[str],
    records: Path | None,
    device: str | Board,
) -> tuple[dict[str, float], dict[str, str]]:
    """Seconds that our kernels of a network take by a device's own clock; otherwise as `calls`."""
    networks, absent = compiled(net, len(x), target, schedules, schedules, records, device)
    for network in networks.values():
        network.kernel.inputs[-1][...] = x
    return on_device({name: network.kernel for name, network in networks.items()}), absent


def instructions(
    net: Network, x: np.ndarray, target: Target, schedules: Sequence[str], records: Path | None
) -> tuple[dict[str, InstructionCount], dict[str, str]]:
    """What our kernels of a network execute on the emulated core; otherwise as `calls`.

    Sampling by hand alone: by default, thirty passes of a LeNet-5 would take minutes to count.
    """
    sampled = [schedule for schedule in schedules if schedule == "hand"]
    networks, absent = compiled(net, len(x), target, schedules, sampled, records, "emulated")
    return {
        name: network.instruction_count(x, *_seed(network)) for name, network in networks.items()
    }, absent


def compiled(
    net: Network,
    batch: int,
    target: Target,
    schedules: Sequence[str],
    sampled: Sequence[str],
    records: Path | None,
    device: str | Board = "local",
) -> tuple[dict[str, CompiledNetwork | SampledNetwork], dict[str, str]]:
    """Our kernels of a network by name, and why some are missing; parameters as of `calls`.

    Those of sampled weights by the schedules `sampled` of these.
    """
    made: dict[str, CompiledNetwork | SampledNetwork] = {}
    absent: dict[str, str] = {}
    for schedule in schedules:
        for name, form in (("PFP", "variance"), ("mean", "mean")):
            made[f"{name}, kernel, {schedule}"] = compile_network(
                net, batch, target.name, schedule, form, records, device
            )
        if schedule not in sampled:
            continue
        name = f"{SVI}, kernel, {schedule}"
        try:
            made[name] = compile_sampled(net, batch, SVI_SAMPLES, target.name, schedule, device)
        except InputError as error:
            absent[name] = str(error)
    return made, absent


def _seed(network: CompiledNetwork | SampledNetwork) -> tuple[int, ...]:
    """What it is called with besides x."""
    return (0,) if isinstance(network, SampledNetwork) else ()


def _bound(function: Callable, *arguments) -> Call:
    return lambda: function(*arguments)


def _by_loops(net: Network, x: np.ndarray) -> Moments:
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


@dataclass(frozen=True)
class Measured:
    """One layer of the compiled network by itself.

    Parameters
    ----------
    name : str
        Its index and kind.
    seconds : dict of schedule to float
        Of the kernel alone, without the call from Python.
    work : Work
    limit_seconds : float
        The least time that its work could take on one core of this machine.
    limited_by : {"memory", "arithmetic"}
    """

    name: str
    seconds: dict[str, float]
    work: roofline.Work
    limit_seconds: float
    limited_by: str


def operators(
    net: Network,
    x: np.ndarray,
    target: Target,
    schedules: Sequence[str],
    records: Path | None,
    rate: float,
    device: str | Board = "local",
) -> list[Measured]:
    """Measure every operator of the network by itself, all schedules of one in turns.

    Parameters
    ----------
    net, x, target, schedules, records : as of `calls`
    rate : float
        Of `kernels.bench.roofline.rate`.
    device : str or Board
    """
    found = []
    for operator in one_by_one(net, x, target):
        work = operator.work
        by_memory = work.n_bytes / roofline.bandwidth(target, work.n_bytes, device)
        by_arithmetic = work.operations / rate
        kernels = {schedule: operator.kernel(schedule, records, device) for schedule in schedules}
        found.append(
            Measured(
                name=operator.name,
                seconds=on_device(kernels),
                work=work,
                limit_seconds=max(by_memory, by_arithmetic),
                limited_by="memory" if by_memory >= by_arithmetic else "arithmetic",
            )
        )
    return found
