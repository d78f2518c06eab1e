"""Evaluation on several machines: Ray runs workers that hold the models and answer blocks of questions."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import Any

from hf_autojudge.cluster import Load, connection, original_errors, ray, worker_resources
from hf_autojudge.evaluation.answering import Answerer
from hf_autojudge.evaluation.answers import Answer, AnswerStore
from hf_autojudge.evaluation.benchmark import evaluation_progress
from hf_autojudge.evaluation.figures import make_frontier
from hf_autojudge.evaluation.report import Frontier
from hf_autojudge.evaluation.run import Run, describe_run
from hf_autojudge.evaluation.schedule import Block, Schedule
from hf_autojudge.evaluation.strategies import decoding_strategies, name_judges
from hf_autojudge.judges import Judge
from hf_autojudge.tasks.base import Sample, Task

MAX_ATTEMPTS = 3  # at the same block


def measure_frontier_with_ray(
    load: Load,
    task: Task,
    samples: Sequence[Sample],
    judges: Judge | Mapping[str, Judge],
    thresholds: Sequence[float] = (),
    *,
    workers: int = 2,
    gpus_per_worker: float | None = None,
    cpus_per_worker: float = 1,
    max_new_tokens: int | None = None,
    num_assistant_tokens: int | None = None,
    assistant_confidence_threshold: float | None = None,
    baselines: bool = True,
    batch_size: int = 16,
    num_timed: int | None = None,
    folder: str | os.PathLike | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Frontier:
    """[`measure_frontier`] with several workers, each with its own copy of the models. The answers and the folder are
    the same: a run may be resumed here with other numbers, or by [`measure_frontier`].

    A timed question is answered by all strategies on one worker; workers that share a machine slow each other down. If
    a worker dies, Ray restarts it and it answers its block again.

    Args:
        load (`Callable[[], tuple]`): Returns target, draft and tokenizer; called on each worker. It, `task` and
            `judges` must be picklable.
        workers, gpus_per_worker, cpus_per_worker: As in [`label_samples_with_ray`], which also says which cluster.
        batch_size (`int`, *optional*, defaults to `16`) and all others: As in [`measure_frontier`].

    Raises:
        ValueError: As [`measure_frontier`], and for `workers` below 1.
        RuntimeError: If a worker cannot start, or died several times at the same block.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1; got {workers}.")
    named = name_judges(judges)
    strategies = decoding_strategies(named, thresholds, baselines)
    numbers = (max_new_tokens, num_assistant_tokens, assistant_confidence_threshold)
    kept = "a folder would keep the answers" if folder is None else f"{folder} keeps the answers so far"
    with connection(workers * cpus_per_worker), original_errors(kept):
        resources = worker_resources(cpus_per_worker, gpus_per_worker)
        run = ray.get(ray.remote(**resources)(_describe).remote(load, task, samples, named, *numbers))
        schedule = Schedule(strategies, len(samples), run.possible_batch_size(batch_size), num_timed, seed)
        store = AnswerStore(folder, run.settings, named, run.prompts)
        with (
            closing(_answered(load, run, list(schedule.missing(store)), workers, resources)) as found,
            evaluation_progress(schedule, store, None, progress) as on_answers,
        ):
            for answers in found:
                store.add(answers)
                on_answers(len(answers))
    return make_frontier(store, schedule, run, seed)


def _describe(load: Load, *arguments: Any) -> Run:
    """A run's settings, which only a machine that loads the models knows."""
    return describe_run(*load(), *arguments)


class _Worker:
    def __init__(self, load: Load, run: Run) -> None:
        self._answerer = Answerer(*load(), run)

    def start(self) -> list[Answer]:
        """Returns when the models are loaded."""
        return []

    def answer(self, block: Block) -> list[Answer]:
        return [answer for answers in self._answerer.answer(block) for answer in answers]


def _answered(
    load: Load, run: Run, blocks: Sequence[Block], workers: int, resources: dict[str, float]
) -> Generator[list[Answer], None, None]:
    """The answers to blocks, as they come."""
    retries = {"max_restarts": -1, "max_task_retries": MAX_ATTEMPTS - 1}
    worker_class, shared = ray.remote(**resources, **retries)(_Worker), ray.put(run)
    pool = [worker_class.remote(load, shared) for _ in range(min(workers, len(blocks)))]
    # A worker gets a block when it has started, so that no block waits for one that does not fit on the cluster yet
    busy = {worker.start.remote(): worker for worker in pool}
    waiting, unfinished = iter(blocks), len(blocks)
    try:
        while unfinished:
            [done], _ = ray.wait(list(busy))
            worker, answers = busy.pop(done), ray.get(done)
            if answers:
                unfinished -= 1
                yield answers
            if (block := next(waiting, None)) is not None:
                busy[worker.answer.remote(block)] = worker
    finally:
        for worker in pool:
            ray.kill(worker)
