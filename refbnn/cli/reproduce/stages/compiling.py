"""Stage 4: the trained network as one kernel, and its latency beside NumPy and sampling."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from kernels import compile_network
from kernels.bench.latency import latency, on_device
from kernels.bench.operators import one_by_one
from kernels.devices.targets import target as find_target
from refbnn import Network
from refbnn.cli.report import Section, Table
from refbnn.cli.reproduce.part import Part, rows
from refbnn.data import load
from refbnn.noise import Gaussian
from refbnn.numerics.random.streams import stream
from refbnn.prediction.predict import SVI_SAMPLES
from refbnn.prediction.softmax import by_quadrature
from verification import Check
from verification.kernels.compare import SCHEDULES, compare
from verification.rounding import network_bound

_BATCHES = (1, 100)
_HAND = "kernel, hand schedule"


def run(
    networks: Mapping[str, Network], target: str, seed: int, tick: Callable[[str], None]
) -> Part:
    """Compile the first network, hold it against the reference, and time everything in one run."""
    label, net = next(iter(networks.items()))
    digits = load("mnist-subset", "test")
    x, y = rows(digits), digits.y
    network_times = {}
    for batch in _BATCHES:
        calls = _network_calls(label, net, x[:batch], target, stream(seed, "latency"))
        network_times[batch] = latency(calls)
    operator_times = {batch: _operator_times(net, x[:batch], target) for batch in _BATCHES}
    numbers, check = _compare(label, net, x, y, target)
    tick("compile and time")
    timings = {
        "network_seconds_by_batch": network_times,
        "operator_seconds_by_batch": operator_times,
    }
    section = _section(label, target, network_times, operator_times, numbers)
    return Part(section, {"kernels": numbers}, [check], timings)


def _network_calls(label, net, x, target, rng) -> dict[str, Callable[[], object]]:
    fast = compile_network(net, len(x), target)
    plain = compile_network(net, len(x), target, schedule="default")
    gaussian = net.with_noise(Gaussian())
    x_32 = x.astype(np.float32)
    return {
        _HAND: lambda: fast(x_32),
        "kernel, default schedule": lambda: plain(x_32),
        "NumPy propagation": lambda: net.propagate(x),
        f"NumPy SVI, {SVI_SAMPLES} samples, {label}": lambda: net.sample(x, SVI_SAMPLES, rng),
        f"NumPy SVI, {SVI_SAMPLES} samples, Gaussian noise": lambda: gaussian.sample(
            x, SVI_SAMPLES, rng
        ),
    }


def _operator_times(net: Network, x: np.ndarray, target: str) -> dict[str, dict[str, float]]:
    """Seconds of each layer's kernel on the moments that the network hands it, by schedule."""
    times: dict[str, dict[str, float]] = {schedule: {} for schedule in SCHEDULES}
    for operator in one_by_one(net, x, find_target(target)):
        kernels = {schedule: operator.kernel(schedule, None, "local") for schedule in SCHEDULES}
        for schedule, seconds in on_device(kernels).items():
            times[schedule][operator.name] = seconds
    return times


def _compare(label, net, x, y, target) -> tuple[dict, Check]:
    """Compare the kernel's predictions for all test digits with the reference's."""
    fast = compile_network(net, len(x), target)(x)
    exact = net.propagate(x)
    by_kernel, by_reference = by_quadrature(fast), by_quadrature(exact)
    difference = float(np.abs(by_kernel.probabilities - by_reference.probabilities).max())
    numbers = {
        "target": target,
        "law": label,
        "accuracy": by_kernel.accuracy(y),
        "greatest_difference_in_probability": difference,
    }
    check = compare(
        "kernel: moments of the trained network",
        f"logits of {len(x)} digits, float32 kernel against float64 reference, share of the "
        "probabilistic rounding bound",
        (fast.mean, fast.var),
        exact,
        network_bound(net, x),
    )
    return numbers, check


def _section(label, target, network_times, operator_times, numbers) -> Section:
    rows = []
    for name in next(iter(network_times.values())):
        row = [name]
        for times in network_times.values():
            row += [f"{times[name] * 1e6:,.1f}", f"{times[name] / times[_HAND]:,.1f}"]
        rows.append(row)
    header = [""]
    for batch in network_times:
        header += [f"batch {batch}: µs a call", "relative"]
    operator_rows = [
        [f"{name}, batch {batch}"]
        + [f"{times[s][name] * 1e6:,.2f}" for s in ("hand", "default")]
        + [f"{times['default'][name] / times['hand'][name]:,.1f}"]
        for batch, times in operator_times.items()
        for name in times["hand"]
    ]
    return Section(
        "Compile",
        [
            f"TVM compiled the network trained with the {label} for the target “{target}” into one "
            "function in float32, with weights packed ahead of time. Latencies are medians of "
            "whole calls from Python, in turns in one run, on one core; NumPy computes in float64. "
            "“Relative” is to the hand schedule. Sampling spends much of its time on drawing "
            "weights: 90 thousand per pass.",
            f"Predictions of the kernel for all packaged test digits: accuracy "
            f"{numbers['accuracy']:.1%}, class probabilities within "
            f"{numbers['greatest_difference_in_probability']:.1e} of the float64 reference.",
        ],
        [
            Table("Whole network, 784-100-100-10", header, rows),
            Table("Operators alone", ["", "hand: µs", "default: µs", "ratio"], operator_rows),
        ],
    )
