"""Sequences of different lengths in one pass without padding: their tokens follow each other in one row, as in vLLM
and in FlashAttention's variable-length kernels, and attention runs sequence by sequence.

Nothing but attention looks at more than one token, so the linear layers, which take most of a CPU's time, see exactly
the tokens asked for. Each sequence attends to its own slots of the cache in place, without copies; query heads that
share a key head are put side by side instead of repeating the keys.

For CPUs, where a pass is bound by its tokens; an accelerator would wait for the many small launches. Works with the
models of [`SlotCache`](hf_autojudge.runners.slot_cache) that reach their attention through transformers'
`AttentionInterface` with the implementation "sdpa". Checked with transformers 5.17.0 and 5.23.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel

from hf_autojudge.runners.base import vocab_size
from hf_autojudge.runners.slot_cache import SlotCache

_IMPLEMENTATION = "hf_autojudge_packed"


@dataclass(frozen=True)
class _Span:
    """One sequence: its tokens `begin` to `end` of the row, its place in the cache, its length after the pass."""

    begin: int
    end: int
    sequence: int
    length: int


@dataclass
class _Pass:
    """The sequences of a pass, and the masks of its attention, the same in all layers of a type."""

    spans: list[_Span]
    num_attentions: int = 0
    masks: dict[tuple[int, int], list[torch.Tensor]] = field(default_factory=dict)

    def masks_of(self, mask: torch.Tensor, groups: int, dtype: torch.dtype) -> list[torch.Tensor]:
        """For each sequence, shape `(groups * its tokens, its length)`, to be added to the attention's scores."""
        key = (id(mask), groups)
        if key not in self.masks:
            self.masks[key] = [
                torch.zeros(span.end - span.begin, span.length, dtype=dtype)
                .masked_fill(~mask[0, 0, span.begin : span.end, : span.length], -torch.inf)
                .repeat(groups, 1)
                for span in self.spans
            ]
        return self.masks[key]


_current: ContextVar[_Pass] = ContextVar("pass")


class PackedRunner:
    """Runs a model on a CPU over sequences of different lengths, at most `max_length` tokens long.

    Raises:
        ValueError: If the model is not of the kind described at the top of this file.
    """

    def __init__(self, model: PreTrainedModel, num_sequences: int, max_length: int) -> None:
        if model.device.type != "cpu":
            raise ValueError(f"{type(model).__name__} is on {model.device}; packed passes are for CPUs.")
        if not model._supports_attention_backend or model.config._attn_implementation != "sdpa":
            raise ValueError(f'{type(model).__name__} does not run its attention through "sdpa".')
        if getattr(model.config.get_text_config(decoder=True), "attn_logit_softcapping", None) is not None:
            raise ValueError(f"{type(model).__name__} caps its attention's scores, which packed passes do not.")
        self.model = model
        self._cache = SlotCache(model, num_sequences)
        self._cache.set_max_length(max_length)
        self._last_token_id = vocab_size(model) - 1

    def forward(
        self, tokens: Sequence[Sequence[int]], starts: Sequence[int], counts: Sequence[int], sequences: Sequence[int]
    ) -> torch.Tensor:
        """Run tokens at given positions. Starting earlier is the rollback.

        Args:
            tokens (`Sequence[Sequence[int]]`): For each sequence, at least one.
            starts (`Sequence[int]`): Position of each sequence's first token in `tokens`.
            counts (`Sequence[int]`): For how many trailing tokens of each sequence logits are wanted.
            sequences (`Sequence[int]`): Which sequences these are, each once.

        Returns:
            Logits in the model's dtype, shape `(sum(counts), V)`.
        """
        spans: list[_Span] = []
        for row, start, sequence in zip(tokens, starts, sequences, strict=True):
            begin = spans[-1].end if spans else 0
            spans.append(_Span(begin, begin + len(row), sequence, start + len(row)))
        wanted = torch.cat(
            [torch.arange(span.end - count, span.end) for span, count in zip(spans, counts, strict=True)]
        )
        self._cache.make_room(max(span.length for span in spans))
        inputs = self._cache.prepare_packed(
            torch.tensor([[token for row in tokens for token in row]]).clamp(max=self._last_token_id),
            torch.cat([torch.arange(span.length - (span.end - span.begin), span.length) for span in spans])[None],
            torch.cat([torch.full((span.end - span.begin,), span.sequence) for span in spans])[None],
            wanted,
        )
        logits = self._run(inputs, _Pass(spans))
        return logits if len(logits) == len(wanted) else logits[wanted]

    def _run(self, inputs: dict[str, Any], this_pass: _Pass) -> torch.Tensor:
        config = self.model.config
        implementation = config._attn_implementation
        token = _current.set(this_pass)
        config._attn_implementation = _IMPLEMENTATION
        try:
            logits = self.model(**inputs, return_dict=True).logits[0]
        finally:
            config._attn_implementation = implementation
            _current.reset(token)
        if this_pass.num_attentions != len(self._cache.cache.layers):
            raise RuntimeError(
                f"{type(self.model).__name__} ran {this_pass.num_attentions} of {len(self._cache.cache.layers)} "
                'attention layers through the AttentionInterface; load it with attn_implementation="eager".'
            )
        return logits


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """An attention function of transformers (see `sdpa_attention_forward`): `query` has shape `(1, heads, tokens, head
    size)`, `key` and `value` are those of all sequences of the cache, `(sequences, key heads, slots, head size)`."""
    for option in ("softcap", "position_bias", "s_aux"):
        if options.get(option) is not None:
            raise ValueError(f'Packed passes do not know {option}; load the model with attn_implementation="eager".')
    this_pass = _current.get()
    this_pass.num_attentions += 1
    heads, key_heads = query.shape[1], key.shape[1]
    masks = this_pass.masks_of(attention_mask, heads // key_heads, query.dtype)
    output = query.new_empty(1, query.shape[2], heads, value.shape[-1])
    for span, mask in zip(this_pass.spans, masks, strict=True):
        sequence = slice(span.sequence, span.sequence + 1)
        attended = torch.nn.functional.scaled_dot_product_attention(
            query[:, :, span.begin : span.end].reshape(1, key_heads, -1, query.shape[-1]),
            key[sequence, :, : span.length],
            value[sequence, :, : span.length],
            attn_mask=mask,
            scale=scaling,
        )
        output[:, span.begin : span.end] = attended.view(1, heads, -1, value.shape[-1]).transpose(1, 2)
    return output, None


AttentionInterface.register(_IMPLEMENTATION, _attend)
