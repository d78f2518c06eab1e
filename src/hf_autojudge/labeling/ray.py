"""Labelling on several machines: Ray Data hands small blocks of prompts to workers that hold the models."""

from __future__ import annotations

import logging
import math
import os
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_autojudge.labeling.local import make_job, samples_to_label, store_settings
from hf_autojudge.labeling.methods.autojudge import AutoJudge
from hf_autojudge.labeling.methods.base import LabelingMethod
from hf_autojudge.labeling.pair import Pair
from hf_autojudge.labeling.records import LabelledPrompt
from hf_autojudge.labeling.store import LabelStore
from hf_autojudge.tasks.base import Sample, Task

try:
    import ray
    import ray.data
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise ImportError(f"Labelling on a cluster needs Ray ({error}): pip install 'hf_autojudge[ray]'") from error

Load = Callable[[], tuple[Any, Any, Any]]

BATCHES = 4  # times the batch: prompts in a block, at most; its last prompts leave places of the batch empty
BLOCKS = 4  # for each worker, at least: fast ones take over what slow ones leave
ATTEMPTS = 3  # at the same prompts, before they are given up as deadly


def label_samples_with_ray(
    load: Load,
    task: Task,
    rows: Sequence[Sample],
    folder: str | os.PathLike,
    *,
    workers: int = 2,
    max_new_tokens: int | None = None,
    method: LabelingMethod | None = None,
    batch_size: int = 16,
    gpus_per_worker: float | None = None,
    cpus_per_worker: float = 1,
    block_size: int | None = None,
) -> Iterator[LabelledPrompt | None]:
    """[`label`] with many workers, each with its own copy of the models: same store, same settings, same labels.

    A run may be stopped at any moment and finished here, with other numbers, or by [`label`]. Each worker writes a
    prompt's labels as soon as they are there. The blocks of a worker that dies (killed, out of memory, its machine
    lost) are labelled again once Ray has started it anew, without the prompts that it had finished.

    Ray is the one this process is connected to, or that of the environment variable `RAY_ADDRESS`, or is started on
    this machine for the time of the run.

    Args:
        load (`Callable[[], tuple]`): Gives target, draft and tokenizer, on a worker. It must be picklable; a worker
            with several GPUs sees no others, so `device_map="auto"` spreads a model over them.
        task ([`Task`]): Makes prompts and compares outcomes; picklable.
        rows (sequence of rows): Training rows; a row's index is its place here.
        folder (`str` or `Path`): The store, on a file system that all machines share.
        workers (`int`, *optional*, defaults to `2`): How many. Those for which there is no room yet join later.
        max_new_tokens (`int`, *optional*): Length limit of an answer; the task's by default.
        way ([`LabelingMethod`], *optional*): How to label; [`AutoJudge`] by default. Picklable.
        batch_size (`int`, *optional*, defaults to `16`): Prompts at the same time, on each worker. In float32 the
            labels do not depend on it.
        gpus_per_worker (`float`, *optional*): Of one machine. By default 1 if the cluster has GPUs, else 0.
        cpus_per_worker (`float`, *optional*, defaults to `1`): Of one machine; torch uses as many threads.
        block_size (`int`, *optional*): Prompts handed to a worker at once. By default 4 times `batch_size`, fewer if
            there would be fewer than 4 blocks for each worker.

    Yields:
        For each row its new labels, block by block; `None` for each row that the store had when its turn came.

    Raises:
        ValueError: If a number is below 1, the store was made with other settings or other rows, or a prompt is empty.
        RuntimeError: If a worker cannot start, or the same prompts killed their worker several times.
        Exception: What the task's functions raise; they are not called again.
    """
    for name, value in (("workers", workers), ("batch_size", batch_size), ("block_size", block_size)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1; got {value}.")
    method = AutoJudge() if method is None else method
    limit = task.max_new_tokens if max_new_tokens is None else max_new_tokens
    folder = Path(folder).absolute()
    with _connected(workers * cpus_per_worker), _plain_errors(folder):
        if gpus_per_worker is None:
            gpus_per_worker = min(1.0, ray.cluster_resources().get("GPU", 0))
        room = {"num_cpus": cpus_per_worker, "num_gpus": gpus_per_worker}
        settings, tokenizer = ray.get(ray.remote(**room)(_describe).remote(load, task, limit, method))
        store = LabelStore(
            folder,
            settings,
            {"batch_size": batch_size, "rows": len(rows), "workers": workers, "ray": ray.__version__},
        )
        prompts = {index: (prompt, rows[index]) for index, prompt in samples_to_label(store, task, rows, tokenizer)}
        for _ in range(len(rows) - len(prompts)):
            yield None
        if not prompts:
            return
        size = block_size or min(BATCHES * batch_size, math.ceil(len(prompts) / (BLOCKS * workers)))
        work = _Work(load, task, folder, limit, method, batch_size, prompts)
        with closing(_run(work, size, workers, room)) as results:
            for found in results:
                if isinstance(found, _Failure):
                    raise found.error from RuntimeError(f"On a worker:\n{found.trace}")
                yield found


@dataclass(frozen=True)
class _Work:
    """What every worker is told."""

    load: Load
    task: Task
    folder: Path
    max_new_tokens: int
    method: LabelingMethod
    batch_size: int
    prompts: Mapping[int, tuple[list[int], Sample]]


@dataclass(frozen=True)
class _Failure:
    """An error on its way to the caller. Ray would retell it, with its own advice."""

    error: Exception
    trace: str


def _describe(load: Load, task: Task, max_new_tokens: int, method: LabelingMethod) -> tuple[dict[str, Any], Any]:
    """The store's settings, known only where the models are, and the tokenizer."""
    target, draft, tokenizer = load()
    return store_settings(target, draft, task.name, max_new_tokens, method), tokenizer


def _run(
    work: _Work, size: int, workers: int, room: dict[str, float]
) -> Generator[LabelledPrompt | None | _Failure, None, None]:
    """Labels of all prompts, or why there are none, as blocks are done."""
    indices = list(work.prompts)
    blocks = [{"indices": indices[first : first + size]} for first in range(0, len(indices), size)]
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    attempts = ray.remote(num_cpus=0, scheduling_strategy=here)(_Attempts).remote()
    shared = ray.put(work)
    data = ray.data.from_items(blocks, override_num_blocks=len(blocks))
    data.context.enable_progress_bars = False
    # with more tasks in flight a block would wait behind another one while the next worker is idle
    pool = ray.data.ActorPoolStrategy(size=min(workers, len(blocks)), max_tasks_in_flight_per_actor=1)
    labelled = data.flat_map(_Worker, fn_constructor_args=(shared, attempts), compute=pool, **room)
    with closing(iter(labelled.iter_rows())) as results:
        for result in results:
            yield result["found"]


class _Worker:
    """Labels blocks of prompts. Ray starts it again after its process died, which reads the store again."""

    def __init__(self, shared: Any, attempts: Any) -> None:
        self.work: _Work = ray.get(shared)
        self.attempts = attempts
        target, draft, self.tokenizer = self.work.load()
        self.pair = Pair(target, draft)
        self.store = LabelStore(self.work.folder)
        self.done = self.store.done()

    def __call__(self, block: dict[str, Any]) -> list[dict[str, Any]]:
        try:
            return [{"found": found} for found in self._label([int(index) for index in block["indices"]])]
        except Exception as error:
            return [{"found": _Failure(error, traceback.format_exc())}]

    def _label(self, indices: list[int]) -> list[LabelledPrompt | None]:
        """For each prompt its labels, or `None` if the store has them."""
        work = self.work
        left = [index for index in indices if index not in self.done]
        if left and ray.get(self.attempts.begin.remote(tuple(left))) > ATTEMPTS:
            raise RuntimeError(
                f"A worker died {ATTEMPTS} times at the prompts {left}, with none of them finished; if it ran out of "
                f"memory, try a smaller batch_size than {work.batch_size}. {work.folder} keeps the labels so far."
            )
        jobs = [
            make_job(self.pair, index, *work.prompts[index], work.task, self.tokenizer, work.max_new_tokens)
            for index in left
        ]
        labels: dict[int, LabelledPrompt | None] = dict.fromkeys(indices)
        for index, found in self.pair.run(work.method, jobs, work.batch_size, work.task.threads):
            self.store.add(index, found)
            labels[index] = found
        return list(labels.values())


class _Attempts:
    """Counts how often the same prompts were begun: Ray would start a worker that they kill again and again."""

    def __init__(self) -> None:
        self.begun: Counter[tuple[int, ...]] = Counter()

    def begin(self, prompts: tuple[int, ...]) -> int:
        self.begun[prompts] += 1
        return self.begun[prompts]


@contextmanager
def _connected(cpus: float) -> Iterator[None]:
    """Ray, quietly; what is started here ends here."""
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.WARNING)
    started = not ray.is_initialized()
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if started and os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
    elif started:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(address="local", num_cpus=math.ceil(cpus), include_dashboard=False, **quiet)
    try:
        yield
    finally:
        logger.setLevel(level)
        if started:
            ray.shutdown()


@contextmanager
def _plain_errors(folder: Path) -> Iterator[None]:
    """Errors of the user's functions as they were; Ray's own in a sentence."""
    try:
        yield
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, Exception) and not isinstance(cause, ray.exceptions.RayError):
            raise cause from error
        reason = str(cause or error).strip().split("\n")[0]
        raise RuntimeError(f"The workers cannot go on ({reason}); {folder} keeps the labels so far.") from error
