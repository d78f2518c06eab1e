"""What a task is: how a row becomes a prompt, and when two answers have the same outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Sample = Mapping[str, Any]
"""One example of a data set, its columns by name."""


@dataclass(frozen=True)
class Task:
    """A task with a checkable answer. Your own is a function `prompt` and a function `same_outcome`.

    Args:
        name (`str`): Written into judges and reports.
        prompt (`Callable[[Sample, PreTrainedTokenizerBase], list[int]]`): Token ids of the prompt of a row.
        same_outcome (`Callable[[Sample, str, str], bool]`): Whether two answers' texts to a row have the same outcome,
            for instance the same final number. Two answers without an outcome count as the same.
        load (`Callable[[str, int | None], list[Sample]]`): `load(split, limit)` gives the first `limit` rows of a split
            (`None`: all). Splits are `"train"` (mining), `"validation"` (thresholds) and `"test"` (the report), and
            share no rows.
        max_new_tokens (`int`, *optional*, defaults to `512`): Length limit of an answer, in tokens.
        correct (`Callable[[Sample, str], bool]`, *optional*): Whether an answer's text is right. By default: whether it
            has the same outcome as the row's column `answer`.
        settled (`Callable[[str], bool]`, *optional*): Whether an unfinished answer's text has an outcome that nothing
            written after it can change. The search then need not finish an answer whose outcome differs.
        threads (`int`, *optional*, defaults to `0`): How many outcomes to compare at the same time, in threads, while
            the models go on: for comparisons that wait, such as running programs. 0 compares in the caller's thread.
    """

    name: str
    prompt: Callable[[Sample, PreTrainedTokenizerBase], list[int]]
    same_outcome: Callable[[Sample, str, str], bool]
    load: Callable[[str, int | None], list[Sample]]
    max_new_tokens: int = 512
    correct: Callable[[Sample, str], bool] | None = None
    settled: Callable[[str], bool] | None = None
    threads: int = 0

    def is_correct(self, answer: str, row: Sample) -> bool:
        """Whether an answer's text has the right outcome."""
        if self.correct is not None:
            return self.correct(row, answer)
        return self.same_outcome(row, str(row["answer"]), answer)
