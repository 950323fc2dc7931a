"""Stage 3: predictive moments and uncertainty, by propagation (PFP) and by sampling (SVI)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from figures import predictive_moments, uncertainty
from refbnn import Moments, Network, predict
from refbnn.cli.report import Picture, Section, Table
from refbnn.data import load
from refbnn.prediction.predict import SVI_SAMPLES
from refbnn.prediction.result import Prediction
from refbnn.uncertainty import evaluation
from verification import Check

_INSIDE, _OUTSIDE = "MNIST", "Fashion-MNIST"
_MOMENT_SAMPLES = 300  # sampled passes behind the picture of moments: 4 % error of a spread
_MOMENT_INPUTS = 300  # of each data set, drawn in that picture
_LEAST_ACCURACY = 0.90
_GREATEST_GAP = 0.01


@dataclass(frozen=True)
class PropagationResult:
    """Part of the report."""

    section: Section
    numbers: dict
    checks: list[Check]


def run(
    networks: Mapping[str, Network], seed: int, work: Path, tick: Callable[[str], None]
) -> PropagationResult:
    """Predict packaged test digits and, as out-of-distribution input, garments."""
    first = next(iter(networks))
    inside, outside = load("mnist-subset", "test"), load("fashion-subset", "test")
    x_in, x_out = (networks[first].shaped(examples.x) for examples in (inside, outside))
    numbers: dict[str, dict] = {}
    shown: dict[str, tuple[Prediction, Prediction]] = {}
    for label, net in networks.items():
        numbers[label] = {}
        for method in ("pfp", "svi"):
            pair = (
                predict(net, x_in, method=method, seed=seed),
                predict(net, x_out, method=method, seed=seed),
            )
            numbers[label][method] = evaluation.of_classes(pair[0], inside.y, pair[1])
            shown.setdefault(method.upper(), pair)  # of the first law
        tick(f"predict, {label}")
    uncertainty.draw(shown, (_INSIDE, _OUTSIDE), work / "uncertainty.png")

    pairs = {
        name: _both_moments(networks[first], x[:_MOMENT_INPUTS], seed)
        for name, x in ((_INSIDE, x_in), (_OUTSIDE, x_out))
    }
    agreement = {name: _agreement(*pair) for name, pair in pairs.items()}
    predictive_moments.draw(pairs, _MOMENT_SAMPLES, work / "predictive_moments.png")
    tick("predictive moments")
    return PropagationResult(
        _section(numbers, agreement, first, len(x_in), len(x_out)),
        {"propagation": {"by_law": numbers, "logit_moments": agreement}},
        [check for label, values in numbers.items() for check in _checks(label, values)],
    )


def _both_moments(net: Network, x: np.ndarray, seed: int) -> tuple[Moments, Moments]:
    sampled = predict(net, x, method="svi", n_samples=_MOMENT_SAMPLES, seed=seed + 1)
    return net.propagate(x), sampled.logits


def _agreement(propagated: Moments, sampled: Moments) -> dict[str, float]:
    """Of the means: rms difference over rms spread; of the spreads: median ratio."""
    rms_gap = np.sqrt(np.mean((propagated.mean - sampled.mean) ** 2))
    return {
        "mean_rms_gap_over_spread": float(rms_gap / np.sqrt(np.mean(sampled.var))),
        "median_spread_ratio": float(np.median(np.sqrt(propagated.var / sampled.var))),
    }


def _checks(label: str, numbers: Mapping[str, Mapping[str, float]]) -> list[Check]:
    error = max(1.0 - values["accuracy"] for values in numbers.values())
    gap = abs(numbers["pfp"]["accuracy"] - numbers["svi"]["accuracy"])
    # A hair above the limits: 1 − 0.9 is not 0.1 in binary.
    return [
        Check(
            f"accuracy at least {_LEAST_ACCURACY:.0%} ({label})",
            "share of packaged test digits misclassified, the worse of PFP and SVI",
            error,
            1.0 - _LEAST_ACCURACY + 1e-9,
            "misclassified",
            2,
            0,
        ),
        Check(
            f"PFP and SVI agree in accuracy ({label})",
            "difference in the share of packaged test digits classified correctly",
            gap,
            _GREATEST_GAP + 1e-9,
            "difference in accuracy",
            1,
            0,
        ),
    ]


def _section(numbers, agreement, first, n_in, n_out) -> Section:
    header = ["", *(f"{m.upper()}, {label}" for label in numbers for m in numbers[label])]
    columns = [values for by_method in numbers.values() for values in by_method.values()]
    spread = [np.sqrt(v["accuracy"] * (1.0 - v["accuracy"]) / n_in) for v in columns]
    rows = [
        [
            "accuracy",
            *(f"{v['accuracy']:.1%} ± {s:.1%}" for v, s in zip(columns, spread, strict=True)),
        ]
    ]
    for name in evaluation.SCORES:
        key = name.replace(" ", "_")
        for place, where in (("inside", _INSIDE), ("outside", _OUTSIDE)):
            rows.append(
                [
                    f"mean {name}, {where} (nats)",
                    *(f"{v[f'{key}_{place}_nats']:.3f}" for v in columns),
                ]
            )
        rows.append(
            [
                f"AUROC by {name}",
                *(f"{v[f'auroc_{key}']:.3f} ± {v[f'auroc_{key}_se']:.3f}" for v in columns),
            ]
        )
    moments = [
        [name, f"{a['mean_rms_gap_over_spread']:.3f}", f"{a['median_spread_ratio']:.3f}"]
        for name, a in agreement.items()
    ]
    return Section(
        "Propagate",
        [
            f"{n_in} packaged MNIST test digits and {n_out} Fashion-MNIST test images as "
            "out-of-distribution input. PFP: one pass of means and variances, then the integrals "
            f"over independent Gaussian logits by quadrature. SVI: {SVI_SAMPLES} passes with "
            "weights drawn from the law. AUROC tells the two data sets apart by the score named; "
            "± is one standard error from the choice of images (binomial; Hanley and McNeil), not "
            "from that of posterior samples or of the training run.",
            "PFP treats the activations of a layer as independent. They share the layer's inputs, "
            "so in truth they are correlated, and PFP reports too little variance behind several "
            "layers: the last table says by how much for this network. Of the gap of the means, "
            f"{1.0 / np.sqrt(_MOMENT_SAMPLES):.3f} is expected from sampling alone.",
        ],
        [
            Table("Accuracy and uncertainty", header, rows),
            Table(
                f"Logit moments, PFP against {_MOMENT_SAMPLES} sampled passes ({first})",
                ["inputs", "rms gap of means / rms spread", "median ratio of spreads"],
                moments,
            ),
        ],
        [
            Picture(
                "predictive_moments.png",
                f"Every logit of the first {_MOMENT_INPUTS} images of each data set, {first}: mean "
                f"and standard deviation by one propagation against {_MOMENT_SAMPLES} passes.",
            ),
            Picture(
                "uncertainty.png",
                f"Uncertainty in and out of distribution, {first}: top row PFP, bottom row SVI.",
            ),
        ],
    )
