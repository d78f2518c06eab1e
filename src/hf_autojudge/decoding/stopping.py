"""Where a text ends, to the token."""

from __future__ import annotations

import torch
from transformers import EosTokenCriteria, MaxLengthCriteria, StoppingCriteriaList

from hf_autojudge.decoding.text import Text


class Stopping:
    """End tokens and the length are looked up on the host, where the tokens already are; other criteria see every
    prefix of a row, as in plain `generate`.

    Args:
        criteria ([`StoppingCriteriaList`]): As `generate` prepared them.
        max_length (`int`): Of the generation config.
    """

    def __init__(self, criteria: StoppingCriteriaList, max_length: int) -> None:
        eos = [c.eos_token_id for c in criteria if isinstance(c, EosTokenCriteria)]
        self.eos_token_ids = frozenset(token for ids in eos for token in ids.flatten().tolist())
        # a length criterion of the caller's replaces the one that `generate` makes
        self.max_length = min((c.max_length for c in criteria if type(c) is MaxLengthCriteria), default=max_length)
        self.others = StoppingCriteriaList(c for c in criteria if type(c) not in (EosTokenCriteria, MaxLengthCriteria))

    def first_stop(
        self, text: Text, row: int, emitted: list[int], scores: list[torch.Tensor] | None
    ) -> tuple[int, bool]:
        """How many of the emitted tokens stand, and whether the row then ends. The row and `scores` end in theirs."""
        for i, token in enumerate(emitted, start=1):
            later = len(emitted) - i
            length = text.ends[row] - later
            if token in self.eos_token_ids or length >= self.max_length:
                return i, True
            if self.others:
                seen = None if scores is None else tuple(scores[: len(scores) - later])
                if bool(self.others(text.prefix(row, length), seen).all()):
                    return i, True
        return len(emitted), False
