"""What a run measured: for each question and each strategy, and as figures; written and read as JSON."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

from hf_autojudge.provenance import read_json, replacing

if TYPE_CHECKING:
    from rich.table import Table

Interval = tuple[float, float]
TABLE_WIDTH = 116  # columns of text


@dataclass(frozen=True)
class Questions:
    """What one strategy did on each question, in the order of the samples. A strategy that was asked fewer questions
    than the others was asked the first ones.

    Attributes:
        correct (`list[int]`): 1 for a right outcome.
        new_tokens (`list[int]`): Up to and including the first end token.
        target_calls (`list[int]`): Forward passes of the target, prefill included; 0 for the draft alone.
        seconds (`list[float]`): Wall time of the whole `generate` call, for the first questions, which were timed.
        capped (`list[int]`): 1 for an answer without an end token.
    """

    correct: list[int]
    new_tokens: list[int]
    target_calls: list[int]
    seconds: list[float]
    capped: list[int]


@dataclass(frozen=True)
class Point:
    """One strategy's figures. Intervals are 95% bootstrap intervals over questions. Ratios and differences are paired
    by question. The reference is plain greedy decoding or, without baselines, threshold 0. What does not apply, or was
    not measured yet by the version that wrote the file, is `None`.

    Attributes:
        name (`str`): For instance `"head, threshold 0.3"`; unique.
        judge (`str`): The judge's name; equal to `name` for baselines.
        threshold (`float`, *optional*): `None` for baselines and rules without one.
        n (`int`): Number of questions.
        accuracy (`float`): Share of right outcomes, in [0, 1].
        accepted (`float`, *optional*): New tokens divided by target forward passes, prefill included; `None` for the
            draft alone.
        tokens_per_second (`float`): New tokens divided by the wall time of the `generate` calls, over the timed
            questions.
        mean_new_tokens (`float`): New tokens per question.
        length_inflation (`float`): New tokens divided by the reference's.
        length_cap_hits (`int`): Number of answers without an end token.
        accuracy_difference (`float`): Accuracy minus the reference's, in [-1, 1].
        accepted_ratio (`float`, *optional*): `accepted` divided by that of threshold 0.
        lost_share (`float`, *optional*): Share of the questions that the reference answers right which the strategy
            answers wrong; `None` if the reference answers none right.
        speed_ratio_to_target (`float`, *optional*): `tokens_per_second` divided by that of the target alone (plain
            greedy decoding); `None` without baselines.
        speed_ratio_to_lossless (`float`, *optional*): `tokens_per_second` divided by that of threshold 0.
        acceptance_by_position (`list[float]`, *optional*): For each candidate of a round, from the first, the share of
            all rounds in which it was emitted; `None` for baselines that do not count it.
        ..._interval (`tuple[float, float]`, *optional*): Of the figure of that name.
    """

    name: str
    judge: str
    threshold: float | None
    n: int
    accuracy: float
    accepted: float | None
    tokens_per_second: float
    mean_new_tokens: float
    length_inflation: float
    length_cap_hits: int
    accuracy_difference: float
    accepted_ratio: float | None
    accuracy_interval: Interval
    accepted_interval: Interval | None
    tokens_per_second_interval: Interval
    accuracy_difference_interval: Interval
    accepted_ratio_interval: Interval | None
    lost_share: float | None = None
    lost_share_interval: Interval | None = None
    speed_ratio_to_target: float | None = None
    speed_ratio_to_target_interval: Interval | None = None
    speed_ratio_to_lossless: float | None = None
    speed_ratio_to_lossless_interval: Interval | None = None
    acceptance_by_position: list[float] | None = None


@dataclass(frozen=True)
class Frontier:
    """The result of [`measure_frontier`].

    Attributes:
        points (`list[Point]`): Baselines first, then each judge by increasing threshold.
        questions (`dict[str, Questions]`): By the points' names.
        settings (`dict`): Models, task, number of questions and of timed ones, batch size, candidate tokens per round,
            versions, device, dtype, command line; under `"judge_tasks"` the tasks that judges were made for, where
            they are not the measured one.
    """

    points: list[Point]
    questions: dict[str, Questions]
    settings: dict[str, Any]

    def __getitem__(self, name: str) -> Point:
        """The point of this name."""
        return next(p for p in self.points if p.name == name)

    def to_json(self, path: str | os.PathLike) -> None:
        """Write everything but the answers atomically, on one line because the lists of questions are long."""
        with replacing(path) as beside:
            beside.write_text(json.dumps(asdict(self), allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def from_json(cls, path: str | os.PathLike) -> Frontier:
        """Read what [`to_json`] wrote.

        Raises:
            ValueError: If the file is missing, is not JSON, or holds something else.
        """
        value = read_json(path)
        try:
            points = [Point(**_with_tuples(point)) for point in value["points"]]
            return cls(points, {name: Questions(**q) for name, q in value["questions"].items()}, value["settings"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} holds no frontier ({error!r}); write it with Frontier.to_json.") from error

    def __str__(self) -> str:
        """The table as plain text, so that `print(frontier)` shows it."""
        from rich.console import Console

        console = Console(file=StringIO(), width=TABLE_WIDTH, color_system=None)
        with console.capture() as printed:
            console.print(self.table())
        return "\n".join(line.rstrip() for line in printed.get().splitlines())

    def table(self) -> Table:
        """A table for the terminal, for `rich.print`; 116 columns wide. As plain text: `print(frontier)`."""
        from hf_autojudge.evaluation.table import frontier_table  # rich is slow to import

        return frontier_table(self)


def _with_tuples(point: dict[str, Any]) -> dict[str, Any]:
    """JSON has no tuples."""
    return {k: tuple(v) if k.endswith("_interval") and v is not None else v for k, v in point.items()}
