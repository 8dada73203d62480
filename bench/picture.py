"""The curve of a training as a PNG."""

from __future__ import annotations

import pathlib

from bench.digits import Outcome, Settings


def draw(outcome: Outcome, settings: Settings, path: pathlib.Path) -> None:
    """Draw training loss and test accuracy by epoch.

    Parameters
    ----------
    outcome, settings
        Of the training.
    path : pathlib.Path
        Of the PNG.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    epochs = range(1, len(outcome.losses) + 1)
    figure, left = pyplot.subplots(figsize=(7, 3.6), dpi=150, layout="constrained")
    left.semilogy(epochs, outcome.losses, color="tab:red", label="training loss")
    left.set(xlabel="epoch", ylabel="training loss")
    right = left.twinx()
    right.plot(epochs, [100 * a for a in outcome.accuracies], color="tab:green", label="test accuracy")
    right.axhline(97, color="tab:green", linewidth=0.8, linestyle=":")
    right.set(ylabel="test accuracy in %", ylim=(80, 100.5))
    lines = left.get_lines() + right.get_lines()[:1]
    left.legend(lines, [line.get_label() for line in lines], loc="center right")
    widths = "-".join(str(n) for n in (64, *settings.hidden, 10))
    left.set_title(f"Handwritten digits: {widths} {settings.activation} network, dropout {settings.dropout:g}")
    for axes in (left, right):
        axes.spines["top"].set_visible(False)
    figure.savefig(path)
    pyplot.close(figure)
