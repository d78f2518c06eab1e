"""Labels from answers in which mistakes are marked (Judge Decoding, arXiv 2501.19309)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from hf_autojudge.labeling.methods.base import Job
from hf_autojudge.labeling.predictions import PredictionRequest
from hf_autojudge.labeling.records import LabelledPrompt, Mismatch
from hf_autojudge.labeling.scheduler import Search
from hf_autojudge.provenance import digest
from hf_autojudge.tasks.base import Sample


class Annotated:
    """Every token of a marked answer is labelled: important if it lies in a wrong span.

    Judge Decoding (arXiv 2501.19309) trains its head on right and wrong answers to the same questions, with
    mistakes marked by hand, and on the target's states only. Wrong tokens are few, so fit with balanced classes.

    Samples hold `prompt` (a text, or a list of chat messages), `answer` (a text) and `wrong`: a list of `[start,
    end]`, characters of the answer, end excluded; empty or missing for a right answer. See the task
    [`annotated_answers_task`](hf_autojudge.tasks).

    In the records `draft_token` is the answer's token and `target_token` what the target would have written there;
    the two may agree. `reference` and `response` are the answer.

    Args:
        samples (`Sequence[Sample]`): All samples, in the order in which they are labelled.
        tokenizer ([`PreTrainedTokenizerBase`]): A fast one, which maps tokens to characters.

    Raises:
        ValueError: If the tokenizer is not a fast one; for a span outside of its answer, or an empty answer.
    """

    def __init__(self, samples: Sequence[Sample], tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.is_fast:
            raise ValueError(
                f"{type(tokenizer).__name__} does not say which characters its tokens are; use a fast tokenizer "
                "(AutoTokenizer.from_pretrained(..., use_fast=True))."
            )
        self.answers = [
            marked_tokens(tokenizer, sample["answer"], sample.get("wrong"), i) for i, sample in enumerate(samples)
        ]

    def settings(self) -> dict[str, Any]:
        """See [`LabelingMethod.settings`]. Corrected marks change the labels; the length limit does not."""
        answers = digest(json.dumps(self.answers).encode())
        return {"method": "annotated", "answers": answers, "max_new_tokens": None}

    def search(self, job: Job) -> Search[LabelledPrompt]:
        """See [`LabelingMethod.search`].

        Raises:
            ValueError: For an answer that is longer than the limit.
        """
        answer, wrong = self.answers[job.index]
        room = job.limits.max_length - len(job.prompt)
        if len(answer) > room:
            raise ValueError(f"Answer {job.index} has {len(answer)} tokens; raise max_new_tokens (currently {room}).")
        sequence = [*job.prompt, *answer]
        chosen = (yield PredictionRequest("target", sequence[:-1], len(answer))).tokens
        tokens = zip(chosen, answer, wrong, strict=True)
        mismatches = [Mismatch(i, target, token, is_wrong) for i, (target, token, is_wrong) in enumerate(tokens)]
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
        raise ValueError(f"Answer {index} is empty; remove the sample.")
    flags = [any(a < end and start < b for start, end in spans) for a, b in found["offset_mapping"]]
    return list(found["input_ids"]), flags
