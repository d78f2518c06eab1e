"""AutoJudge's semi-greedy search for important tokens (arXiv 2504.20039, algorithm 1)."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from hf_autojudge.labeling.completion import finish
from hf_autojudge.labeling.methods.base import Job, SameOutcome
from hf_autojudge.labeling.noise import Noise
from hf_autojudge.labeling.pair import Pair
from hf_autojudge.labeling.predictions import Ask, Reply
from hf_autojudge.labeling.records import LabelledPrompt, Mismatch
from hf_autojudge.labeling.scheduler import Compute, Search

READ = 64  # tokens of the response that the draft reads in one pass


@dataclass(frozen=True)
class AutoJudge:
    """Swap one mismatching token at a time, let the target finish, and see whether the outcome changes.

    Algorithm 1 of AutoJudge (arXiv 2504.20039): the response starts as the target's greedy answer. At the first
    mismatch at or after the left border (the draft's argmax, teacher-forced on the current response, against the
    response's token) the draft's token is put in and the target finishes greedily. If the outcome is the reference's,
    the mismatch is unimportant and the alternative becomes the current response. The border moves to the next
    position, until no mismatch is left.

    Greedy means the argmax of the models' logits: what a generation config asks for beyond that (a repetition penalty,
    say) is not applied.

    Args:
        rollouts (`int`, *optional*, defaults to `0`): After each swap also finish so many times by sampling. The soft
            label `importance` is the share of all continuations, the greedy one included, whose outcome is another
            one: one continuation alone is an unstable witness. The hard labels, and the search, follow the greedy one.
        temperature (`float`, *optional*, defaults to `0.7`): Of the sampled continuations.
        seed (`int`, *optional*, defaults to `0`): Of the sampled continuations. What is drawn depends on the seed, the
            prompt's place in the data, the position and the number of the rollout, not on batches or restarts.

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
        text = yield from finish(job.prompt, job.sketch, limits)
        reference = text[start:]

        def enough(unfinished: list[int]) -> bool:
            """Whether the outcome differs for certain: such an answer is dropped, so it need not be finished."""
            assert job.settled is not None
            answer = unfinished[start:]
            return job.settled(answer) and not job.same_outcome(reference, answer)

        def differs(text: list[int]) -> Generator[Compute, bool, bool]:
            return not (yield Compute(lambda: job.same_outcome(reference, text[start:])))

        mismatches = []
        read = _Read(start)
        border = start
        while (found := (yield from read.first_mismatch(text, border))) is not None:
            position, token = found
            swapped = [*text[:position], token]
            alternative = yield from finish(swapped, text, limits, enough=enough if job.settled else None)
            important = yield from differs(alternative)
            others = int(important)
            for rollout in range(self.rollouts):
                noise = Noise(_seed(self.seed, job.index, position - start, rollout), self.temperature)
                sampled = yield from finish(swapped, alternative, limits, noise)
                others += yield from differs(sampled)
            importance = others / (1 + self.rollouts)
            mismatches.append(Mismatch(position - start, text[position], token, important, importance))
            border = position + 1
            if not important:
                text = alternative
                read = _Read(border)
        return LabelledPrompt(job.prompt, mismatches, reference, text[start:])


class _Read:
    """What the draft would have written in one text, from a position on, as far as it has been asked."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.choices: list[int] = []

    def first_mismatch(self, text: list[int], border: int) -> Generator[Ask, Reply, tuple[int, int] | None]:
        """First position at or after `border` where the draft would have written another token, and that token."""
        for position in range(border, len(text)):
            if position >= self.start + len(self.choices):
                end = min(position + READ, len(text))
                reply = yield Ask("draft", text[: end - 1], end - position)
                self.start, self.choices = position, reply.choices
            if (choice := self.choices[position - self.start]) != text[position]:
                return position, choice
        return None


def _seed(*numbers: int) -> int:
    """64 bits that depend on all the numbers."""
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest(), "little")


def find_important_tokens(
    target: PreTrainedModel,
    draft: PreTrainedModel,
    prompts: Sequence[torch.Tensor | Sequence[int]],
    same_outcome: SameOutcome,
    max_new_tokens: int,
    eos_token_id: int | Sequence[int] | None = None,
    batch_size: int = 16,
    **options: Any,
) -> list[LabelledPrompt]:
    """Mine labels of prompts by AutoJudge's search: see [`AutoJudge`].

    Args:
        target, draft ([`PreTrainedModel`]): Decoder-only models with the same tokens. Where one has more of them, no
            mismatch is one that the other lacks.
        prompts (sequence of 1-D `torch.LongTensor` or lists of `int`): Token ids.
        same_outcome (`Callable[[list[int], list[int]], bool]`): Whether two answers (new token ids: the reference's,
            the alternative's) have the same outcome.
        max_new_tokens (`int`): Length limit of an answer, counted from the prompt.
        eos_token_id (`int` or sequence of `int`, *optional*): End tokens; an answer ends in one or at the length
            limit. Defaults to those of the target's generation config.
        batch_size (`int`, *optional*, defaults to `16`): Searches at the same time. In float32 the labels do not
            depend on it.
        options: Of [`AutoJudge`].

    Returns:
        One [`LabelledPrompt`] for each prompt, in order.

    Raises:
        ValueError: For an empty prompt, a length limit or a batch size below 1, or a text longer than a model's table
            of learned positions.
    """
    pair = Pair(target, draft, eos_token_id)
    ids = [prompt.tolist() if isinstance(prompt, torch.Tensor) else list(prompt) for prompt in prompts]
    jobs = [Job(i, prompt, pair.limits(i, prompt, max_new_tokens), same_outcome) for i, prompt in enumerate(ids)]
    return [found for _, found in sorted(pair.run(AutoJudge(**options), jobs, batch_size))]
