"""What a judge is, and what it may read about one round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch

Read = Literal[
    "target_hidden",
    "draft_hidden",
    "target_logits",
    "draft_logits",
    "draft_scores",
    "tokens",
    "num_new_tokens",
    "spent",
]


@dataclass(frozen=True)
class Window:
    """The K candidate tokens of one round for a batch of B sequences, and what both models computed over them. What
    the judge does not read is `None`.

    Index 0 of the hidden states belongs to the last token of the context, index i to candidate i (counted from 1).
    Index i of the logits is the distribution *after* index i of the hidden states, so index i-1 predicted candidate i.

    Attributes:
        draft_tokens (`torch.LongTensor` of shape `(B, K)`): The candidate tokens d1..dK.
        target_tokens (`torch.LongTensor` of shape `(B, K)`): The target's own choices t1..tK, each given d1..d(i-1):
            argmax of its processed scores, or drawn from them where the call samples and the candidates were not
            sampled.
        target_hidden (`torch.Tensor` of shape `(B, K + 1, target_hidden_size)`, *optional*): What the target's output
            head reads (the last hidden state after the final norm).
        draft_hidden (`torch.Tensor` of shape `(B, K + 1, draft_hidden_size)`, *optional*): The same of the draft.
        target_logits (`torch.FloatTensor` of shape `(B, K + 1, V)`, *optional*): The target's logits, before any
            logits processor, in float32.
        draft_logits (`torch.FloatTensor` of shape `(B, K, V)`, *optional*): The draft's logits that proposed d1..dK,
            before any logits processor, in float32. From a candidate source of transformers: as that source gives
            them.
        passed (`torch.BoolTensor` of shape `(B, K)`): Which candidates pass the standard test (equal to the target's
            own choice, or accepted by speculative sampling); the others are the mismatches.
        num_candidates (`torch.LongTensor` of shape `(B, 1)`, *optional*): How many of a sequence's K tokens are
            candidates, the rest is padding; `None`: all.
        tokens (`torch.LongTensor` of shape `(B, L)`, *optional*): The sequences before the candidates, prompts
            included, aligned on the right and padded with -1.
        num_new_tokens (`torch.LongTensor` of shape `(B, 1)`, *optional*): Tokens after the prompt, before the
            candidates.
        spent (`torch.FloatTensor` of shape `(B, num_budgets)`, *optional*): What the accepted mismatches of a sequence
            have cost so far, see [`Spender`].
    """

    draft_tokens: torch.Tensor
    target_tokens: torch.Tensor
    target_hidden: torch.Tensor | None = None
    draft_hidden: torch.Tensor | None = None
    target_logits: torch.Tensor | None = None
    draft_logits: torch.Tensor | None = None
    passed: torch.Tensor | None = None
    num_candidates: torch.Tensor | None = None
    tokens: torch.Tensor | None = None
    num_new_tokens: torch.Tensor | None = None
    spent: torch.Tensor | None = None

    @property
    def mismatches(self) -> torch.Tensor:
        """Candidates that do not pass the standard test: `torch.BoolTensor` of shape `(B, K)`."""
        if self.passed is None:
            return self.draft_tokens != self.target_tokens
        return ~self.passed

    @property
    def is_candidate(self) -> torch.Tensor:
        """Tokens that are candidates and not padding: `torch.BoolTensor` of shape `(1 or B, K)`."""
        places = torch.arange(self.draft_tokens.shape[1], device=self.draft_tokens.device)[None]
        return places >= 0 if self.num_candidates is None else places < self.num_candidates


@runtime_checkable
class Judge(Protocol):
    """Decides which mismatches are unimportant. A judge knows no model and keeps no state between rounds.

    Attributes:
        reads (`frozenset[str]`): What the judge reads from the [`Window`]; nothing else is computed for it.
        threshold (`float`, *optional*): A mismatch is accepted if its importance is below the threshold: 0 accepts
            none, 1 accepts all. `None` for rules without one.
        num_assistant_tokens (`int`, *optional*): Candidate tokens per round that the judge was made for.
    """

    @property
    def reads(self) -> frozenset[Read]: ...

    @property
    def threshold(self) -> float | None: ...

    @property
    def num_assistant_tokens(self) -> int | None: ...

    def accept(self, window: Window, threshold: float | None = None) -> torch.Tensor:
        """Say which candidate tokens are accepted even though the target would have chosen another token.

        Args:
            window ([`Window`]): One round.
            threshold (`float`, *optional*): Overrides the judge's own.

        Returns:
            `torch.BoolTensor` of shape `(B, K)`. Entries of candidates that pass the standard test are ignored.
        """
        ...

    def check_models(self, target_hidden_size: int, draft_hidden_size: int | None, vocab_size: int) -> None:
        """Raise `ValueError` if the judge was made for models of other sizes. `draft_hidden_size` is `None` for
        candidate sources without a draft model's states."""
        ...


@runtime_checkable
class Mixture(Protocol):
    """A judge that verifies against a mixture of both models' distributions. It reads `"draft_scores"`."""

    def target_weight(self, window: Window, p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        """The target's weight w in w p + (1 - w) q.

        Args:
            window ([`Window`]): One round; without `passed`, which follows from the mixture.
            p, q (`torch.FloatTensor` of shape `(B, K, V)`): The target's and the draft's probabilities after the
                logits processors.

        Returns:
            `torch.FloatTensor` of shape `(B, K)`, in [0, 1].
        """
        ...


@runtime_checkable
class SamplingTest(Protocol):
    """A judge that replaces the test of sampled candidates, u < p(x) / q(x). In sampling its `accept` is not asked.

    After a rejection the next token is drawn from norm(max(p - q, 0)), or, if the judge has a true
    `residual_without_candidate`, from p without the rejected candidate.
    """

    def passes(self, p: torch.Tensor, q: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        """Which candidates are accepted, from both models' probabilities of them and uniform random numbers in [0, 1):
        all of shape `(B, K)`; `torch.BoolTensor`."""
        ...


def check_threshold(threshold: float) -> float:
    """Return `threshold` as a float.

    Raises:
        ValueError: If it is not a number in [0, 1].
    """
    value = float(threshold)
    if not 0.0 <= value <= 1.0:  # also catches NaN
        raise ValueError(
            f"The judge's threshold must lie in [0, 1] (0 accepts no mismatch, 1 accepts all); got {value}."
        )
    return value


@runtime_checkable
class Spender(Protocol):
    """A judge whose accepted mismatches cost something, of which a sequence has a limited amount. It reads `"spent"`;
    the decoding loop adds up, for each sequence, what the emitted mismatches have cost.

    Attributes:
        num_budgets (`int`): Different amounts to be kept, at least 1.
    """

    num_budgets: int

    def costs(self, window: Window) -> torch.Tensor:
        """What each candidate costs if it is an accepted mismatch: `torch.FloatTensor` of shape `(B, K,
        num_budgets)`, at least 0."""
        ...


def num_budgets(judge: Judge) -> int:
    """Number of amounts that are kept for a judge; 0 for most."""
    return judge.num_budgets if isinstance(judge, Spender) else 0


def spent_with(window: Window, costs: torch.Tensor) -> torch.Tensor:
    """What a sequence will have spent if it accepts a candidate and all mismatches before it.

    Args:
        window ([`Window`]): With `spent`.
        costs (`torch.FloatTensor` of shape `(B, K, n)`): Of the candidates; those that pass the standard test are
            free.

    Returns:
        `torch.FloatTensor` of shape `(B, K, n)`.
    """
    assert window.spent is not None
    return window.spent[:, None] + costs.where(window.mismatches[..., None], 0.0).cumsum(1)
