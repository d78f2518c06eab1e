"""What a task is: how a row becomes a prompt, and what counts as the outcome of an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Row = Mapping[str, Any]
"""One example of a data set, its columns by name."""


@dataclass(frozen=True)
class Task:
    """A task with a checkable answer. Your own is these functions.

    Args:
        name (`str`): Written into judges and reports.
        prompt (`Callable[[Row, PreTrainedTokenizerBase], list[int]]`): Token ids of the prompt of a row.
        outcome (`Callable[[str], str | None]`): The outcome of an answer's text, for instance its final number, in a
            form that can be compared; `None` if the answer has none.
        reference (`Callable[[Row], str]`): The right outcome of a row.
        load (`Callable[[str, int | None], list[Row]]`): `load(split, limit)` gives the first `limit` rows of a split
            (`None`: all). Splits are `"train"` (mining), `"validation"` (thresholds) and `"test"` (the report), and
            share no rows.
        max_new_tokens (`int`): Length limit of an answer, in tokens.
    """

    name: str
    prompt: Callable[[Row, PreTrainedTokenizerBase], list[int]]
    outcome: Callable[[str], str | None]
    reference: Callable[[Row], str]
    load: Callable[[str, int | None], list[Row]]
    max_new_tokens: int

    def same_outcome(self, reference: str, alternative: str) -> bool:
        """Whether two answers' texts have the same outcome. Two answers without one count as the same."""
        return self.outcome(reference) == self.outcome(alternative)

    def is_correct(self, answer: str, row: Row) -> bool:
        """Whether an answer's text has the right outcome."""
        return self.outcome(answer) == self.reference(row)
