"""A run of training by epoch: likelihood, KL and the validation score."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from figures.support.style import BLUE, GREY, ORANGE, figure
from refbnn.training.run import Epoch


def draw(history: Sequence[Epoch]) -> Figure:
    """Draw a panel each of the likelihood, KL and, where there is one, the validation score.

    Grey marks the epochs in which KL counts in part (warm-up). The dot marks the best epoch among
    the others, whose parameters the network keeps.
    """
    epochs = [epoch.number for epoch in history]
    scores = [epoch.validation for epoch in history]
    validated = any(score is not None for score in scores)
    fig, (axes,) = figure(3 if validated else 2, panel=(4.0, 3.3))
    panels: list[tuple[str, Sequence[float | None], str]] = [
        ("−log likelihood", [epoch.loss.nll for epoch in history], "nats, all examples"),
        ("KL(posterior ‖ prior)", [epoch.loss.kl for epoch in history], "nats"),
    ]
    if validated:
        panels.append(("Validation", scores, "−log p(y | x), nats an example"))
    warm = [epoch.number for epoch in history if epoch.kl_weight < 1.0]
    for ax, (title, values, unit) in zip(axes, panels, strict=True):
        ax.plot(epochs, values, "o-", ms=3, lw=1.4, color=BLUE)
        if warm:
            ax.axvspan(warm[0] - 0.5, warm[-1] + 0.5, color=GREY, alpha=0.15, lw=0, label="warm-up")
        ax.set(xlabel="epoch", ylabel=unit, title=title)
        ax.xaxis.get_major_locator().set_params(integer=True)
    full = [
        (score, number)
        for score, number, epoch in zip(scores, epochs, history, strict=True)
        if score is not None and epoch.kl_weight == 1.0
    ]
    if full:
        score, number = min(full)
        axes[-1].plot([number], [score], "o", ms=8, color=ORANGE, label=f"best, epoch {number}")
    if warm or full:
        axes[-1].legend(fontsize=8)
    return fig
