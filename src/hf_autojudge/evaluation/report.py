"""What a run measured: for each question and each strategy, as a table and as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import bootstrap

from hf_autojudge.provenance import read_json, replacing

if TYPE_CHECKING:
    from rich.table import Table

Interval = tuple[float, float]


@dataclass(frozen=True)
class Questions:
    """What one strategy did on each question, in the order of the samples.

    Attributes:
        correct (`list[int]`): 1 for a right outcome.
        new_tokens (`list[int]`): Up to and including the first end token.
        target_calls (`list[int]`): Forward passes of the target, prefill included.
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
    """One strategy's figures. Intervals are 95% bootstrap intervals over questions.

    Attributes:
        name (`str`): For instance `"head, threshold 0.3"`; unique.
        judge (`str`): The judge's name; equal to `name` for baselines.
        threshold (`float`, *optional*): `None` for baselines and rules without one.
        n (`int`): Number of questions.
        accuracy (`float`): Share of right outcomes, in [0, 1].
        accepted (`float`): New tokens divided by target forward passes, prefill included.
        tokens_per_second (`float`): New tokens divided by the wall time of the `generate` calls.
        mean_new_tokens (`float`): New tokens per question.
        length_inflation (`float`): New tokens divided by the reference's. The reference is plain greedy decoding or,
            without baselines, threshold 0.
        length_cap_hits (`int`): Number of answers without an end token.
        accuracy_difference (`float`): Accuracy minus the reference's, in [-1, 1].
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
    """The result of [`measure_frontier`].

    Attributes:
        points (`list[Point]`): Baselines first, then each judge by increasing threshold.
        questions (`dict[str, Questions]`): By the points' names.
        settings (`dict`): Models, task, number of questions, candidate tokens per round, versions, device, dtype,
            command line.
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

    def table(self) -> Table:
        """A table for the terminal, for `rich.print`."""
        from rich import box
        from rich.table import Table

        s = self.settings
        table = Table(
            title=f"{s['task']}, {s['n']} questions, {s['num_assistant_tokens']} candidate tokens per round, "
            f"{s['device_name']}",
            caption="Below each figure its 95% bootstrap interval over questions. @: threshold. Accepted: tokens per "
            f"target call; ratio: to threshold 0. Difference and length: to {s['reference']}.",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        table.add_column("strategy", no_wrap=True)
        for column in ("accuracy %", "difference", "accepted", "ratio", "tokens/s", "length", "cap hits"):
            table.add_column(column, justify="right", no_wrap=True)
        for p in self.points:
            table.add_row(
                p.name if p.threshold is None else f"{p.judge} @ {p.threshold:.2g}",
                _with_interval(100 * p.accuracy, p.accuracy_interval, 100),
                _with_interval(100 * p.accuracy_difference, p.accuracy_difference_interval, 100, "+.1f"),
                _with_interval(p.accepted, p.accepted_interval, 1, ".2f"),
                _with_interval(p.accepted_ratio, p.accepted_ratio_interval, 1, ".2f"),
                _with_interval(p.tokens_per_second, p.tokens_per_second_interval, 1),
                f"{p.length_inflation:.3f}",
                str(p.length_cap_hits),
            )
        return table


def _with_tuples(point: dict[str, Any]) -> dict[str, Any]:
    """JSON has no tuples."""
    return {name: tuple(value) if name.endswith("_interval") else value for name, value in point.items()}


def _with_interval(value: float, interval: Interval, factor: float, form: str = ".1f") -> str:
    return f"{value:{form}}\n{factor * interval[0]:{form}}..{factor * interval[1]:{form}}"


def make_point(
    name: str,
    judge: str,
    threshold: float | None,
    own: Questions,
    reference: Questions,
    exact: Questions,
    seed: int = 0,
) -> Point:
    """The figures of one strategy, from what it, the reference and threshold 0 did on the same questions; see
    [`Point`].

    Intervals are percentile bootstrap intervals of 1,000 resamples (Efron and Tibshirani 1993, chapter 13). Strategies
    with the same number of questions and the same seed share their resamples. One question gives an interval of width
    0.
    """
    n = len(own.correct)

    def figures(indices: np.ndarray, axis: int = -1) -> np.ndarray:
        """Five figures of the questions at `indices`, which lie along `axis`."""

        def total(values: Sequence[float]) -> np.ndarray:
            return np.array(values, dtype=np.float64)[indices].sum(axis)

        accepted = total(own.new_tokens) / total(own.target_calls)
        return np.stack(
            [
                total(own.correct) / n,
                accepted,
                total(own.new_tokens) / total(own.seconds),
                (total(own.correct) - total(reference.correct)) / n,
                accepted / (total(exact.new_tokens) / total(exact.target_calls)),
            ]
        )

    low = high = measured = figures(np.arange(n))
    if n > 1:  # scipy refuses to resample one question
        low, high = bootstrap(
            (np.arange(n),),
            figures,
            n_resamples=1000,
            batch=100,
            vectorized=True,
            method="percentile",
            random_state=np.random.default_rng(seed),
        ).confidence_interval
    names = ("accuracy", "accepted", "tokens_per_second", "accuracy_difference", "accepted_ratio")
    figures_by_name: dict[str, Any] = dict(zip(names, measured.tolist(), strict=True))
    for figure, interval in zip(names, zip(low.tolist(), high.tolist(), strict=True), strict=True):
        figures_by_name[f"{figure}_interval"] = interval
    return Point(
        name,
        judge,
        threshold,
        n,
        mean_new_tokens=sum(own.new_tokens) / n,
        length_inflation=sum(own.new_tokens) / sum(reference.new_tokens),
        length_cap_hits=sum(own.capped),
        **figures_by_name,
    )
