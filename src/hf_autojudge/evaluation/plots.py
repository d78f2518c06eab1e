"""The picture of a frontier."""

from __future__ import annotations

import os
from itertools import cycle
from typing import Any

from hf_autojudge.evaluation.baselines import ASSISTED, EXACT, PLAIN
from hf_autojudge.evaluation.report import Frontier, Point
from hf_autojudge.provenance import replacing

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito: told apart by everyone
BASELINES = {PLAIN: ("#000000", "*", 130), ASSISTED: ("#8a8a8a", "s", 120), EXACT: ("#000000", "D", 44)}


def plot_frontier(frontier: Frontier, path: str | os.PathLike) -> None:
    """Draw accuracy against accepted tokens per target call: one line a judge over thresholds, one marker for each
    rule and baseline, bars for the 95% intervals.

    Args:
        frontier ([`Frontier`])
        path (`str` or `os.PathLike`): A `.png`, `.svg` or `.pdf` file; written whole or not at all.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Plotting needs the package matplotlib: pip install hf_autojudge[eval].") from error

    figure = Figure(figsize=(8, 5), dpi=160, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = cycle(COLOURS)
    judges = {
        p.judge: sorted((q for q in frontier.points if q.judge == p.judge), key=_by_threshold) for p in frontier.points
    }
    rules = cycle("^vPX<>")
    for name, points in judges.items():
        if name in BASELINES:
            colour, marker, size = BASELINES[name]
            _bars(axes, points, colour)
            axes.scatter(*_xy(points), color=colour, marker=marker, s=size, label=name, zorder=4)
        elif points[0].threshold is None:
            colour = next(colours)
            _bars(axes, points, colour)
            axes.scatter(*_xy(points), color=colour, marker=next(rules), s=64, label=name, zorder=4)
        else:
            colour = next(colours)
            _bars(axes, points, colour)
            axes.plot(
                *_xy(points),
                "-o",
                color=colour,
                linewidth=2,
                markersize=6,
                label=f"{name} (numbers: threshold)",
                zorder=3,
            )
            _label_thresholds(axes, points, colour)

    s = frontier.settings
    axes.set_title(
        f"{s['task']}: {s['n']} questions, {s['num_assistant_tokens']} candidates a round", loc="left", fontsize=12
    )
    axes.set_xlabel("accepted tokens per target call")
    axes.set_ylabel("accuracy (%)")
    axes.grid(color="#e3e3e3", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.06, y=0.08)
    axes.legend(frameon=False, fontsize=9.5, loc="best")
    with replacing(path) as beside:
        figure.savefig(beside)


def _by_threshold(point: Point) -> float:
    return 0.0 if point.threshold is None else point.threshold


def _xy(points: list[Point]) -> tuple[list[float], list[float]]:
    return [p.accepted for p in points], [100 * p.accuracy for p in points]


def _bars(axes: Any, points: list[Point], colour: str) -> None:
    def reach(value: float, interval: tuple[float, float]) -> tuple[float, float]:
        return max(0.0, value - interval[0]), max(0.0, interval[1] - value)

    x, y = _xy(points)
    x_reach = list(zip(*(reach(p.accepted, p.accepted_interval) for p in points), strict=True))
    y_reach = [
        [100 * r for r in side] for side in zip(*(reach(p.accuracy, p.accuracy_interval) for p in points), strict=True)
    ]
    axes.errorbar(x, y, xerr=x_reach, yerr=y_reach, fmt="none", ecolor=colour, alpha=0.3, elinewidth=1.1, zorder=2)


def _label_thresholds(axes: Any, points: list[Point], colour: str) -> None:
    """Write the threshold at its point, readable also on the line; where points crowd, only at the last of them."""
    from matplotlib.patheffects import withStroke

    low, high = axes.get_xlim()
    room = 0.05 * (high - low)
    following = [*(p.accepted for p in points[1:]), float("inf")]
    for point, then in zip(points, following, strict=True):
        if abs(then - point.accepted) < room:
            continue
        axes.annotate(
            f"{point.threshold:.3g}",
            (point.accepted, 100 * point.accuracy),
            xytext=(5, 6),
            textcoords="offset points",
            fontsize=8,
            color=colour,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            zorder=5,
        )
