"""AutoJudge's semi-greedy search for important tokens (arXiv 2504.20039, algorithm 1)."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from dataclasses import asdict, dataclass
from typing import Any

from hf_autojudge.labeling.completion import complete
from hf_autojudge.labeling.methods.base import Job
from hf_autojudge.labeling.noise import Noise
from hf_autojudge.labeling.predictions import Prediction, PredictionRequest
from hf_autojudge.labeling.records import LabelledPrompt, Mismatch
from hf_autojudge.labeling.scheduler import Compute, Search

DRAFT_TOKENS = 64  # tokens of the response that the draft predicts in one pass


@dataclass(frozen=True)
class AutoJudge:
    """Swap one mismatching token at a time, let the target finish, and see whether the outcome changes.

    Algorithm 1 of AutoJudge (arXiv 2504.20039): the response starts as the target's greedy answer. At the first
    mismatch at or after the left border (the draft's argmax, teacher-forced on the current response, against the
    response's token) the draft's token is put in and the target finishes greedily. If the outcome is the reference's,
    the mismatch is unimportant and the alternative becomes the current response. The border moves to the next
    position, until no mismatch remains.

    Greedy means the argmax of the models' logits: further options of a generation config, such as a repetition
    penalty, are not applied.

    Args:
        rollouts (`int`, *optional*, defaults to `0`): Number of sampled completions after each swap, beside the greedy
            one. The soft label `importance` is the share of all completions whose outcome differs: one completion
            alone is a noisy estimate. The hard labels, and the search, follow the greedy completion.
        temperature (`float`, *optional*, defaults to `0.7`): Of the sampled completions.
        seed (`int`, *optional*, defaults to `0`): Of the sampled completions. What is drawn depends on the seed, the
            sample's index, the position and the number of the rollout, not on batches or restarts.

    Raises:
        ValueError: For a negative number of rollouts, or a temperature that is not above 0.
    """

    rollouts: int = 0
    temperature: float = 0.7
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rollouts < 0 or self.temperature <= 0:
            raise ValueError(
                f"rollouts must be at least 0 and temperature above 0; got {self.rollouts} and {self.temperature}."
            )

    def settings(self) -> dict[str, Any]:
        """See [`LabelingMethod.settings`]."""
        return {"method": "autojudge", **(asdict(self) if self.rollouts else {"rollouts": 0})}

    def search(self, job: Job) -> Search[LabelledPrompt]:
        """See [`LabelingMethod.search`]."""
        start, limits = len(job.prompt), job.limits
        response = yield from complete(job.prompt, job.drafted, limits)
        reference = response[start:]

        def is_enough(unfinished: list[int]) -> bool:
            """Whether the outcome differs for certain: such an answer is dropped, so it need not be completed."""
            assert job.settled is not None
            answer = unfinished[start:]
            return job.settled(answer) and not job.same_outcome(reference, answer)

        def differs(tokens: list[int]) -> Generator[Compute, bool, bool]:
            return not (yield Compute(lambda: job.same_outcome(reference, tokens[start:])))

        mismatches = []
        draft = _TeacherForcedDraft(start)
        border = start
        while (found := (yield from draft.first_mismatch(response, border))) is not None:
            position, token = found
            swapped = [*response[:position], token]
            alternative = yield from complete(swapped, response, limits, is_enough=is_enough if job.settled else None)
            important = yield from differs(alternative)
            num_different = int(important)
            for rollout in range(self.rollouts):
                noise = Noise(_seed(self.seed, job.index, position - start, rollout), self.temperature)
                sampled = yield from complete(swapped, alternative, limits, noise)
                num_different += yield from differs(sampled)
            importance = num_different / (1 + self.rollouts)
            mismatches.append(Mismatch(position - start, response[position], token, important, importance))
            job.on_mismatch(mismatches[-1], (position + 1 - start) / (len(response) - start))
            border = position + 1
            if not important:
                response = alternative
                draft = _TeacherForcedDraft(border)
        return LabelledPrompt(job.prompt, mismatches, reference, response[start:])


class _TeacherForcedDraft:
    """What the draft would write at each position of one response, predicted from `start` as far as needed."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.tokens: list[int] = []

    def first_mismatch(
        self, response: list[int], border: int
    ) -> Generator[PredictionRequest, Prediction, tuple[int, int] | None]:
        """First position at or after `border` where the draft would write another token, and that token."""
        for position in range(border, len(response)):
            if position >= self.start + len(self.tokens):
                end = min(position + DRAFT_TOKENS, len(response))
                prediction = yield PredictionRequest("draft", response[: end - 1], end - position)
                self.start, self.tokens = position, prediction.tokens
            if (token := self.tokens[position - self.start]) != response[position]:
                return position, token
        return None


def _seed(*numbers: int) -> int:
    """64 bits that depend on all the numbers."""
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest(), "little")
