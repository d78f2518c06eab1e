"""Validation and test samples must not share prompts: a judge looks better on the prompts it was calibrated on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from transformers import PreTrainedTokenizerBase

from hf_autojudge.tasks.base import Sample, Task


def prompt_digests(samples: Sequence[Sample], task: Task, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """For each sample, 16 hexadecimal digits that stand for its prompt's token ids."""
    prompts = (",".join(map(str, task.prompt(sample, tokenizer))) for sample in samples)
    return [hashlib.sha256(prompt.encode()).hexdigest()[:16] for prompt in prompts]


def check_digests(validation: Iterable[str], test: Sequence[str]) -> None:
    """As [`check_disjoint`], from what [`prompt_digests`] returns."""
    known = set(validation)
    if shared := sum(digest in known for digest in test):
        raise ValueError(
            f"{shared} of {len(test)} test prompts are also validation prompts, which the judge was calibrated on; "
            "evaluate it on other samples."
        )


def check_disjoint(
    validation: Sequence[Sample], test: Sequence[Sample], task: Task, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Check that no test sample has the prompt of a validation sample. Prompts are compared by their token ids.

    Args:
        validation (`Sequence[Sample]`): What judges are calibrated on.
        test (`Sequence[Sample]`): What they are evaluated on.
        task ([`Task`]): Makes the prompts.
        tokenizer ([`PreTrainedTokenizerBase`]): Of the target.

    Raises:
        ValueError: If any does; the message says how many.
    """
    check_digests(prompt_digests(validation, task, tokenizer), prompt_digests(test, task, tokenizer))
