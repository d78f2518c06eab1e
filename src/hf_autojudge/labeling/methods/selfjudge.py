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
    important if the score exceeds the threshold. (SelfJudge, arXiv 2510.02329: semantic preservation of
    token-substituted responses, with a suffix of 20 tokens. The threshold has to be chosen for each pair of models.)

    The soft label `importance` is 1 - min(1, p(with the draft's token) / p(with the target's)): whatever the
    threshold was, labels of another one follow from it.

    Args:
        threshold (`float`, *optional*, defaults to `5.0`): In nats; at least 0.
        suffix (`int`, *optional*, defaults to `20`): Tokens.

    Raises:
        ValueError: For a negative threshold or suffix.
    """

    threshold: float = 5.0
    suffix: int = 20

    def __post_init__(self) -> None:
        if self.threshold < 0 or self.suffix < 0:
            raise ValueError(f"threshold and suffix must be at least 0; got {self.threshold} and {self.suffix}.")

    def settings(self) -> dict[str, Any]:
        """See [`LabelingMethod.settings`]."""
        return {"method": "selfjudge", **asdict(self)}

    def search(self, job: Job) -> Search[LabelledPrompt]:
        """See [`LabelingMethod.search`]."""
        start = len(job.prompt)
        tokens = yield from complete(job.prompt, job.drafted, job.limits)
        length = len(tokens) - start
        drafted = (yield PredictionRequest("draft", tokens[:-1], length)).tokens
        logprobs = (yield PredictionRequest("target", tokens, length + 1, logprobs=True)).logprobs
        mismatches = []
        for position, token in enumerate(drafted):
            if token == tokens[start + position]:
                continue
            end = min(position + 1 + self.suffix, length)
            swapped = [*tokens[: start + position], token, *tokens[start + position + 1 : start + end]]
            others = (yield PredictionRequest("target", swapped, end - position + 1, logprobs=True)).logprobs
            score = sum(logprobs[position:end]) - sum(others)
            importance = 1 - math.exp(min(0.0, -score))
            mismatches.append(Mismatch(position, tokens[start + position], token, score > self.threshold, importance))
        return LabelledPrompt(job.prompt, mismatches, tokens[start:], tokens[start:])
