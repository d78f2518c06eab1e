"""Answers whose mistakes are marked: training data for [`Annotated`](hf_autojudge.labeling.Annotated)."""

from __future__ import annotations

from functools import partial

from transformers import PreTrainedTokenizerBase

from hf_autojudge.tasks.base import Sample, Task
from hf_autojudge.tasks.data import load_samples
from hf_autojudge.tasks.prompts import chat_ids


def prompt(sample: Sample, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of chat messages through the tokenizer's chat template, or of a string without it."""
    if isinstance(sample["prompt"], str):
        return list(tokenizer(sample["prompt"])["input_ids"])
    return chat_ids(tokenizer, sample["prompt"])


def same_outcome(_sample: Sample, reference: str, answer: str) -> bool:
    return reference == answer


def annotated_answers_task(dataset: str, max_new_tokens: int = 2048) -> Task:
    """Prompts with annotated answers, for labelling and fitting only: outcomes are compared as strings, which is too
    strict for an evaluation. The split `"train"` holds all training samples; fitting holds out some of them.

    Args:
        dataset (`str`): A data set on the Hub or a local file with the columns `prompt` (a string or chat messages),
            `answer` (a string) and `wrong` (a list of `[start, end]`, in characters of the answer).
        max_new_tokens (`int`, *optional*, defaults to `2048`): Maximum length of an answer, in tokens.
    """
    load = partial(load_samples, dataset, validation_share=0, columns=("prompt", "answer", "wrong"))
    return Task("annotated_answers", prompt, same_outcome, load, max_new_tokens)
