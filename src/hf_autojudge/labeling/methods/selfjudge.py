"""SelfJudge's labels (arXiv 2510.02329): from the target's own likelihood, without a checkable answer."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from hf_autojudge.labeling.completion import complete
from hf_autojudge.labeling.methods.base import Job
from hf_autojudge.labeling.predictions import PredictionRequest
from hf_autojudge.labeling.records import LabelledPrompt, Mismatch
from hf_autojudge.labeling.scheduler import Search


@dataclass(frozen=True)
class SelfJudge:
    """Swap each mismatching token of the target's answer, and measure how much less likely that is for the target.

    The target's greedy answer is read by the draft, teacher-forced. For each mismatch the score is the difference

        log p(prefix, target's token, suffix) - log p(prefix, draft's token, suffix)

    of the target's log-likelihoods, where the prefix is what precedes and the suffix the next tokens of the target's
    answer: what both sequences share cancels, so the swapped token and the suffix after it remain. A mismatch is
    important if the score exceeds the maximum. (SelfJudge, arXiv 2510.02329: semantic preservation of
    token-substituted responses, with a suffix of 20 tokens. The maximum has to be chosen for each pair of models.)

    The soft label `importance` is 1 - min(1, p(with the draft's token) / p(with the target's)): whatever the
    maximum was, labels of another one follow from it.

    Args:
        max_log_likelihood_drop (`float`, *optional*, defaults to `5.0`): The largest score of an unimportant
            mismatch, in nats; at least 0.
        num_suffix_tokens (`int`, *optional*, defaults to `20`): Number of scored tokens after the swapped one.

    Raises:
        ValueError: If a number is negative.
    """

    max_log_likelihood_drop: float = 5.0
    num_suffix_tokens: int = 20

    def __post_init__(self) -> None:
        if self.max_log_likelihood_drop < 0 or self.num_suffix_tokens < 0:
            raise ValueError(
                "max_log_likelihood_drop and num_suffix_tokens must be at least 0; got "
                f"{self.max_log_likelihood_drop} and {self.num_suffix_tokens}."
            )

    def settings(self) -> dict[str, Any]:
        """See [`LabelingMethod.settings`]."""
        return {"method": "selfjudge", **asdict(self)}

    def search(self, job: Job) -> Search[LabelledPrompt]:
        """See [`LabelingMethod.search`]."""
        start = len(job.prompt)
        if job.found is None:
            tokens = yield from complete(job.prompt, [], job.limits, job.speculation)
            mismatches = []
            job.on_progress(LabelledPrompt(job.prompt, [], tokens[start:], tokens[start:]))
        else:
            tokens, mismatches = job.prompt + job.found.response, list(job.found.mismatches)
        border = mismatches[-1].position + 1 if mismatches else 0
        length = len(tokens) - start
        drafted = (yield PredictionRequest("draft", tokens[:-1], length)).tokens
        logprobs = (yield PredictionRequest("target", tokens, length + 1, logprobs=True)).logprobs
        for position, token in enumerate(drafted):
            if position < border or token == tokens[start + position]:
                continue
            end = min(position + 1 + self.num_suffix_tokens, length)
            swapped = [*tokens[: start + position], token, *tokens[start + position + 1 : start + end]]
            others = (yield PredictionRequest("target", swapped, end - position + 1, logprobs=True)).logprobs
            score = sum(logprobs[position:end]) - sum(others)
            importance = 1 - math.exp(min(0.0, -score))
            important = score > self.max_log_likelihood_drop
            mismatches.append(Mismatch(position, tokens[start + position], token, important, importance))
            job.on_progress(LabelledPrompt(job.prompt, mismatches[:], tokens[start:], tokens[start:]))
        return LabelledPrompt(job.prompt, mismatches, tokens[start:], tokens[start:])
