"""The embedded pair's task: synthetic word problems (see `hf_autojudge.demo.problems`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

from hf_autojudge.demo import problems
from hf_autojudge.tasks.base import Sample, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DEFAULT_ROWS = 500  # the supply is endless


def _prompt(row: Sample, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return tokenizer(problems.prompt(row["question"]))["input_ids"]


def _same_outcome(_row: Sample, one: str, other: str) -> bool:
    return problems.final_number(one) == problems.final_number(other)


def _load(split: str, limit: int | None) -> list[Sample]:
    if split not in ("train", "validation", "test"):
        raise ValueError(f"The split must be train, validation or test; got {split!r}.")
    made = problems.make_problems(cast(Literal["train", "validation", "test"], split), limit or DEFAULT_ROWS)
    return [{"question": p.question, "answer": p.answer, "result": p.result} for p in made]


def word_problems_task(max_new_tokens: int = 240) -> Task:
    """The task of the embedded pair.

    Args:
        max_new_tokens (`int`, *optional*, defaults to `240`): Length limit of an answer, in tokens.
    """
    return Task("word_problems", _prompt, _same_outcome, _load, max_new_tokens)
