"""Plot a frontier."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from itertools import cycle, groupby
from typing import TYPE_CHECKING

from hf_autojudge.evaluation.panel import QUIET, Line, Panel, Series, strip_rows
from hf_autojudge.evaluation.report import Frontier, Point
from hf_autojudge.evaluation.strategies import ASSISTED, DRAFT, EXACT, PLAIN
from hf_autojudge.provenance import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The palette of Okabe and Ito, which color-blind readers can tell apart. With one marker more than colors, 42 rules
# differ in one of the two.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("^", "v", "P", "X", "<", ">", "p")
BASELINES = {
    PLAIN: ("target alone (greedy)", "#000000", "*", 120),
    ASSISTED: (ASSISTED, "#9a9a9a", "s", 90),
    EXACT: ("threshold 0 (lossless)", "#000000", "D", 30),
}
MIN_SPAN = 4.0  # points of accuracy that the axis shows at least
RANGE_INCHES, ROW_INCHES, LEGEND_INCHES = 2.7, 0.2, 0.2  # heights of the accuracy axis, a strip's row, a legend's row
OTHER_INCHES = 1.05  # height of the title and the labels


def plot_frontier(frontier: Frontier, path: str | os.PathLike, max_accuracy_drop: float | None = None) -> None:
    """Plot accuracy against accepted tokens per target call and, beside it, against tokens/s: a line over thresholds
    for each judge, a marker for each rule and baseline, bars for the 95% intervals.

    The accuracy axis covers all judges and baselines, and rules of similar accuracy. Rules far below are drawn in a
    grey strip under it, with their accuracy beside the marker. The target alone always yields one token per call, so
    the left panel shows only its accuracy, as a line. The draft alone, and a strategy that answered fewer questions
    than the others, are not drawn.

    Args:
        frontier ([`Frontier`])
        path (`str` or `os.PathLike`): A `.png`, `.svg` or `.pdf` file; written atomically.
        max_accuracy_drop (`float`, *optional*): Draws the accuracy limit: the reference's accuracy minus this share,
            where 0.01 is one percentage point.

    Raises:
        ValueError: If `max_accuracy_drop` is not in (0, 1).
    """
    figure = frontier_figure(frontier, max_accuracy_drop)
    with replacing(path) as beside:
        figure.savefig(beside)


def frontier_figure(frontier: Frontier, max_accuracy_drop: float | None = None) -> Figure:
    """The figure that [`plot_frontier`] writes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    s = frontier.settings
    most = max(point.n for point in frontier.points)
    points = [point for point in frontier.points if point.judge != DRAFT and point.n == most]
    series, lines = series_of(points), _lines(frontier, max_accuracy_drop)
    low, high, below = _accuracy_range(points, lines)
    legend_columns = min(4, max(1, 96 // (6 + max(len(each.label) for each in series))))
    legend_rows = math.ceil(len(series) / legend_columns)

    figure = Figure(dpi=160, layout="constrained", facecolor="white")
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    panels = [
        Panel(left, "accepted", [each for each in series if each.judge != PLAIN]),
        Panel(right, "tokens_per_second", series, edge=_far_left(points)),
    ]
    rows = strip_rows(panels, below)
    bottom = low - (high - low) * ROW_INCHES * len(rows) / RANGE_INCHES
    figure.set_size_inches(8, OTHER_INCHES + RANGE_INCHES + ROW_INCHES * len(rows) + LEGEND_INCHES * legend_rows)
    left.set_ylim(bottom, high)
    left.set_yticks([tick for tick in left.get_yticks() if max(low, 0) <= tick <= min(high, 100)])
    for panel in panels:
        panel.draw(lines, below)
        if rows:
            panel.draw_strip(rows, bottom, low)

    questions = f"{s['n']} question" + "s" * (s["n"] != 1)
    title = figure.suptitle(
        f"{s['task']}: {questions}, {s['num_assistant_tokens']} candidate tokens per round", ha="left", fontsize=12
    )
    notes = ["Bars: 95% intervals."]
    notes += ["Numbers: thresholds."] * any(each.is_curve for each in series)
    notes += ["Arrow: left of the axis."] * (panels[1].edge is not None)
    notes += ["Grey strip: lower accuracies, not to scale."] * bool(below)
    left.set_title(" ".join(notes), loc="left", fontsize=9, color=QUIET)
    for line in lines:
        right.annotate(
            line.text,
            (1, line.accuracy),
            xycoords=("axes fraction", "data"),
            xytext=(5, 0),
            textcoords="offset points",
            fontsize=8.5,
            color=QUIET,
            va="bottom" if line.style == "-" else "top",
        )
    left.set_ylabel("accuracy (%)")
    left.set_xlabel("accepted tokens per target call")
    right.set_xlabel(f"tokens/s ({s['device_name']})")
    figure.legend(
        *right.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=legend_columns,
        frameon=False,
        fontsize=9,
    )
    canvas.draw()  # settles the layout
    title.set_x(left.get_position().x0)
    for panel in panels:
        panel.label_thresholds(lines)
    return figure


def series_of(points: Sequence[Point]) -> list[Series]:
    """What the legend lists. Judges with thresholds come first and get the first colors."""
    groups = [list(group) for _, group in groupby(points, key=lambda point: point.judge)]
    groups.sort(key=lambda group: group[0].threshold is None)
    colors, markers, series = cycle(COLORS), cycle(MARKERS), []
    for group in groups:
        name = group[0].judge
        if name in BASELINES:
            style = BASELINES[name]
        elif group[0].threshold is not None:
            style = (name, next(colors), "o", 36)
        else:
            style = (name, next(colors), next(markers), 52)
        series.append(Series(name, group, *style))
    return series


def _lines(frontier: Frontier, max_accuracy_drop: float | None) -> list[Line]:
    """The accuracy of the target alone, and the accuracy limit."""
    alone = [100 * p.accuracy for p in frontier.points if p.judge == PLAIN]
    lines = [Line(accuracy, f"target alone\n{accuracy:.1f}%", "-") for accuracy in alone]
    if max_accuracy_drop is None:
        return lines
    if not 0 < max_accuracy_drop < 1:
        raise ValueError(
            f"max_accuracy_drop is a share in (0, 1), 0.01 for one percentage point; got {max_accuracy_drop}."
        )
    drop = 100 * max_accuracy_drop
    reference = 100 * frontier[frontier.settings["reference"]].accuracy
    return [*lines, Line(reference - drop, f"limit:\n-{drop:.3g} point{'s' * (drop != 1)}", "--")]


def _accuracy_range(points: Sequence[Point], lines: Sequence[Line]) -> tuple[float, float, list[Point]]:
    """The limits of the accuracy axis in percent, and the rules far below it."""
    covered = [p for p in points if p.threshold is not None or p.judge in BASELINES]
    low = min([100 * p.accuracy_interval[0] for p in covered] + [line.accuracy for line in lines])
    high = max(100 * p.accuracy_interval[1] for p in points)
    missing = max(0.0, MIN_SPAN - (high - low)) / 2
    low, high = low - missing, high + missing
    floor, room = low - (high - low) / 2, 0.06 * (high - low)
    below = [p for p in points if 100 * p.accuracy < floor]
    low = min([low] + [100 * p.accuracy_interval[0] for p in points if p not in below]) - room
    return (max(low, floor) if below else low), high + room, below


def _far_left(points: Sequence[Point]) -> Point | None:
    """The target alone, if its tokens/s would take more than a third of the axis from the others."""
    alone = [p for p in points if p.judge == PLAIN]
    others = [p.tokens_per_second for p in points if p.judge != PLAIN]
    if alone and others and min(others) - alone[0].tokens_per_second > (max(others) - min(others)) / 2:
        return alone[0]
    return None
