"""The first verb: label the rows of a task, into a store, resumably."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel

from hf_autojudge.labeling.methods.autojudge import AutoJudge
from hf_autojudge.labeling.methods.base import Job, LabelingMethod
from hf_autojudge.labeling.pair import Pair
from hf_autojudge.labeling.records import LabelledPrompt
from hf_autojudge.labeling.store import LabelStore
from hf_autojudge.provenance import model_names
from hf_autojudge.tasks.base import Sample, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def label_samples(
    target: PreTrainedModel,
    draft: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    rows: Sequence[Sample],
    folder: str | os.PathLike,
    max_new_tokens: int | None = None,
    method: LabelingMethod | None = None,
    batch_size: int = 16,
) -> Iterator[LabelledPrompt | None]:
    """Mine labels for rows of a task and keep them in a [`LabelStore`]; rows already labelled there are skipped.

    Args:
        target ([`PreTrainedModel`])
        draft ([`PreTrainedModel`], *optional*): `None` only for [`Annotated`], which needs none.
        tokenizer ([`PreTrainedTokenizerBase`]): The target's.
        task ([`Task`]): Makes prompts and compares outcomes.
        rows (sequence of rows): Training rows; a row's index is its place here.
        folder (`str` or `Path`): The store.
        max_new_tokens (`int`, *optional*): Length limit of an answer; the task's by default.
        way ([`LabelingMethod`], *optional*): How to label: [`AutoJudge`] (default), [`SelfJudge`] or [`Annotated`], with their
            settings.
        batch_size (`int`, *optional*, defaults to `16`): Prompts at the same time. In float32 the labels do not depend
            on it.

    Yields:
        For each row, as it is done, the new labels; first `None` for each row that the store already had.

    Raises:
        ValueError: If the store was made with other settings or other rows, or a prompt is empty.
    """
    method = AutoJudge() if method is None else method
    limit = task.max_new_tokens if max_new_tokens is None else max_new_tokens
    store = LabelStore(
        folder, store_settings(target, draft, task.name, limit, method), {"batch_size": batch_size, "rows": len(rows)}
    )
    pair = Pair(target, draft)
    jobs = [
        make_job(pair, index, prompt, rows[index], task, tokenizer, limit)
        for index, prompt in to_label(store, task, rows, tokenizer)
    ]
    for _ in range(len(rows) - len(jobs)):
        yield None
    for index, found in pair.run(method, jobs, batch_size, task.threads):
        store.add(index, found)
        yield found


def to_label(
    store: LabelStore, task: Task, rows: Sequence[Sample], tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[int, list[int]]]:
    """Index and prompt of the rows that the store lacks.

    Raises:
        ValueError: If the store's rows are others.
    """
    done = store.prompts()
    for index, row in enumerate(rows):
        prompt = list(task.prompt(row, tokenizer))
        if index not in done:
            yield index, prompt
        elif done[index] != prompt:
            raise ValueError(
                f"Prompt {index} in {store.folder} is another one than row {index} of the data; choose another folder."
            )


def make_job(
    pair: Pair,
    index: int,
    prompt: list[int],
    row: Sample,
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    max_new_tokens: int,
) -> Job:
    """The job of labelling one row of a task."""

    def text(ids: list[int]) -> str:
        return str(tokenizer.decode(ids, skip_special_tokens=True))

    settled = task.settled
    return Job(
        index,
        prompt,
        pair.limits(index, prompt, max_new_tokens),
        lambda one, other: task.same_outcome(row, text(one), text(other)),
        None if settled is None else lambda ids: settled(text(ids)),
    )


def store_settings(target: Any, draft: Any, task: str, max_new_tokens: int, method: LabelingMethod) -> dict[str, Any]:
    """What labels depend on."""
    dtype = str(target.dtype).removeprefix("torch.")
    return (
        model_names(target, draft) | {"dtype": dtype, "task": task, "max_new_tokens": max_new_tokens} | method.settings()
    )
