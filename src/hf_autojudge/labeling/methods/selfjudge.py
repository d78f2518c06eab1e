"""SelfJudge's labels (arXiv 2510.02329): no checkable answer is needed, the target's own likelihood is asked."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from hf_autojudge.labeling.completion import finish
from hf_autojudge.labeling.methods.base import Job
from hf_autojudge.labeling.predictions import Ask
from hf_autojudge.labeling.records import LabelledPrompt, Mismatch
from hf_autojudge.labeling.scheduler import Search


@dataclass(frozen=True)
class SelfJudge:
    """Swap each mismatching token of the target's answer, and see how much less likely the target finds the text.

    The target's greedy answer is read by the draft, teacher-forced. For each mismatch the score is the difference

        log p(prefix, target's token, suffix) - log p(prefix, draft's token, suffix)

    of the target's log-likelihoods, where the prefix is the text before and the suffix the next tokens of the target's
    answer: what both texts share drops out, so the swapped token and the suffix after it remain. A mismatch is
    important if the score exceeds the threshold. (SelfJudge, arXiv 2510.02329: semantic preservation of
    token-substituted responses, with a suffix of 20 tokens. The threshold is the one setting to choose for a pair; the
    paper's own value is for its own models.)

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
        text = yield from finish(job.prompt, job.sketch, job.limits)
        length = len(text) - start
        drafted = (yield Ask("draft", text[:-1], length)).choices
        likelihood = (yield Ask("target", text, length + 1, scores=True)).scores
        mismatches = []
        for position, token in enumerate(drafted):
            if token == text[start + position]:
                continue
            end = min(position + 1 + self.suffix, length)
            swapped = [*text[: start + position], token, *text[start + position + 1 : start + end]]
            other = (yield Ask("target", swapped, end - position + 1, scores=True)).scores
            score = sum(likelihood[position:end]) - sum(other)
            importance = 1 - math.exp(min(0.0, -score))
            mismatches.append(Mismatch(position, text[start + position], token, score > self.threshold, importance))
        return LabelledPrompt(job.prompt, mismatches, text[start:], text[start:])
