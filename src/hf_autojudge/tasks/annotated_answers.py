"""Answers in which the mistakes are marked: training data for [`Annotated`](hf_autojudge.labeling.Annotated)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_autojudge.tasks.base import Sample, Task
from hf_autojudge.tasks.data import load_samples

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def prompt(row: Sample, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """A list of chat messages through the tokenizer's chat template; a text as it is."""
    if isinstance(row["prompt"], str):
        return list(tokenizer(row["prompt"])["input_ids"])
    return list(
        tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=True)["input_ids"]
    )


def annotated_answers_task(data: str, max_new_tokens: int = 2048) -> Task:
    """Prompts with marked answers. To label and fit on, not to measure: outcomes are compared as texts. All training
    rows are `"train"`; the fit sets some aside.

    Args:
        data (`str`): A data set of the Hub or a local file with the columns `prompt` (a text or chat messages),
            `answer` (a text) and `wrong` (a list of `[start, end]` in characters of the answer).
        max_new_tokens (`int`, *optional*, defaults to `2048`): The longest answer, in tokens.
    """

    def load(split: str, limit: int | None) -> list[Sample]:
        return load_samples(data, split, limit, validation_share=0, columns=("prompt", "answer", "wrong"))

    return Task("annotated_answers", prompt, lambda row, one, other: one == other, load, max_new_tokens)
