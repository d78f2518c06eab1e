"""Measure a frontier: task accuracy against accepted tokens per target call and tokens/s, over thresholds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_autojudge.evaluation.answering import Answerer
from hf_autojudge.evaluation.answers import AnswerStore
from hf_autojudge.evaluation.figures import make_frontier
from hf_autojudge.evaluation.report import Frontier
from hf_autojudge.evaluation.run import describe_run
from hf_autojudge.evaluation.schedule import Schedule, until
from hf_autojudge.evaluation.strategies import decoding_strategies, name_judges
from hf_autojudge.judges import Judge
from hf_autojudge.progress import Progress
from hf_autojudge.tasks.base import Sample, Task


def measure_frontier(
    target: PreTrainedModel,
    draft: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    samples: Sequence[Sample],
    judges: Judge | Mapping[str, Judge],
    thresholds: Sequence[float] = (),
    *,
    max_new_tokens: int | None = None,
    num_assistant_tokens: int | None = None,
    assistant_confidence_threshold: float | None = None,
    baselines: bool = True,
    batch_size: int = 1,
    num_timed: int | None = None,
    folder: str | os.PathLike | None = None,
    seconds: float | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Frontier:
    """Measure judges and baselines on one task in one run, decoding greedily.

    The first questions are timed: every strategy answers each of them, alone, before the next question begins, in an
    order shuffled for each question, so that other load on the machine affects all strategies alike. (Before, each
    strategy answers one question without being timed.) The others are answered in batches. All count for accuracy and
    acceptance; in float32 these do not depend on the batch size.

    transformers' assisted generation takes one prompt at a time: with a batch size above 1 it answers the timed
    questions only. Models that cannot run sequences at different positions answer one question at a time, with a
    warning.

    Args:
        target, draft ([`PreTrainedModel`]): Decoder-only models with the same tokens.
        tokenizer ([`PreTrainedTokenizerBase`]): Of both models.
        task ([`Task`]): Makes prompts and checks outcomes. It may be another one than a judge was made for; the report
            then names both.
        samples (`Sequence[Sample]`): Questions, for instance `task.load("test", 500)`.
        judges ([`Judge`] or `Mapping[str, Judge]`): By name. A judge with a threshold runs at each of `thresholds`, a
            rule without one once.
        thresholds (`Sequence[float]`, *optional*): In [0, 1]; needed if a judge has a threshold.
        max_new_tokens (`int`, *optional*): Maximum length of an answer; the task's by default.
        num_assistant_tokens (`int`, *optional*): Candidate tokens per round, for every strategy. By default that of
            the target's generation config, then the draft's, then the first judge that names a number, then 20.
        assistant_confidence_threshold (`float`, *optional*): Drafting stops after a candidate of a smaller
            probability, in [0, 1], for every strategy. By default that of the target's generation config, then the
            draft's, then the first judge's that names one, then 0, which never stops.
        baselines (`bool`, *optional*, defaults to `True`): Also run plain greedy decoding of the target and of the
            draft, each alone, and transformers' own assisted generation. Exact matching in our own loop ("threshold
            0") always runs.
        batch_size (`int`, *optional*, defaults to `1`): Questions that a strategy answers at the same time.
        num_timed (`int`, *optional*): Number of timed questions, at least 1. By default all with a batch size of 1,
            else at most 16.
        folder (`str` or `os.PathLike`, *optional*): Keeps the answers as they come. A run with the same settings asks
            only what is missing there: questions, and strategies, whose tokens/s then stem from another time.
        seconds (`float`, *optional*): Ask no further questions after this time; the first is always answered.
        seed (`int`, *optional*, defaults to `0`): Of the order of strategies and of the bootstrap.
        progress (`bool`, *optional*, defaults to `True`): Show the number of answers and the time left.

    Returns:
        [`Frontier`]

    Raises:
        ValueError: If there are no samples, a threshold is not in [0, 1], a name occurs twice, a number is below 1, or
            the folder holds answers made with other settings.
    """
    named = name_judges(judges)
    strategies = decoding_strategies(named, thresholds, baselines)
    numbers = (max_new_tokens, num_assistant_tokens, assistant_confidence_threshold)
    run = describe_run(target, draft, tokenizer, task, samples, named, *numbers)
    schedule = Schedule(strategies, len(samples), run.possible_batch_size(batch_size), num_timed, seed)
    store = AnswerStore(folder, run.settings, named, run.prompts)

    answerer = Answerer(target, draft, tokenizer, run)
    with evaluation_progress(schedule, store, seconds, progress) as on_answers:
        for block in until(schedule.missing(store), seconds):
            for answers in answerer.answer(block):
                store.add(answers)
                on_answers(len(answers))

    return make_frontier(store, schedule, run, seed)


@contextmanager
def evaluation_progress(
    schedule: Schedule, store: AnswerStore, seconds: float | None, show: bool
) -> Iterator[Callable[[int], None]]:
    """Show the progress of a run; call what this yields with the number of new answers."""
    began = time.monotonic()
    total = sum(len(schedule.questions(strategy)) for strategy in schedule.strategies)
    done = total - sum(len(block.questions) * len(block.strategies) for block in schedule.missing(store))
    length, unit, initial = (total, "answers", done) if seconds is None else (seconds, "s", 0)
    with Progress(f"Measuring {len(schedule.strategies)} strategies", length, unit, initial, disable=not show) as bar:

        def on_answers(count: int) -> None:
            nonlocal done
            done += count
            if seconds is None:
                bar.set(done)
            else:
                bar.set(min(seconds, time.monotonic() - began), f"{done} answers")

        yield on_answers
