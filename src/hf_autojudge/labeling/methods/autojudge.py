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

DRAFT_TOKENS = 32  # tokens of the response that the draft predicts in one pass; the next mismatch is rarely further


@dataclass(frozen=True)
class AutoJudge:
    """Swap one mismatching token at a time, let the target finish, and see whether a right answer becomes wrong.

    Algorithm 1 of AutoJudge (arXiv 2504.20039): the current response starts as the target's greedy answer, the
    reference. At the first mismatch at or after the left border (the draft's argmax, teacher-forced on the current
    response, against the response's token) the draft's token is put in and the target finishes greedily. If the
    current response is right and this alternative wrong, the mismatch is important and the response stays. Otherwise
    it is unimportant and the alternative becomes the current response. The border moves to the next position, until no
    mismatch remains.

    Which answers are right is what `outcome` says:

    - `"same"`, as in the paper: those with the reference's outcome. So the reference is right, and every later
      response is.
    - `"correct"`: those with the sample's right answer ([`Task.is_correct`]). The reference may be wrong. As long as
      the current response is wrong, every mismatch is unimportant; one that turns it right is recorded as `helpful`.
      From then on a mismatch that turns it wrong again is important: an alternative is compared with the current
      response, whose tokens precede the mismatch and are what a head sees, and no longer with the reference. As only
      right responses replace a right one, a prompt has at most one helpful mismatch.

    With `"correct"`, a draft's token that turns a wrong answer right is to be accepted. CoSpec (arXiv 2605.24793,
    abstract) has this aim, too, and trains a policy by reinforcement learning, not on such labels. Mistakes in an
    answer that is wrong anyway are to be accepted, too: the less often the target is right, the less labels say.

    Greedy means the argmax of the models' logits: further options of a generation config, such as a repetition
    penalty, are not applied.

    Args:
        rollouts (`int`, *optional*, defaults to `0`): Number of sampled completions after each swap, beside the greedy
            one. The soft label `importance` is the share of all completions that are wrong: one completion alone is a
            noisy estimate. It is 0, and none are sampled, while the current response is wrong. The hard labels, and
            the search, follow the greedy completion.
        temperature (`float`, *optional*, defaults to `0.7`): Of the sampled completions.
        seed (`int`, *optional*, defaults to `0`): Of the sampled completions. What is drawn depends on the seed, the
            sample's index, the position and the number of the rollout, not on batches or restarts.
        outcome (`str`, *optional*, defaults to `"same"`): `"same"` or `"correct"`, see above. `"correct"` needs a
            task with right answers.

    Raises:
        ValueError: For a negative number of rollouts, a temperature that is not above 0, or another outcome.
    """

    rollouts: int = 0
    temperature: float = 0.7
    seed: int = 0
    outcome: str = "same"

    def __post_init__(self) -> None:
        if self.rollouts < 0 or self.temperature <= 0:
            raise ValueError(
                f"rollouts must be at least 0 and temperature above 0; got {self.rollouts} and {self.temperature}."
            )
        if self.outcome not in ("same", "correct"):
            raise ValueError(f"outcome must be 'same' or 'correct'; got {self.outcome!r}.")

    def settings(self) -> dict[str, Any]:
        """See [`LabelingMethod.settings`]."""
        settings = asdict(self) if self.rollouts else {"rollouts": 0, "outcome": self.outcome}
        return {"method": "autojudge", **settings}

    def search(self, job: Job) -> Search[LabelledPrompt]:
        """See [`LabelingMethod.search`].

        Raises:
            ValueError: If the outcome is `"correct"` and the right answer is not known.
        """
        if self.outcome == "correct" and job.is_correct is None:
            raise ValueError(
                f"outcome 'correct' needs the right answer to prompt {job.index}; use label_samples with a task that "
                "has right answers."
            )
        start, limits, speculation = len(job.prompt), job.limits, job.speculation
        mismatches: list[Mismatch] = []
        if job.found is None:
            response = yield from complete(job.prompt, [], limits, speculation)
            reference = response[start:]
            job.on_progress(LabelledPrompt(job.prompt, [], reference, reference))
        else:
            response, reference = job.prompt + job.found.response, job.found.reference
            mismatches += job.found.mismatches

        def is_right(tokens: list[int]) -> bool:
            if self.outcome == "correct":
                assert job.is_correct is not None
                return bool(job.is_correct(tokens[start:]))
            return job.same_outcome(reference, tokens[start:])

        def checked(tokens: list[int]) -> Generator[Compute, bool, bool]:
            return (yield Compute(lambda: is_right(tokens)))

        def is_enough(unfinished: list[int]) -> bool:
            """Whether the mismatch is certainly important: its alternative is dropped, so it need not be completed."""
            assert job.settled is not None
            return right and job.settled(unfinished[start:]) and not is_right(unfinished)

        right = self.outcome == "same" or (yield from checked(response))  # whether the current response is
        border = start + mismatches[-1].position + 1 if mismatches else start
        draft = _TeacherForcedDraft(border)
        while (found := (yield from draft.first_mismatch(response, border))) is not None:
            position, token = found
            swapped = [*response[:position], token]
            alternative = yield from complete(
                swapped, response, limits, speculation, is_enough=is_enough if job.settled else None
            )
            becomes_right = yield from checked(alternative)
            important = right and not becomes_right
            num_wrong = int(important)
            for rollout in range(self.rollouts if right else 0):
                noise = Noise(_seed(self.seed, job.index, position - start, rollout), self.temperature)
                sampled = yield from complete(swapped, alternative, limits, speculation, noise)
                num_wrong += not (yield from checked(sampled))
            importance = num_wrong / (1 + self.rollouts)
            helpful = becomes_right and not right
            mismatches.append(Mismatch(position - start, response[position], token, important, importance, helpful))
            border = position + 1
            if not important:
                response, right = alternative, becomes_right
                draft = _TeacherForcedDraft(border)
            job.on_progress(LabelledPrompt(job.prompt, mismatches[:], reference, response[start:]))
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
