"""Many sequences in one pass, each at its own position, over a cache that grows with them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from hf_autojudge.runners.base import HiddenStates, run_model, to_device, vocab_size
from hf_autojudge.runners.slot_cache import SlotCache


class BatchedRunner:
    """A [`ModelRunner`] of several sequences, at most `max_length` tokens long; those that ended leave the cache. With
    `hidden_states` it returns them too.

    Raises:
        ValueError: If the model cannot run sequences at different positions, or not as long as `max_length`.
    """

    def __init__(
        self, model: PreTrainedModel, num_sequences: int, max_length: int, hidden_states: HiddenStates | None = None
    ) -> None:
        self.model = model
        self.num_cached = [0] * num_sequences
        self._device = model.device
        self._ends: torch.Tensor | None = None  # `num_cached` on the device, shape (B, 1), if all sequences ran
        self._cache = SlotCache(model, num_sequences)
        self._cache.set_max_length(max_length)
        self._hidden_states = hidden_states
        self._last_token_id = vocab_size(model) - 1

    def forward(
        self, tokens: torch.Tensor, starts: Sequence[int], logits_to_keep: int, sequences: Sequence[int] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See [`ModelRunner.forward`]."""
        chosen = None if sequences is None or len(sequences) == len(self.num_cached) else sequences
        continues = chosen is None and self._ends is not None and list(starts) == self.num_cached
        first = self._ends if continues else to_device(starts, self._device)[:, None]
        assert first is not None
        ends = [start + tokens.shape[1] for start in starts]
        self._cache.make_room(max(ends))
        tokens = tokens.to(self._device).clamp(max=self._last_token_id)
        subset = None if chosen is None else to_device(chosen, self._device)
        inputs = self._cache.prepare(tokens, first, logits_to_keep, subset)
        found = run_model(self.model, inputs, logits_to_keep, self._hidden_states)
        for sequence, end in zip(chosen or range(len(ends)), ends, strict=True):
            self.num_cached[sequence] = end
        self._ends = first + tokens.shape[1] if chosen is None else None
        return found

    def select(self, sequences: Sequence[int]) -> None:
        """See [`ModelRunner.select`]."""
        self.num_cached = [self.num_cached[i] for i in sequences]
        self._ends = None
        self._cache.select(to_device(sequences, self._device))
