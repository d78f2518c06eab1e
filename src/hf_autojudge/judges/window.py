"""What a judge may read about one round: the candidate tokens and what both models computed over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

Read = Literal["target_hidden", "draft_hidden", "target_logits", "draft_logits"]


@dataclass(frozen=True)
class Window:
    """The K candidate tokens of one round, for a batch of B rows. What nobody reads is `None`.

    Row 0 of the hidden states belongs to the last token of the context, row i to candidate i (counted from 1). Row i
    of the logits is the distribution *after* row i of the hidden states, so logits row i-1 proposed candidate i.

    Attributes:
        draft_tokens (`torch.LongTensor` of shape `(B, K)`): The candidate tokens d1..dK.
        target_tokens (`torch.LongTensor` of shape `(B, K)`): The target's own choices t1..tK, each given d1..d(i-1):
            argmax of its processed scores.
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
