"""A frontier's columns as text, and the table for the terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hf_autojudge.evaluation.report import Frontier, Point
from hf_autojudge.evaluation.threshold_labels import threshold_labels

if TYPE_CHECKING:
    from rich.table import Table


def _percent(share: float) -> str:
    return f"{100 * share:.1f}".replace("100.0", "100")  # as wide as the others


def _speed(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {  # figures of `Point` that have an interval: header, text
    "accuracy": ("accuracy %", _percent),
    "accuracy_difference": ("difference", lambda share: f"{100 * share:+.1f}"),
    "lost_share": ("lost %", _percent),
    "accepted": ("accepted", "{:.2f}".format),
    "accepted_ratio": ("ratio", "{:.2f}".format),
    "tokens_per_second": ("tokens/s", _speed),
    "speed_ratio_to_target": ("x target", "{:.2f}".format),
    "speed_ratio_to_lossless": ("x lossless", "{:.2f}".format),
}


def figure(point: Point, name: str) -> tuple[str, str]:
    """A figure of a point, of [`COLUMNS`], and its interval, as text; a dash and nothing if it does not apply."""
    value, interval = getattr(point, name), getattr(point, f"{name}_interval")
    if value is None or interval is None:
        return "-", ""
    text = COLUMNS[name][1]
    return text(value), f"{text(interval[0])}..{text(interval[1])}"


def notes(frontier: Frontier, point: Point) -> list[str]:
    """What a reader must know of a point: if it answered fewer questions, or its judge was made for another task."""
    task = frontier.settings.get("judge_tasks", {}).get(point.judge)
    of_task = [] if task is None else [f"made for {task}"]
    return of_task + ([] if point.n == frontier.settings["n"] else [f"{point.n} questions"])


def frontier_table(frontier: Frontier) -> Table:
    """See [`Frontier.table`]."""
    from rich import box
    from rich.table import Table

    s = frontier.settings
    table = Table(
        title=f"{s['task']}, {s['n']} questions, {s['num_assistant_tokens']} candidate tokens per round, "
        f"{s['device_name']}",
        caption="Below a figure its 95% bootstrap interval over questions. @: threshold. Accepted: tokens per target "
        f"call; ratio: to threshold 0. Difference, length: to {s['reference']}; lost: of its right answers. tokens/s: "
        f"of {s.get('num_timed', s['n'])} questions, one at a time; as a ratio to the target alone, and below to "
        "threshold 0.",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("strategy", overflow="fold")
    with_interval = list(COLUMNS)[:6]
    for header in (*(COLUMNS[name][0] for name in with_interval), "x target\nx lossless", "length\ncap hits"):
        table.add_column(header, justify="right", no_wrap=True)
    for point, label in zip(frontier.points, _labels(frontier), strict=True):
        speed_ratios = [figure(point, name)[0] for name in ("speed_ratio_to_target", "speed_ratio_to_lossless")]
        table.add_row(
            "\n".join([label, *notes(frontier, point)]),
            *("\n".join(figure(point, name)) for name in with_interval),
            "\n".join(speed_ratios),
            f"{point.length_inflation:.3f}\n{point.length_cap_hits}",
        )
    return table


def _labels(frontier: Frontier) -> list[str]:
    """The points' names, thresholds as short as tells those of a judge apart."""
    labels = []
    for point in frontier.points:
        of_judge = [p.threshold for p in frontier.points if p.judge == point.judge and p.threshold is not None]
        thresholds = dict(zip(of_judge, threshold_labels(of_judge), strict=True))
        labels.append(point.name if point.threshold is None else f"{point.judge} @ {thresholds[point.threshold]}")
    return labels
