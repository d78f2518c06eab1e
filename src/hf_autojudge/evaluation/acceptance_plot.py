"""Plot how often the candidates of a round are emitted, by their position."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hf_autojudge.evaluation.panel import QUIET
from hf_autojudge.evaluation.plots import series_of
from hf_autojudge.evaluation.report import Frontier
from hf_autojudge.evaluation.threshold_labels import threshold_labels
from hf_autojudge.provenance import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_acceptance_by_position(frontier: Frontier, path: str | os.PathLike) -> None:
    """Plot, for each candidate of a round, the share of rounds in which it was emitted: a line for each judge at each
    threshold, in the colors of [`plot_frontier`], the larger the threshold the fainter.

    Args:
        frontier ([`Frontier`])
        path (`str` or `os.PathLike`): A `.png`, `.svg` or `.pdf` file; written atomically.

    Raises:
        ValueError: If no point has the figures.
    """
    figure = acceptance_figure(frontier)
    with replacing(path) as beside:
        figure.savefig(beside)


def acceptance_figure(frontier: Frontier) -> Figure:
    """The figure that [`plot_acceptance_by_position`] writes."""
    from matplotlib.figure import Figure

    points = [point for point in frontier.points if point.acceptance_by_position]
    if not points:
        raise ValueError("The frontier holds no acceptance by position; measure it again.")
    height = max(4, 0.6 + 0.17 * len(points))  # of the legend
    figure = Figure(figsize=(8, height), dpi=160, layout="constrained", facecolor="white")
    axes = figure.subplots()
    for each in series_of(points):
        labels = threshold_labels([p.threshold for p in each.points if p.threshold is not None])
        for index, point in enumerate(each.points):
            shares = [100 * share for share in point.acceptance_by_position or []]
            axes.plot(
                range(1, len(shares) + 1),
                shares,
                color=each.color,
                marker=each.marker,
                markersize=4,
                linewidth=1.5,
                alpha=1 - 0.75 * index / len(each.points),
                label=f"{each.label} @ {labels[index]}" if each.is_curve else each.label,
            )
    s = frontier.settings
    axes.set_ylim(0, 102)
    axes.set_xlabel("candidate of the round")
    axes.set_ylabel("rounds that emitted it (%)")
    axes.set_title(f"{s['task']}: acceptance by position", loc="left", fontsize=12)
    axes.grid(color="#e3e3e3", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=QUIET)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure
