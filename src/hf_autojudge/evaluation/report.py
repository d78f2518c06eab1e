"""What a run measured: per question, per method, as a table and as JSON."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_autojudge.evaluation.bootstrap import Bootstrap, Interval
from hf_autojudge.provenance import read_json, replacing

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Questions:
    """What one method did on each question, in the order of the rows.

    Attributes:
        correct (`list[int]`): 1 for a right outcome.
        new_tokens (`list[int]`): An end token included, nothing after it.
        target_calls (`list[int]`): Forward passes of the target, prefill's included.
        seconds (`list[float]`): Wall time of the whole `generate` call.
        capped (`list[int]`): 1 for an answer without an end token.
    """

    correct: list[int]
    new_tokens: list[int]
    target_calls: list[int]
    seconds: list[float]
    capped: list[int]


@dataclass(frozen=True)
class Point:
    """One method's figures. Intervals are 95% bootstrap intervals over questions.

    Attributes:
        name (`str`): For instance `"head, threshold 0.3"`; unique.
        judge (`str`): The judge's name; equal to `name` for baselines.
        threshold (`float`, *optional*): `None` for baselines and rules without one.
        n (`int`): Questions.
        accuracy (`float`): Share of right outcomes, in [0, 1].
        accepted (`float`): New tokens divided by target forward passes, prefill's included.
        tokens_per_second (`float`): New tokens divided by the wall time of the `generate` calls.
        mean_new_tokens (`float`): A question.
        length_inflation (`float`): New tokens divided by the reference's. The reference is plain greedy decoding or,
            without baselines, threshold 0.
        length_cap_hits (`int`): Answers without an end token.
        accuracy_difference (`float`): To the reference, in [-1, 1].
        accepted_ratio (`float`): `accepted` divided by that of threshold 0.
        accuracy_interval, accepted_interval, tokens_per_second_interval (`tuple[float, float]`)
        accuracy_difference_interval, accepted_ratio_interval (`tuple[float, float]`): Paired by question.
    """

    name: str
    judge: str
    threshold: float | None
    n: int
    accuracy: float
    accepted: float
    tokens_per_second: float
    mean_new_tokens: float
    length_inflation: float
    length_cap_hits: int
    accuracy_difference: float
    accepted_ratio: float
    accuracy_interval: Interval
    accepted_interval: Interval
    tokens_per_second_interval: Interval
    accuracy_difference_interval: Interval
    accepted_ratio_interval: Interval


@dataclass(frozen=True)
class Frontier:
    """The result of [`frontier`].

    Attributes:
        points (`list[Point]`): Baselines first, then each judge by rising threshold.
        questions (`dict[str, Questions]`): By the points' names.
        settings (`dict`): Models, task, number of rows, candidates a round, versions, device, dtype, command line.
    """

    points: list[Point]
    questions: dict[str, Questions]
    settings: dict[str, Any]

    def __getitem__(self, name: str) -> Point:
        """The point of this name."""
        return next(p for p in self.points if p.name == name)

    def to_json(self, path: str | os.PathLike) -> None:
        """Write everything, whole or not at all, on one line: the questions are long lists. Texts are not kept."""
        with replacing(path) as beside:
            beside.write_text(json.dumps(asdict(self), allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def from_json(cls, path: str | os.PathLike) -> Frontier:
        """Read what [`to_json`] wrote.

        Raises:
            ValueError: If the file is missing, not JSON, or something else.
        """
        value = read_json(path)
        try:
            points = [Point(**_with_tuples(row)) for row in value["points"]]
            return cls(points, {name: Questions(**q) for name, q in value["questions"].items()}, value["settings"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} holds no frontier ({error!r}); write it with Frontier.to_json.") from error

    def table(self) -> Table:
        """A table for the terminal, for `rich.print`."""
        from rich import box
        from rich.table import Table

        s = self.settings
        table = Table(
            title=f"{s['task']}, {s['n']} questions, {s['num_assistant_tokens']} candidates a round, "
            f"{s['device_name']}",
            caption="Below each figure its 95% bootstrap interval over questions. @: threshold. Accepted: tokens per "
            f"target call; ratio: to threshold 0. Difference and length: to {s['reference']}.",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        table.add_column("method", no_wrap=True)
        for column in ("accuracy %", "difference", "accepted", "ratio", "tokens/s", "length", "cap hits"):
            table.add_column(column, justify="right", no_wrap=True)
        for p in self.points:
            table.add_row(
                p.name if p.threshold is None else f"{p.judge} @ {p.threshold:.2g}",
                _spread(100 * p.accuracy, p.accuracy_interval, 100),
                _spread(100 * p.accuracy_difference, p.accuracy_difference_interval, 100, "+.1f"),
                _spread(p.accepted, p.accepted_interval, 1, ".2f"),
                _spread(p.accepted_ratio, p.accepted_ratio_interval, 1, ".2f"),
                _spread(p.tokens_per_second, p.tokens_per_second_interval, 1),
                f"{p.length_inflation:.3f}",
                str(p.length_cap_hits),
            )
        return table


def _with_tuples(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no tuples."""
    return {name: tuple(value) if name.endswith("_interval") else value for name, value in row.items()}


def _spread(value: float, interval: Interval, factor: float, form: str = ".1f") -> str:
    return f"{value:{form}}\n{factor * interval[0]:{form}}..{factor * interval[1]:{form}}"


def make_point(
    name: str,
    judge: str,
    threshold: float | None,
    own: Questions,
    reference: Questions,
    exact: Questions,
    bootstrap: Bootstrap,
) -> Point:
    """The figures of one method, against the reference's and threshold 0's on the same questions."""
    n = len(own.correct)
    new, calls, seconds = sum(own.new_tokens), sum(own.target_calls), math.fsum(own.seconds)
    accepted = new / calls
    new_of, calls_of = bootstrap.sums(np.array(own.new_tokens)), bootstrap.sums(np.array(own.target_calls))
    exact_of = bootstrap.sums(np.array(exact.new_tokens)) / bootstrap.sums(np.array(exact.target_calls))
    correct, reference_correct = np.array(own.correct), np.array(reference.correct)
    return Point(
        name=name,
        judge=judge,
        threshold=threshold,
        n=n,
        accuracy=float(correct.mean()),
        accepted=accepted,
        tokens_per_second=new / seconds,
        mean_new_tokens=new / n,
        length_inflation=new / sum(reference.new_tokens),
        length_cap_hits=sum(own.capped),
        accuracy_difference=float((correct - reference_correct).mean()),
        accepted_ratio=accepted / (sum(exact.new_tokens) / sum(exact.target_calls)),
        accuracy_interval=bootstrap.interval(bootstrap.sums(correct) / n),
        accepted_interval=bootstrap.interval(new_of / calls_of),
        tokens_per_second_interval=bootstrap.interval(new_of / bootstrap.sums(np.array(own.seconds))),
        accuracy_difference_interval=bootstrap.interval(bootstrap.sums(correct - reference_correct) / n),
        accepted_ratio_interval=bootstrap.interval(new_of / calls_of / exact_of),
    )
