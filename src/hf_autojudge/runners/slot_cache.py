"""A KV cache in which every sequence of a batch writes at its own position.

Slot p of a sequence holds its token at position p, whatever the other sequences do: rollback is a smaller write
position, sequences may keep different numbers of tokens, and the padding in front of a prompt is never stored. What a
query may see follows from positions alone, so sliding windows are exact too. Nothing in a pass depends on a number
that only the device knows, so a pass can be captured in a graph.

Works with decoder-only models that take `position_ids` and a 4-D attention mask: those built from transformers' own
attention with the implementations "sdpa" and "eager", with full or sliding-window layers and a position embedding that
does not change with the length of the sequence. [`SlotCache`] refuses the others.

Checked with transformers 5.17.0 and 5.23.0: cache layers, and which masks a model takes (`create_masks_for_generate`).
"""

from __future__ import annotations

import inspect
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

_GROWTH = 256  # slots
_FULL, _SLIDING = "full_attention", "sliding_attention"


@dataclass
class SlotMapping:
    """Where a pass writes and what it sees: the same for all layers."""

    num_sequences: int
    capacity: int  # slots per sequence; the last one takes padding and is never attended to
    visible: int  # how many slots, from the first, queries attend to
    is_static: bool  # whether the capacity is fixed
    slots: torch.Tensor | None = None  # of the tokens in the current pass, shape (B, n)
    sequences: torch.Tensor | None = None  # which sequences of the cache they belong to, shape (B,); None: all;
    # in a packed pass, whose one row holds the tokens of several sequences: of each token, shape (1, n)


class SlotLayer(CacheLayerMixin):
    """Keys and values of one layer, shape `(B, heads, capacity, head size)`, written at `mapping.slots`."""

    is_compileable = True
    is_sliding = False

    def __init__(self, mapping: SlotMapping) -> None:
        super().__init__()
        self.mapping = mapping

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate. The zeros matter: a masked slot contributes nothing only if it holds a number."""
        mapping = self.mapping
        with torch.inference_mode(False):  # a static cache outlives the call
            self.keys, self.values = (
                states.new_zeros(mapping.num_sequences, states.shape[1], mapping.capacity, states.shape[-1])
                for states in (key_states, value_states)
            )
            self.all_sequences = torch.arange(mapping.num_sequences, device=key_states.device)
        if mapping.is_static:
            for tensor in (self.keys, self.values, self.all_sequences):
                torch._dynamo.mark_static_address(tensor)  # else no CUDA graph could write into them
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new states; return what queries may attend to: in a packed pass, the slots of all sequences."""
        mapping = self.mapping
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        elif self.keys.shape[2] < mapping.capacity:
            growth = (0, 0, 0, mapping.capacity - self.keys.shape[2])
            self.keys, self.values = (torch.nn.functional.pad(kept, growth) for kept in (self.keys, self.values))
        assert mapping.slots is not None, "SlotCache.prepare comes first"
        slots = mapping.slots.to(self.keys.device)
        chosen = None if mapping.sequences is None else mapping.sequences.to(self.keys.device)
        is_packed = chosen is not None and chosen.ndim == 2
        sequences = self.all_sequences if chosen is None else chosen
        sequences = sequences if is_packed else sequences[:, None]
        self.keys[sequences, :, slots] = key_states.transpose(1, 2)
        self.values[sequences, :, slots] = value_states.transpose(1, 2)
        keys, values = self.keys, self.values
        if mapping.visible != mapping.capacity:
            keys, values = keys[:, :, : mapping.visible], values[:, :, : mapping.visible]
        return (keys, values) if chosen is None or is_packed else (keys[chosen], values[chosen])

    def select(self, sequences: torch.Tensor) -> None:
        """Keep these sequences only."""
        if self.is_initialized:
            sequences = sequences.to(self.keys.device)
            self.keys, self.values = self.keys[sequences], self.values[sequences]
            self.all_sequences = self.all_sequences[: len(sequences)]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.mapping.visible, 0

    def get_seq_length(self) -> int:
        return 0  # sequences differ; positions are always given

    def get_max_length(self) -> int:
        return self.mapping.capacity


class SlotCache:
    """The cache of a model's sequences, and the inputs of a pass over it.

    Args:
        model ([`PreTrainedModel`])
        num_sequences (`int`): Sequences.
        capacity (`int`, *optional*): Slots per sequence, fixed; without it the cache grows as needed.

    Attributes:
        cache ([`Cache`]): Of [`SlotLayer`]s.
        mapping ([`SlotMapping`]): Theirs.

    Raises:
        ValueError: If the model is not of the kind described at the top of this file.
    """

    def __init__(self, model: PreTrainedModel, num_sequences: int, capacity: int | None = None) -> None:
        config = model.config
        layers = DynamicCache(config=config.get_text_config(decoder=True)).layers
        parameters = inspect.signature(model.forward).parameters
        if problem := _problem(config, parameters, layers):
            raise ValueError(
                f"{type(model).__name__} {problem}, so it can be decoded with judge= only one prompt at a time and "
                "without a static cache."
            )
        self.mapping = SlotMapping(num_sequences, capacity or 0, capacity or 0, capacity is not None)
        self.cache = Cache(layers=[SlotLayer(self.mapping) for _ in range(len(layers) or config.num_hidden_layers)])
        self._sliding_window = getattr(config, "sliding_window", None)
        self._layer_types = set(getattr(config, "layer_types", None) or ())
        self._mask_dtype = model.dtype if config._attn_implementation == "eager" else None  # "sdpa" takes booleans
        self._rope_limit = _rope_limit(config)
        self._keeps_logits = "logits_to_keep" in parameters
        with torch.inference_mode(False):
            self._last_position = torch.zeros((), dtype=torch.long, device=model.device)
        torch._dynamo.mark_static_address(self._last_position)

    def set_max_length(self, max_length: int) -> None:
        """Sequences will not be longer than `max_length` tokens. Positions are clamped to that: what a wide pass
        computes beyond is never emitted, but must not index past a table of learned positions.

        Raises:
            ValueError: If the model's position embedding changes at a shorter length.
        """
        if self._rope_limit is not None and max_length > self._rope_limit:
            raise ValueError(
                f"This model's rotary embedding changes for sequences longer than {self._rope_limit} tokens, for all "
                f"sequences of a batch at once; with several prompts or a static cache max_length={max_length} must "
                "not exceed that."
            )
        self._last_position.fill_(max_length - 1)

    def make_room(self, length: int) -> None:
        """Let the next pass see `length` slots. Not for a fixed capacity."""
        self.mapping.visible = length
        if length >= self.mapping.capacity:
            self.mapping.capacity = length + max(_GROWTH, length // 2)

    def select(self, sequences: torch.Tensor) -> None:
        """Keep these sequences only."""
        self.mapping.num_sequences = len(sequences)
        for layer in self.cache.layers:
            layer.select(sequences)

    def prepare(
        self, tokens: torch.Tensor, starts: torch.Tensor, logits_to_keep: int, sequences: torch.Tensor | None = None
    ) -> dict[str, Any]:
        """The model's inputs for a pass over `tokens`, shape `(B, n)`, at the positions from `starts`, shape `(B, 1)`.
        Tokens at negative positions are padding."""
        slots = starts + torch.arange(tokens.shape[1], device=tokens.device)
        hidden = self.mapping.capacity - 1  # takes padding, and what a sequence that is done drafts with the others
        self.mapping.slots = torch.where(slots < 0, hidden, slots.clamp(max=hidden))
        self.mapping.sequences = sequences
        return self._inputs(tokens, slots.clamp(min=0), logits_to_keep)

    def prepare_packed(
        self, tokens: torch.Tensor, slots: torch.Tensor, sequences: torch.Tensor, logits_to_keep: torch.Tensor
    ) -> dict[str, Any]:
        """The model's inputs for a pass over one row of tokens of several sequences: `tokens`, their slots and their
        sequences have shape `(1, n)`, and `logits_to_keep` says of which tokens logits are wanted."""
        self.mapping.slots, self.mapping.sequences = slots, sequences
        return self._inputs(tokens, slots, logits_to_keep)

    def _inputs(
        self, tokens: torch.Tensor, positions: torch.Tensor, logits_to_keep: int | torch.Tensor
    ) -> dict[str, Any]:
        positions = torch.minimum(positions, self._last_position)
        return {
            "input_ids": tokens,
            "position_ids": positions,
            "attention_mask": self._masks(positions),
            "past_key_values": self.cache,
            "use_cache": True,
            **({"logits_to_keep": logits_to_keep} if self._keeps_logits else {}),
        }

    def _masks(self, positions: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
        query = positions[:, None, :, None]
        slot = torch.arange(self.mapping.visible, device=positions.device)
        masks = {_FULL: slot <= query}
        if self._sliding_window is not None:
            masks[_SLIDING] = masks[_FULL] & (slot > query - self._sliding_window)
        if self._mask_dtype is not None:
            lowest = torch.finfo(self._mask_dtype).min
            masks = {
                name: torch.zeros_like(mask, dtype=self._mask_dtype).masked_fill(~mask, lowest)
                for name, mask in masks.items()
            }
        if self._layer_types:
            return {name: masks[name] for name in self._layer_types}
        return masks[_FULL if self._sliding_window is None else _SLIDING]


def _problem(config: Any, parameters: Collection[str], layers: list[Any]) -> str | None:
    """What keeps a model from running over slots, as the end of a sentence; `parameters` are its forward method's."""
    attention = config._attn_implementation
    if config.get_text_config(decoder=True) is not config:
        return "is multimodal"
    if "position_ids" not in parameters:
        return "takes no position_ids"
    if attention not in ("sdpa", "eager"):
        return f'uses attn_implementation="{attention}", which takes no 4-D mask (load it with "sdpa")'
    full_or_sliding = {DynamicLayer.__name__, DynamicSlidingWindowLayer.__name__}
    if other := {type(layer).__name__ for layer in layers} - full_or_sliding:
        return f"has layers that are neither full nor sliding-window attention ({', '.join(sorted(other))})"
    types = set(getattr(config, "layer_types", None) or ()) - {_FULL, _SLIDING}
    if "local" in (getattr(config, "attention_layers", None) or ()):  # GPT-Neo
        types.add("local")
    if types or getattr(config, "attention_chunk_size", None) is not None:
        return f"has layers with a mask of another kind ({', '.join(sorted(types)) or 'chunked attention'})"
    if getattr(config, "alibi", False):
        return "uses ALiBi, which builds its bias from a 2-D mask"
    return None


def _rope_limit(config: Any) -> int | None:
    """The longest sequence for which the rotary embedding is the same at every length; `None`: no limit."""
    parameters = getattr(config, "rope_parameters", None) or {}
    limits = []
    for kind in [parameters, *(p for p in parameters.values() if isinstance(p, dict))]:
        if kind.get("rope_type") in ("dynamic", "longrope"):
            original = kind.get("original_max_position_embeddings")
            original = original or getattr(config, "original_max_position_embeddings", None)
            limits.append(original or config.max_position_embeddings)
    return min(limits, default=None)
