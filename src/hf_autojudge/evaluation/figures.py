"""The figures of a frontier's strategies, from what they did on each question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
from scipy.stats import bootstrap

from hf_autojudge.evaluation.answers import Answer, AnswerStore
from hf_autojudge.evaluation.identity import trained_for
from hf_autojudge.evaluation.report import Frontier, Point, Questions
from hf_autojudge.evaluation.run import Run
from hf_autojudge.evaluation.schedule import Schedule
from hf_autojudge.evaluation.strategies import EXACT, PLAIN, DecodingStrategy

Total = Callable[[Sequence[float]], np.ndarray]  # of a list over questions: its sum over the resampled questions


def make_frontier(store: AnswerStore, schedule: Schedule, run: Run, seed: int) -> Frontier:
    """The frontier over the questions that every strategy of a schedule has answered."""
    n = schedule.num_answered(store)
    answers = {s.name: store.of(s, schedule.questions(s)[:n]) for s in schedule.strategies}
    questions = {name: _questions(found, schedule.num_timed) for name, found in answers.items()}
    points = [make_point(s, questions, answers[s.name], seed) for s in schedule.strategies]
    tasks = {name: trained_for(judge) - {run.task.name} for name, judge in run.judges.items()}
    counts = {"n": n, "num_timed": len(questions[EXACT].seconds), "batch_size": schedule.batch_size, "seed": seed}
    reports = {
        "reference": PLAIN if PLAIN in questions else EXACT,
        "judge_tasks": {name: ", ".join(sorted(others)) for name, others in tasks.items() if others},
    }
    return Frontier(points, questions, run.settings | counts | reports | run.machine)


def _questions(answers: Sequence[Answer], num_timed: int) -> Questions:
    return Questions(
        [answer.correct for answer in answers],
        [answer.new_tokens for answer in answers],
        [answer.target_calls for answer in answers],
        [answer.seconds for answer in answers[:num_timed] if answer.seconds is not None],
        [answer.capped for answer in answers],
    )


def make_point(
    strategy: DecodingStrategy, questions: Mapping[str, Questions], answers: Sequence[Answer] = (), seed: int = 0
) -> Point:
    """The figures of one strategy, from what all strategies did on the same questions, and from its answers; see
    [`Point`].

    Intervals are percentile bootstrap intervals of 1,000 resamples (Efron and Tibshirani 1993, chapter 13). Strategies
    with the same number of questions and the same seed share their resamples. One question gives an interval of width
    0.
    """
    own, exact, alone = questions[strategy.name], questions[EXACT], questions.get(PLAIN)
    reference = exact if alone is None else alone
    n = len(own.correct)
    lost = [r and not o for r, o in zip(reference.correct, own.correct, strict=False)]

    def quality(total: Total) -> dict[str, np.ndarray]:
        right, right_by_reference = total(own.correct), total(reference.correct)
        found = {"accuracy": right / n, "accuracy_difference": (right - right_by_reference) / n}
        if any(reference.correct[:n]):  # a resample without a right answer loses none
            found["lost_share"] = total(lost) / np.maximum(right_by_reference, 1)
        if any(own.target_calls):
            found["accepted"] = total(own.new_tokens) / total(own.target_calls)
            found["accepted_ratio"] = found["accepted"] / (total(exact.new_tokens) / total(exact.target_calls))
        return found

    def speed(total: Total) -> dict[str, np.ndarray]:
        def tokens_per_second(of: Questions) -> np.ndarray:
            return total(of.new_tokens) / total(of.seconds)

        found = {"tokens_per_second": tokens_per_second(own)}
        found["speed_ratio_to_lossless"] = found["tokens_per_second"] / tokens_per_second(exact)
        if alone is not None:
            found["speed_ratio_to_target"] = found["tokens_per_second"] / tokens_per_second(alone)
        return found

    missing = dict.fromkeys(("accepted", "accepted_interval", "accepted_ratio", "accepted_ratio_interval"))
    figures: dict[str, Any] = missing | _with_intervals(quality, n, seed)
    num_timed = min(len(measured.seconds) for measured in (own, exact, reference))
    figures |= _with_intervals(speed, num_timed, seed)
    return Point(
        strategy.name,
        strategy.judge,
        strategy.threshold,
        n,
        mean_new_tokens=sum(own.new_tokens) / n,
        length_inflation=sum(own.new_tokens) / sum(reference.new_tokens[:n]),
        length_cap_hits=sum(own.capped),
        acceptance_by_position=_acceptance_by_position(answers),
        **figures,
    )


def _with_intervals(figures: Callable[[Total], dict[str, np.ndarray]], n: int, seed: int) -> dict[str, Any]:
    """Figures of the first `n` questions and, as `..._interval`, their intervals."""

    def resampled(indices: np.ndarray, axis: int = -1) -> dict[str, np.ndarray]:
        """The figures of the questions at `indices`, which lie along `axis`."""
        return figures(lambda values: np.array(values[:n], dtype=np.float64)[indices].sum(axis))

    measured = {name: float(value) for name, value in resampled(np.arange(n)).items()}
    if n == 1:  # scipy refuses to resample one question
        return measured | {f"{name}_interval": (value, value) for name, value in measured.items()}
    low, high = bootstrap(
        (np.arange(n),),
        lambda indices, axis=-1: np.stack(list(resampled(indices, axis).values())),
        n_resamples=1000,
        batch=100,
        vectorized=True,
        method="percentile",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    intervals = zip(low.tolist(), high.tolist(), strict=True)
    return measured | {f"{name}_interval": interval for name, interval in zip(measured, intervals, strict=True)}


def _acceptance_by_position(answers: Sequence[Answer]) -> list[float] | None:
    """See [`Point`]; `None` without a round."""
    rounds = [sum(counts) for counts in zip_longest(*(answer.histogram for answer in answers), fillvalue=0)]
    if not rounds:
        return None
    return [sum(rounds[position:]) / sum(rounds) for position in range(1, len(rounds))]
