"""Plot a frontier."""

from __future__ import annotations

import os
from itertools import cycle, groupby
from typing import Any

from hf_autojudge.evaluation.baselines import ASSISTED, EXACT, PLAIN
from hf_autojudge.evaluation.report import Frontier, Interval, Point
from hf_autojudge.provenance import replacing

# The palette of Okabe and Ito, which color-blind readers can tell apart
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
BASELINES = {PLAIN: ("#000000", "*", 130), ASSISTED: ("#8a8a8a", "s", 120), EXACT: ("#000000", "D", 44)}


def plot_frontier(frontier: Frontier, path: str | os.PathLike) -> None:
    """Plot accuracy against accepted tokens per target call: a line over thresholds for each judge, a marker for each
    rule and baseline, bars for the 95% intervals.

    Args:
        frontier ([`Frontier`])
        path (`str` or `os.PathLike`): A `.png`, `.svg` or `.pdf` file; written atomically.

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
    colors, markers = cycle(COLORS), cycle("^vPX<>")
    for name, group in groupby(frontier.points, key=lambda point: point.judge):
        points = list(group)
        x, y = [p.accepted for p in points], [100 * p.accuracy for p in points]
        is_curve = points[0].threshold is not None
        if is_curve:
            color = next(colors)
            label = f"{name} (numbers: threshold)"
            axes.plot(x, y, "-o", color=color, linewidth=2, markersize=6, label=label, zorder=3)
        else:
            color, marker, size = BASELINES[name] if name in BASELINES else (next(colors), next(markers), 64)
            axes.scatter(x, y, color=color, marker=marker, s=size, label=name, zorder=4)
        _draw_intervals(axes, points, color)
        if is_curve:
            _label_thresholds(axes, points, color)

    s = frontier.settings
    title = f"{s['task']}: {s['n']} questions, {s['num_assistant_tokens']} candidate tokens per round"
    axes.set_title(title, loc="left", fontsize=12)
    axes.set_xlabel("accepted tokens per target call")
    axes.set_ylabel("accuracy (%)")
    axes.grid(color="#e3e3e3", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.06, y=0.08)
    axes.legend(frameon=False, fontsize=9.5, loc="best")
    with replacing(path) as beside:
        figure.savefig(beside)


def _draw_intervals(axes: Any, points: list[Point], color: str) -> None:
    def lengths(value: float, interval: Interval, factor: float = 1.0) -> tuple[float, float]:
        return factor * max(0.0, value - interval[0]), factor * max(0.0, interval[1] - value)

    axes.errorbar(
        [p.accepted for p in points],
        [100 * p.accuracy for p in points],
        xerr=list(zip(*(lengths(p.accepted, p.accepted_interval) for p in points), strict=True)),
        yerr=list(zip(*(lengths(p.accuracy, p.accuracy_interval, 100) for p in points), strict=True)),
        fmt="none",
        ecolor=color,
        alpha=0.3,
        elinewidth=1.1,
        zorder=2,
    )


def _label_thresholds(axes: Any, points: list[Point], color: str) -> None:
    """Write each threshold at its point, with a white outline; of points that lie close together only at the last."""
    from matplotlib.patheffects import withStroke

    low, high = axes.get_xlim()
    room = 0.05 * (high - low)
    following = [*(p.accepted for p in points[1:]), float("inf")]
    for point, next_accepted in zip(points, following, strict=True):
        if abs(next_accepted - point.accepted) < room:
            continue
        axes.annotate(
            f"{point.threshold:.3g}",
            (point.accepted, 100 * point.accuracy),
            xytext=(5, 6),
            textcoords="offset points",
            fontsize=8,
            color=color,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            zorder=5,
        )
