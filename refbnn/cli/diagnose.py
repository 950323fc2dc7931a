"""`refbnn diagnose`: where a network's propagation should not be trusted, layer by layer."""

from __future__ import annotations

import argparse

from refbnn.cli import arguments as shared
from refbnn.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.epilog = (
        "First order: skewness and kurtosis by formulas, for independent inputs. Sampled: an entry "
        "is flagged if its divergence, less what chance adds, is above the threshold and chance is "
        "refuted (Benjamini-Hochberg, 5 % of a layer's flags)."
    )
    shared.add_model(parser)
    shared.add_data(parser, "its test split")
    shared.add_integer(parser, "--inputs", 1, 200, "use the first N examples")
    parser.add_argument(
        "--threshold",
        type=shared.positive(),
        metavar="NATS",
        help="divergence from a Gaussian to flag (default: 1/60, below which 30 samples would "
        "not show it)",
    )
    text = (
        "sampled passes, at least 20: they see the correlation of a layer's inputs and the shapes "
        "behind pooling, which the first order does not; 0 for none (default: 200)"
    )
    shared.add_integer(parser, "--samples", 0, None, text)
    shared.add_json(parser)
    shared.add_plot(parser, "divergence and variance ratio of every layer")
    shared.add_threads(parser)
    shared.add_seed(parser)


def run(arguments: argparse.Namespace) -> list[str]:
    """Print one row for each layer with weights, to first order and by sampled passes."""
    import numpy as np
    from threadpoolctl import threadpool_limits
    from tqdm import tqdm

    from refbnn import data, load
    from refbnn.cli.models import shaped, warn_of_other_data
    from refbnn.cli.output import plotter, write_json
    from refbnn.uncertainty.diagnostics.bounds import bounds_rows
    from refbnn.uncertainty.diagnostics.diagnose import THRESHOLD, diagnose
    from refbnn.uncertainty.diagnostics.sampled import FEWEST, SAMPLES

    if arguments.samples is not None and 0 < arguments.samples < FEWEST:
        raise InputError(f"--samples {arguments.samples}: expected 0, or at least {FEWEST}")
    plot = plotter(arguments.plot, "diagnosis")
    net = load(arguments.model)
    examples = data.load(arguments.data, "test")
    x = shaped(net, examples, arguments.inputs)
    threshold = THRESHOLD if arguments.threshold is None else arguments.threshold
    n = SAMPLES if arguments.samples is None else arguments.samples
    warn_of_other_data("diagnose", net, arguments.model, examples)
    with (
        np.errstate(over="ignore", invalid="ignore"),  # what overflows is an InputError
        threadpool_limits(arguments.threads, "blas"),
        tqdm(total=len(x), desc="diagnose", unit="input", disable=None) as bar,
    ):
        layers = diagnose(net, x, n_samples=n, seed=arguments.seed, on_inputs=bar.update)
    rows = [_row(layer, threshold) for layer in layers]
    _print_first_order(rows)
    if n:
        _print_sampled(rows, n)
    last = layers[-1].flagged(threshold).reshape(len(x), -1)
    inputs = [index for index, row in enumerate(last) if row.any()]
    print(f"inputs with a flagged output: {len(inputs)} of {len(x)}")
    bounds = bounds_rows(net, x)
    _print_bounds(bounds)
    _print_limits(net)
    numbers = {
        "data": examples.source,
        "inputs": len(x),
        "threshold_nats": threshold,
        "samples": n,
        "layers": rows,
        "bounds": bounds,
        "flagged_inputs": inputs,
    }
    write_json(arguments.json, numbers)
    plot(rows, threshold)
    return []


def _print_first_order(rows: list[dict]) -> None:
    from tabulate import tabulate

    header = ["first order", "", "|skewness| 50 %", "95 %", "max"]
    header += ["|excess kurtosis| 50 %", "95 %", "max", "KL 50 % (nats)", "95 %", "flagged %"]
    header += ["variance, full/diagonal", "linearised/diagonal"]
    cells = [
        [
            row["layer"],
            row["kind"],
            *row["skewness"].values(),
            *row["excess_kurtosis"].values(),
            *list(row["divergence_nats"].values())[:2],
            row["flagged_percent"],
            row["median_variance_ratio_full_to_diagonal"],
            row["median_variance_ratio_linearised_to_diagonal"],
        ]
        for row in rows
    ]
    print(tabulate(cells, header, floatfmt=".3g"))


def _print_sampled(rows: list[dict], n: int) -> None:
    from tabulate import tabulate

    from refbnn.uncertainty.diagnostics.non_gaussianity import standard_errors

    header = [f"{n} samples", "", "variance, sampled/PFP 50 %", "5 %", "95 %", "|mean shift|"]
    header[-1:-1] = ["sampled/linearised 50 %", "5 %", "95 %"]
    header += ["|skewness| 50 %", "95 %", "|excess kurtosis| 50 %", "95 %"]
    header += ["KL 50 % (nats)", "95 %", "flagged %"]
    cells = []
    for row in rows:
        found = row["sampled"]
        ratio = found["variance_ratio_sampled_to_propagated"]
        cell = [row["layer"], row["kind"], ratio["median"], ratio["q05"], ratio["q95"]]
        linear = found["variance_ratio_sampled_to_linearised"] or {}
        cell += [linear.get(key) for key in ("median", "q05", "q95")]
        cell.append(found["mean_shift_in_standard_deviations"]["q95"])
        for key in ("skewness", "excess_kurtosis", "divergence_less_chance_nats"):
            cell += [found[key]["median"], found[key]["q95"]]
        cells.append([*cell, found["flagged_percent"]])
    print()
    print(tabulate(cells, header, floatfmt=".3g"))
    error = standard_errors(n)
    variance = 100.0 * (2.0 / (n - 1)) ** 0.5
    print(
        f"standard errors of a Gaussian entry: variance {variance:.0f} %, skewness "
        f"{error.skewness:.2f}, excess kurtosis {error.kurtosis:.2f}; KL less what chance adds"
    )
    print("mean shift: of the sampled from the propagated mean, in standard deviations, 95 %")


def _print_bounds(bounds: list[dict]) -> None:
    for row in bounds:
        w1, w2 = row["w1_bound_in_deviations"], row["w2_bound_in_deviations"]
        print(
            f"layer {row['layer']}: Wasserstein distance from a Gaussian, in standard deviations, "
            "greatest output of an input: first order at most "
            f"{w1['median']:.2g} (50 %), {w1['max']:.2g} (max); second order, to leading order, "
            f"{w2['median']:.2g}, {w2['max']:.2g}; the mean of a ReLU behind it errs by at most "
            "half of the first"
        )


def _print_limits(net) -> None:
    """Say what the numbers leave out."""
    from refbnn.layers.images.pool_first import pool_first
    from refbnn.uncertainty.diagnostics.diagnose import MOST_UNITS

    print(f"linearised: for at most {MOST_UNITS} outputs of a layer, evenly spaced")
    print("first order: without what the correlation of a layer's inputs adds")
    # Max pooling comes before a monotone activation here.
    order = enumerate(pool_first(net.layers)[:-1])
    reset = [f"{i} {type(layer).__name__}" for i, layer in order if not _is_followed(layer)]
    if reset:
        print(
            f"first order: outputs of the layers {', '.join(reset)} (in the order of propagation) "
            "are taken for Gaussian"
        )
    if net.variance_factor != 1.0:
        print("without the network's variance factor")


def _is_followed(layer) -> bool:
    """Whether the shape of a layer's outputs is carried on, or has weights of its own."""
    from refbnn.layers import Flatten, Normalise, ReLU

    return isinstance(layer, Flatten | Normalise | ReLU) or bool(layer.parameter_shapes())


def _row(layer, threshold: float) -> dict:
    """Numbers of one layer, for JSON and the tables."""
    import numpy as np

    full, linear = (
        None if ratio is None else float(np.median(ratio))
        for ratio in (layer.variance_ratio, layer.linearised_ratio)
    )
    sampled = None
    if layer.sampled is not None:
        sampled = _sampled_row(layer.sampled, layer.sampled_to_linearised, threshold)
    return {
        "layer": layer.index,
        "kind": layer.layer,
        "skewness": _quantiles(np.abs(layer.first_order.skewness)),
        "excess_kurtosis": _quantiles(np.abs(layer.first_order.kurtosis)),
        "divergence_nats": _quantiles(np.abs(layer.first_order.divergence)),
        "flagged_percent": 100.0 * float((layer.first_order.divergence > threshold).mean()),
        "median_variance_ratio_full_to_diagonal": full,
        "median_variance_ratio_linearised_to_diagonal": linear,
        "linearised_outputs": len(layer.units),
        "sampled": sampled,
    }


def _sampled_row(sampled, to_linearised, threshold: float) -> dict:
    import numpy as np

    levels = {"q05": 0.05, "median": 0.5, "q95": 0.95}
    return {
        "variance_ratio_sampled_to_propagated": _quantiles(sampled.variance_ratio, **levels),
        "variance_ratio_sampled_to_linearised": None
        if to_linearised is None
        else _quantiles(to_linearised, **levels),
        "mean_shift_in_standard_deviations": _quantiles(np.abs(sampled.mean_shift)),
        "skewness": _quantiles(np.abs(sampled.non_gaussianity.skewness)),
        "excess_kurtosis": _quantiles(np.abs(sampled.non_gaussianity.kurtosis)),
        "divergence_less_chance_nats": _quantiles(sampled.divergence),
        "flagged_percent": 100.0 * float(sampled.flagged(threshold).mean()),
    }


def _quantiles(values, **levels: float) -> dict[str, float]:
    """Quantiles by name; by default the median, the 95 % quantile and the maximum."""
    import numpy as np

    levels = levels or {"median": 0.5, "q95": 0.95, "max": 1.0}
    return {name: float(np.quantile(values, level)) for name, level in levels.items()}
