"""What a task is: how a sample becomes a prompt, and when two answers have the same outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

Sample = Mapping[str, Any]
"""One example of a data set: its columns by name."""


@dataclass(frozen=True)
class Task:
    """A task whose outcome can be checked. A custom task needs at least `prompt`, `same_outcome` and `load`.

    Args:
        name (`str`): Recorded in judges and reports.
        prompt (`Callable[[Sample, PreTrainedTokenizerBase], list[int]]`): Returns the token ids of a sample's prompt.
        same_outcome (`Callable[[Sample, str, str], bool]`): `same_outcome(sample, reference, answer)` returns whether
            two answers to a sample have the same outcome, for instance the same final number. Two answers without an
            outcome count as the same.
        load (`Callable[[str, int | None], list[Sample]]`): `load(split, max_samples)` returns the samples of a split,
            at most `max_samples` of them (`None`: all). The splits are `"train"` (labels), `"validation"` (thresholds)
            and `"test"` (evaluation). No sample may belong to two of them.
        max_new_tokens (`int`, *optional*, defaults to `512`): Maximum length of an answer, in tokens.
        correct (`Callable[[Sample, str], bool]`, *optional*): `correct(sample, answer)` returns whether an answer is
            correct. By default: whether its outcome is that of the sample's column `answer`.
        settled (`Callable[[str], bool]`, *optional*): Returns whether an unfinished answer has an outcome that no
            continuation can change. Labelling then stops generating an answer once its outcome is known to differ.
        threads (`int`, *optional*, defaults to `0`): Number of threads in which outcomes are compared while the models
            continue, for comparisons that wait, such as running a program. 0 compares in the caller's thread.
    """

    name: str
    prompt: Callable[[Sample, PreTrainedTokenizerBase], list[int]]
    same_outcome: Callable[[Sample, str, str], bool]
    load: Callable[[str, int | None], list[Sample]]
    max_new_tokens: int = 512
    correct: Callable[[Sample, str], bool] | None = None
    settled: Callable[[str], bool] | None = None
    threads: int = 0

    def has_right_answer(self, sample: Sample) -> bool:
        """Whether the right answer to a sample is known, so that `is_correct` can be called."""
        return self.correct is not None or sample.get("answer") is not None

    def is_correct(self, answer: str, sample: Sample) -> bool:
        """Whether an answer has the correct outcome."""
        if self.correct is not None:
            return self.correct(sample, answer)
        return self.same_outcome(sample, str(sample["answer"]), answer)
