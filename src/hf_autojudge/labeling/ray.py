"""Labelling on several machines: Ray Data distributes blocks of prompts to workers that hold the models."""

from __future__ import annotations

import math
import os
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_autojudge.cluster import Load, connection, original_errors, ray, worker_resources
from hf_autojudge.labeling.local import (
    check_right_answers,
    labeling_progress,
    make_job,
    samples_to_label,
    store_settings,
    warn_of_cut_off_answers,
)
from hf_autojudge.labeling.methods.autojudge import AutoJudge
from hf_autojudge.labeling.methods.base import LabelingMethod
from hf_autojudge.labeling.pair import Pair
from hf_autojudge.labeling.progress import LabelingProgress
from hf_autojudge.labeling.records import LabelledPrompt
from hf_autojudge.labeling.store import LabelStore
from hf_autojudge.tasks.base import Sample, Task

MAX_BATCHES_PER_BLOCK = 4  # the last prompts of a block do not fill a batch, so a block should hold several
MIN_BLOCKS_PER_WORKER = 4  # lets fast workers take over blocks from slow ones
MAX_ATTEMPTS = 3  # at the same prompts


def label_samples_with_ray(
    load: Load,
    task: Task,
    samples: Sequence[Sample],
    folder: str | os.PathLike,
    *,
    workers: int = 2,
    method: LabelingMethod | None = None,
    max_new_tokens: int | None = None,
    batch_size: int = 16,
    gpus_per_worker: float | None = None,
    cpus_per_worker: float = 1,
    block_size: int | None = None,
    progress: bool = True,
    on_prompt: Callable[[LabelingProgress], None] | None = None,
) -> LabelStore:
    """[`label_samples`] with several workers, each with its own copy of the models. The store, its settings and the
    labels are the same.

    A run may be stopped at any time and resumed, here with other numbers or by [`label_samples`]. Each worker writes
    the labels of a prompt as soon as they are known. If a worker dies (killed, out of memory, lost machine), Ray
    restarts it and it continues the unfinished prompts of its block after the last mismatch that it had labelled.

    Uses the Ray cluster that this process is connected to; else the one in the environment variable `RAY_ADDRESS`;
    else starts Ray on this machine for the duration of the run.

    Args:
        load (`Callable[[], tuple]`): Returns target, draft and tokenizer. Called on each worker, so it must be
            picklable. A worker sees only its own GPUs: `device_map="auto"` spreads a model over them.
        task ([`Task`]): Makes prompts and compares outcomes. Must be picklable.
        samples (`Sequence[Sample]`): Training samples. A sample's position in the sequence is its index in the store.
        folder (`str` or `Path`): Folder of the [`LabelStore`], on a file system that all machines share.
        workers (`int`, *optional*, defaults to `2`): Number of workers. Workers that do not fit yet join later.
        method ([`LabelingMethod`], *optional*): The labelling method. Must be picklable. Defaults to [`AutoJudge`].
        max_new_tokens (`int`, *optional*): Maximum length of an answer, in tokens. Defaults to the task's.
        batch_size (`int`, *optional*, defaults to `16`): Number of prompts that a worker labels at the same time. In
            float32 the labels do not depend on it.
        gpus_per_worker (`float`, *optional*): GPUs per worker, on one machine. Defaults to 1 if the cluster has GPUs
            and to 0 otherwise.
        cpus_per_worker (`float`, *optional*, defaults to `1`): CPUs per worker, on one machine, and the number of its
            torch threads.
        block_size (`int`, *optional*): Number of prompts sent to a worker at once. Defaults to `4 * batch_size`, or
            less where that would make fewer than 4 blocks per worker.
        progress (`bool`, *optional*, defaults to `True`): Show the labelled prompts, block by block.
        on_prompt (`Callable[[LabelingProgress], None]`, *optional*): Called after each labelled prompt.

    Returns:
        The [`LabelStore`].

    Raises:
        ValueError: If a number is below 1, the store was made with other settings or other samples, a prompt is empty,
            or the method needs right answers and a sample has none.
        RuntimeError: If a worker cannot start, or died several times at the same prompts.
        Exception: Whatever the task's functions raise. They are not called again.
    """
    for name, value in (("workers", workers), ("batch_size", batch_size), ("block_size", block_size)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1; got {value}.")
    method = AutoJudge() if method is None else method
    check_right_answers(method, task, samples)
    max_new_tokens = task.max_new_tokens if max_new_tokens is None else max_new_tokens
    folder = Path(folder).absolute()
    with connection(workers * cpus_per_worker), original_errors(f"{folder} keeps the labels so far"):
        resources = worker_resources(cpus_per_worker, gpus_per_worker)
        described = ray.remote(**resources)(_describe).remote(load, task, max_new_tokens, method)
        settings, tokenizer, ends = ray.get(described)
        run = {"batch_size": batch_size, "rows": len(samples), "workers": workers, "ray": ray.__version__}
        store = LabelStore(folder, settings, run)
        prompts = {
            index: (prompt, samples[index]) for index, prompt in samples_to_label(store, task, samples, tokenizer)
        }
        if not prompts:
            return store
        largest = MAX_BATCHES_PER_BLOCK * batch_size
        block_size = block_size or min(largest, math.ceil(len(prompts) / (MIN_BLOCKS_PER_WORKER * workers)))
        work = _Work(load, task, folder, max_new_tokens, method, batch_size, prompts)
        done = len(samples) - len(prompts)
        with (
            closing(_label_blocks(work, block_size, workers, resources)) as results,
            labeling_progress(len(samples), done, None, progress) as state,
        ):
            for index, result in results:
                if isinstance(result, _Failure):
                    raise result.error from RuntimeError(f"On a worker:\n{result.traceback}")
                state.add(index, result)
                if on_prompt is not None:
                    on_prompt(state)
        warn_of_cut_off_answers(store, ends)
        return store


@dataclass(frozen=True)
class _Work:
    """What all workers are given."""

    load: Load
    task: Task
    folder: Path
    max_new_tokens: int
    method: LabelingMethod
    batch_size: int
    prompts: Mapping[int, tuple[list[int], Sample]]


@dataclass(frozen=True)
class _Failure:
    """An error returned as a result: Ray would bury a raised one under its own messages."""

    error: Exception
    traceback: str


def _describe(
    load: Load, task: Task, max_new_tokens: int, method: LabelingMethod
) -> tuple[dict[str, Any], Any, frozenset[int]]:
    """The store's settings, which only a machine that loads the models knows, the tokenizer and the end tokens."""
    target, draft, tokenizer = load()
    return store_settings(target, draft, task.name, max_new_tokens, method), tokenizer, Pair(target, draft).end_tokens


def _label_blocks(
    work: _Work, block_size: int, workers: int, resources: dict[str, float]
) -> Generator[tuple[int, LabelledPrompt | None | _Failure], None, None]:
    """The results of all prompts, as blocks finish."""
    indices = list(work.prompts)
    blocks = [{"indices": indices[first : first + block_size]} for first in range(0, len(indices), block_size)]
    this_node = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )
    attempts = ray.remote(num_cpus=0, scheduling_strategy=this_node)(_Attempts).remote()
    data = ray.data.from_items(blocks, override_num_blocks=len(blocks))
    data.context.enable_progress_bars = False
    # With more tasks in flight, a block would wait behind another one while the next worker is idle
    pool = ray.data.ActorPoolStrategy(size=min(workers, len(blocks)), max_tasks_in_flight_per_actor=1)
    labelled = data.flat_map(_Worker, fn_constructor_args=(ray.put(work), attempts), compute=pool, **resources)
    with closing(iter(labelled.iter_rows())) as rows:
        for row in rows:
            yield row["index"], row["result"]


class _Worker:
    """Labels blocks of prompts. When its process dies, Ray makes another one, which reads the store again."""

    def __init__(self, work: Any, attempts: Any) -> None:
        self.work: _Work = ray.get(work)
        self.attempts = attempts
        target, draft, self.tokenizer = self.work.load()
        self.pair = Pair(target, draft)
        self.store = LabelStore(self.work.folder)
        self.done = self.store.done()

    def __call__(self, block: dict[str, Any]) -> list[dict[str, Any]]:
        try:
            labelled = self._label([int(index) for index in block["indices"]])
            return [{"index": index, "result": labels} for index, labels in labelled.items()]
        except Exception as error:
            return [{"index": -1, "result": _Failure(error, traceback.format_exc())}]

    def _label(self, indices: list[int]) -> dict[int, LabelledPrompt | None]:
        """The labels of each prompt, or `None` if the store already has them."""
        work = self.work
        missing = [index for index in indices if index not in self.done]
        if missing and ray.get(self.attempts.begin.remote(tuple(missing))) > MAX_ATTEMPTS:
            raise RuntimeError(
                f"A worker died {MAX_ATTEMPTS} times at the prompts {missing}, and none of them was finished; if it "
                f"ran out of memory, try a batch_size below {work.batch_size}. {work.folder} keeps the labels so far."
            )
        jobs = [
            make_job(
                self.pair, index, *work.prompts[index], work.task, self.tokenizer, work.max_new_tokens, self.store
            )
            for index in missing
        ]
        results: dict[int, LabelledPrompt | None] = dict.fromkeys(indices)
        for index, labels in self.pair.run(work.method, jobs, work.batch_size, work.task.threads):
            self.store.add(index, labels)
            results[index] = labels
        return results


class _Attempts:
    """Counts attempts at the same prompts: Ray would restart a worker that dies at them without end."""

    def __init__(self) -> None:
        self.begun: Counter[tuple[int, ...]] = Counter()

    def begin(self, prompts: tuple[int, ...]) -> int:
        self.begun[prompts] += 1
        return self.begun[prompts]
