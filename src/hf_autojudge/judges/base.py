"""What a judge is, and what it may read about one round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch

Read = Literal["target_hidden", "draft_hidden", "target_logits", "draft_logits"]


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
    """

    draft_tokens: torch.Tensor
    target_tokens: torch.Tensor
    target_hidden: torch.Tensor | None = None
    draft_hidden: torch.Tensor | None = None
    target_logits: torch.Tensor | None = None
    draft_logits: torch.Tensor | None = None


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
