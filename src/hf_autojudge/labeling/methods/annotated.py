"""Labels from answers in which somebody has marked what is wrong (Judge Decoding, arXiv 2501.19309)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hf_autojudge.labeling.methods.base import Job
from hf_autojudge.labeling.predictions import Ask
from hf_autojudge.labeling.records import LabelledPrompt, Mismatch
from hf_autojudge.labeling.scheduler import Search
from hf_autojudge.tasks.base import Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Annotated:
    """Every token of a marked answer becomes a row: important if it lies in a wrong span.

    Judge Decoding (arXiv 2501.19309) trains its head so: on right and wrong answers to the same questions, their
    mistakes marked by hand, and on the target's states only. Wrong tokens are few, so fit with balanced classes.

    Rows hold `prompt` (a text, or a list of chat messages), `answer` (a text) and `wrong`: a list of `[start, end]`,
    characters of the answer, end excluded; empty or missing for a right answer. See the task [`annotated_answers`].

    In the records `draft_token` is the answer's token and `target_token` what the target would have written there;
    the two may agree. `reference` and `response` are the answer.

    Args:
        rows (`Sequence[Sample]`): All rows, in the order in which they are labelled.
        tokenizer ([`PreTrainedTokenizerBase`]): A fast one, which knows the characters of its tokens.

    Raises:
        ValueError: If the tokenizer is not a fast one; for a span outside of its answer, or an empty answer.
    """

    def __init__(self, rows: Sequence[Sample], tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.is_fast:
            raise ValueError(
                f"{type(tokenizer).__name__} does not say which characters its tokens are; use a fast tokenizer "
                "(AutoTokenizer.from_pretrained(..., use_fast=True))."
            )
        self.answers = [marked_tokens(tokenizer, row["answer"], row.get("wrong"), i) for i, row in enumerate(rows)]

    def settings(self) -> dict[str, Any]:
        """See [`LabelingMethod.settings`]. Marks that were corrected make other labels; the length limit makes none."""
        digest = hashlib.sha256(json.dumps(self.answers).encode()).hexdigest()[:16]
        return {"method": "annotated", "answers": digest, "max_new_tokens": None}

    def search(self, job: Job) -> Search[LabelledPrompt]:
        """See [`LabelingMethod.search`].

        Raises:
            ValueError: For an answer that is longer than the limit.
        """
        answer, wrong = self.answers[job.index]
        room = job.limits.max_length - len(job.prompt)
        if len(answer) > room:
            raise ValueError(f"Answer {job.index} has {len(answer)} tokens; set max_new_tokens to that, now {room}.")
        text = [*job.prompt, *answer]
        chosen = (yield Ask("target", text[:-1], len(answer))).choices
        rows = zip(chosen, answer, wrong, strict=True)
        mismatches = [Mismatch(i, target, token, bad) for i, (target, token, bad) in enumerate(rows)]
        return LabelledPrompt(job.prompt, mismatches, answer, answer)


def marked_tokens(
    tokenizer: PreTrainedTokenizerBase, answer: str, wrong: Sequence[Sequence[int]] | None, index: int = 0
) -> tuple[list[int], list[bool]]:
    """Tokens of an answer, and which of them share a character with a wrong span.

    Raises:
        ValueError: For a span that is no pair of numbers, empty or outside of the answer, or an answer without tokens.
    """
    spans = list(wrong or ())
    for span in spans:
        pair = isinstance(span, Sequence) and len(span) == 2 and all(isinstance(place, int) for place in span)
        if not pair or not 0 <= span[0] < span[1] <= len(answer):
            raise ValueError(
                f"Answer {index} has {len(answer)} characters; its wrong span {span!r} is not a [start, end] in it."
            )
    found = tokenizer(answer, add_special_tokens=False, return_offsets_mapping=True)
    if not found["input_ids"]:
        raise ValueError(f"Answer {index} is empty; remove the row.")
    flags = [any(a < end and start < b for start, end in spans) for a, b in found["offset_mapping"]]
    return list(found["input_ids"]), flags
