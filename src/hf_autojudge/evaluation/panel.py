"""One panel of a frontier's plot: accuracy against one field of the points."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from hf_autojudge.evaluation.report import Interval, Point

QUIET, STRIP = "#5c6470", "#efefef"
TEXT_WIDTH, MARKER_WIDTH = 0.22, 0.05  # in the strip, as shares of the panel
# Where a threshold is written, in points (1/72 inch) from its marker; the first that is free is taken
OFFSETS = ((0, 6), (7, 2), (-7, 2), (6, 6), (-6, 6), (0, -6), (6, -6), (-6, -6))


@dataclass(frozen=True)
class Series:
    """What one legend entry stands for: a judge over its thresholds, a rule or a baseline."""

    judge: str
    points: list[Point]
    label: str
    color: str
    marker: str
    size: float

    @property
    def is_curve(self) -> bool:
        """Whether the points have thresholds."""
        return self.points[0].threshold is not None


@dataclass(frozen=True)
class Line:
    """A horizontal line at an accuracy in percent."""

    accuracy: float
    text: str
    style: str


class Panel:
    """One panel.

    Args:
        axes (`matplotlib.axes.Axes`): Where to draw.
        field (`str`): The field of [`Point`] on the horizontal axis.
        series (`Sequence[Series]`): What to draw.
        edge (`Point`, *optional*): A point of the series far to the left of the others, to be drawn at the edge.
    """

    def __init__(self, axes: Any, field: str, series: Sequence[Series], edge: Point | None = None) -> None:
        self.axes, self.field, self.series, self.edge = axes, field, series, edge
        intervals = [self.interval(p) for each in series for p in each.points if p is not edge]
        low, high = min(start for start, _ in intervals), max(end for _, end in intervals)
        room = 0.07 * (high - low) or 0.1 * high
        self.low, self.high = low - (room if edge is None else 3 * room), high + room
        axes.set_xlim(self.low, self.high)

    def x(self, point: Point) -> float:
        """Where a point is drawn."""
        return self.low + 0.05 * (self.high - self.low) if point is self.edge else float(getattr(point, self.field))

    def interval(self, point: Point) -> Interval:
        """The interval of [`x`]."""
        if point is self.edge:
            return self.x(point), self.x(point)
        interval: Interval = getattr(point, f"{self.field}_interval")
        return interval

    def text_on_left(self, point: Point) -> bool:
        """Whether the accuracy of a point in the strip is written on the left of its marker."""
        return self.x(point) > (self.low + self.high) / 2

    def room(self, point: Point) -> tuple[float, float]:
        """The part of the panel's width that a point in the strip takes, with its accuracy."""
        share = (self.x(point) - self.low) / (self.high - self.low)
        before, after = (TEXT_WIDTH, MARKER_WIDTH) if self.text_on_left(point) else (MARKER_WIDTH, TEXT_WIDTH)
        return share - before, share + after

    def draw(self, lines: Sequence[Line], below: Collection[Point]) -> None:
        """Draw the lines and all points that are not `below`, in the strip."""
        axes = self.axes
        axes.set_axisbelow(True)
        axes.grid(color="#e3e3e3", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        for line in lines:
            axes.axhline(line.accuracy, color=QUIET, linestyle=line.style, linewidth=0.9, zorder=1.5)
        for each in self.series:
            points = [p for p in each.points if p not in below]
            x, y = [self.x(p) for p in points], [100 * p.accuracy for p in points]
            style = {"color": each.color, "marker": each.marker, "label": each.label}
            if each.is_curve:
                axes.plot(x, y, linewidth=2, markersize=math.sqrt(each.size), zorder=3, **style)
            else:
                axes.scatter(x, y, s=each.size, linewidths=0, zorder=4, **style)
            bars = {"color": each.color, "alpha": 0.3, "linewidth": 1.1, "zorder": 2}
            axes.hlines(y, *_columns(self.interval(p) for p in points), **bars)
            axes.vlines(
                x, *_columns((100 * p.accuracy_interval[0], 100 * p.accuracy_interval[1]) for p in points), **bars
            )
        if self.edge is not None:
            text = f"\N{LEFTWARDS ARROW} {getattr(self.edge, self.field):.3g}"
            self._write(text, self.x(self.edge), 100 * self.edge.accuracy, (0, 8))

    def draw_strip(self, rows: Sequence[Sequence[Point]], bottom: float, top: float) -> None:
        """Draw rows of points between the heights `bottom` and `top`, each with its accuracy."""
        self.axes.axhspan(bottom, top, color=STRIP, linewidth=0, zorder=2.5)  # over the bars of points above
        series_of = {p.name: each for each in self.series for p in each.points}
        for index, row in enumerate(rows):
            y = top - (top - bottom) * (index + 0.5) / len(rows)
            for point in row:
                each, on_left = series_of[point.name], self.text_on_left(point)
                start, end = self.interval(point)
                style = {"color": each.color, "marker": each.marker, "s": each.size, "linewidths": 0}
                self.axes.hlines(y, start, end, color=each.color, alpha=0.3, linewidth=1.1, zorder=3)
                self.axes.scatter(self.x(point), y, zorder=4, **style)
                self._write(f"{100 * point.accuracy:.1f}%", start if on_left else end, y, (-5 if on_left else 5, 0))

    def label_thresholds(self, lines: Sequence[Line]) -> None:
        """Write thresholds at their markers: where they cover nothing, else where they cover only a horizontal line,
        else not at all. The layout must be settled."""
        from matplotlib.patheffects import withStroke

        taken, heights = self._covered(), [self._pixels([(self.low, line.accuracy)])[0][1] for line in lines]
        for each in self.series:
            texts = _short([p.threshold for p in each.points]) if each.is_curve else []
            for index in sorted(range(len(texts)), key=lambda i: 0 < i < len(texts) - 1):  # the two ends first
                point = each.points[index]
                text = self._write(texts[index], self.x(point), 100 * point.accuracy, OFFSETS[0])
                text.set(color=each.color, path_effects=[withStroke(linewidth=2.5, foreground="white")])
                places = [(offset, _place(text, offset)) for offset in OFFSETS]
                places = [(o, box) for o, box in places if self._is_free(box, taken)]
                clear = [(o, box) for o, box in places if not any(box.y0 < y < box.y1 for y in heights)]
                if places:
                    offset, box = (clear or places)[0]
                    _place(text, offset)
                    taken.append(box)
                else:
                    text.remove()

    def _write(self, text: str, x: float, y: float, offset: tuple[float, float]) -> Any:
        written = self.axes.annotate(text, (x, y), textcoords="offset points", xytext=(0, 0), fontsize=8, zorder=5)
        _place(written, offset)
        return written

    def _is_free(self, box: Any, taken: Sequence[Any]) -> bool:
        panel = self.axes.bbox
        inside = panel.x0 <= box.x0 and box.x1 <= panel.x1 and panel.y0 <= box.y0 and box.y1 <= panel.y1
        return inside and not any(box.overlaps(other) for other in taken)

    def _covered(self) -> list[Any]:
        """The boxes of all markers and of short pieces of the curves, in pixels."""
        from matplotlib.transforms import Bbox

        boxes = []
        for each in self.series:
            half = math.sqrt(each.size) / 2 * self.axes.figure.dpi / 72
            pixels = self._pixels([(self.x(p), 100 * p.accuracy) for p in each.points])
            boxes += [Bbox([xy - half, xy + half]) for xy in pixels]
            if each.is_curve:
                for start, end in pairwise(pixels):
                    pieces = np.linspace(start, end, math.ceil(math.dist(start, end) / 4) + 1)
                    boxes += [Bbox([xy - 2, xy + 2]) for xy in pieces]
        return boxes

    def _pixels(self, points: Sequence[tuple[float, float]]) -> Any:
        return self.axes.transData.transform(points)


def _columns(pairs: Iterable[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Two lists, also of no pairs."""
    pairs = list(pairs)
    return [first for first, _ in pairs], [second for _, second in pairs]


def _place(text: Any, offset: tuple[float, float]) -> Any:
    """Move a text to this offset from its point, in points; returns its box in pixels."""
    x, y = offset
    text.set_position(offset)
    text.set_horizontalalignment("center" if x == 0 else "left" if x > 0 else "right")
    text.set_verticalalignment("bottom" if y > 2 else "top" if y < 0 else "center")
    return text.get_window_extent()


def _short(thresholds: Sequence[Any]) -> list[str]:
    """Each threshold with two digits, or with as many as it takes to tell it apart from the others and from 1."""

    def text(threshold: float) -> str:
        others = {*thresholds, 1.0} - {threshold}
        forms = (f".{digits}g" for digits in range(2, 18))
        return next(
            f"{threshold:{form}}" for form in forms if f"{threshold:{form}}" not in {f"{o:{form}}" for o in others}
        )

    return [text(threshold) for threshold in thresholds]


def strip_rows(panels: Sequence[Panel], points: Sequence[Point]) -> list[list[Point]]:
    """The rows of the strip, the same in all panels: each point goes into the first row with room in every panel."""
    rows: list[list[Point]] = []
    for point in sorted(points, key=lambda p: -p.accuracy):
        for row in rows:
            if not any(_overlap(panel.room(point), panel.room(other)) for panel in panels for other in row):
                row.append(point)
                break
        else:
            rows.append([point])
    return rows


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] < other[1] and other[0] < one[1]
