"""The first verb: label the rows of a task, into a store, resumably."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel

from hf_autojudge.labeling.record import LabelledPrompt
from hf_autojudge.labeling.search import search_prompts
from hf_autojudge.labeling.store import LabelStore
from hf_autojudge.labeling.tasks.task import Row, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def label(
    target: PreTrainedModel,
    draft: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    rows: Sequence[Row],
    folder: str | os.PathLike,
    max_new_tokens: int | None = None,
) -> Iterator[LabelledPrompt | None]:
    """Mine labels for rows of a task and keep them in a [`LabelStore`]; rows already labelled there are skipped.

    Args:
        target, draft ([`PreTrainedModel`]): The pair.
        tokenizer ([`PreTrainedTokenizerBase`]): The target's.
        task ([`Task`]): Makes prompts and compares outcomes.
        rows (sequence of rows): Training rows; a row's index is its place here.
        folder (`str` or `Path`): The store.
        max_new_tokens (`int`, *optional*): Length limit of an answer; the task's by default.

    Yields:
        For each row, the new labels, or `None` if the store already had them.

    Raises:
        ValueError: If the store was made with other settings or other rows.
    """
    limit = task.max_new_tokens if max_new_tokens is None else max_new_tokens
    store = LabelStore(folder, store_settings(target, draft, task, limit))
    done = store.prompts()

    def text(ids: list[int]) -> str:
        return str(tokenizer.decode(ids, skip_special_tokens=True))

    for index, row in enumerate(rows):
        prompt = task.prompt(row, tokenizer)
        if index in done:
            if done[index] != prompt:
                raise ValueError(
                    f"Prompt {index} in {store.folder} is another one than row {index} of the data; choose another "
                    "folder."
                )
            yield None
            continue

        def same_outcome(one: list[int], other: list[int], row: Row = row) -> bool:
            return task.same_outcome(row, text(one), text(other))

        (found,) = search_prompts(target, draft, [prompt], same_outcome, limit)
        store.add(index, found)
        yield found


def store_settings(target: Any, draft: Any, task: Task, max_new_tokens: int) -> dict[str, Any]:
    """What labels depend on."""
    return {
        "method": "autojudge",
        "target": target.config.name_or_path,
        "draft": draft.config.name_or_path,
        "dtype": str(target.dtype).removeprefix("torch."),
        "task": task.name,
        "max_new_tokens": max_new_tokens,
    }
