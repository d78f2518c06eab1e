"""A cache in which every row of a batch writes at its own position, and one pass of a model over it.

Slot p of a row holds its token at position p, whatever the other rows do: taking tokens back is only a smaller write
position, rows may keep different numbers of tokens, and the padding in front of a prompt is never stored. What a query
may see follows from positions alone, so sliding windows are exact too. Nothing in a pass depends on a number that only
the device knows, so it can be captured in a graph.

Works with every decoder-only model that takes `position_ids` and a 4-D attention mask, that is, one built from
transformers' own attention with the implementations "sdpa" and "eager", with full or sliding-window layers.

Checked with transformers 5.17.0 and 5.23.0: cache layers, and which masks a model takes (`create_masks_for_generate`).
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import (
    Cache,
    CacheLayerMixin,
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
)

from hf_autojudge.decoding.passes import keeps_logits

_GROWTH = 256  # slots
_MASKS = ("full_attention", "sliding_attention")


class SlotLayer(CacheLayerMixin):
    """Keys and values of one layer, shape `(B, heads, capacity, head size)`, written at `cache.slots`."""

    is_compileable = True
    is_sliding = False

    def __init__(self, cache: SlotCache) -> None:
        super().__init__()
        self.cache = cache

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate. The zeros matter: a masked slot counts nothing only if it holds a number."""
        with torch.inference_mode(False):  # a fixed cache outlives the call
            self.keys, self.values = (
                states.new_zeros(*states.shape[:2], self.cache.capacity, states.shape[-1])
                for states in (key_states, value_states)
            )
        self.rows = torch.arange(key_states.shape[0], device=key_states.device)[:, None]
        if self.cache.fixed:
            for tensor in (self.keys, self.values, self.rows):
                torch._dynamo.mark_static_address(tensor)  # else no CUDA graph could write into them
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new states; returns what queries may look at."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        elif self.keys.shape[2] < self.cache.capacity:
            more = (0, 0, 0, self.cache.capacity - self.keys.shape[2])
            self.keys, self.values = (torch.nn.functional.pad(kept, more) for kept in (self.keys, self.values))
        assert self.cache.slots is not None, "a SlotPass comes first"
        slots = self.cache.slots.to(self.keys.device)
        self.keys[self.rows, :, slots] = key_states.transpose(1, 2)
        self.values[self.rows, :, slots] = value_states.transpose(1, 2)
        visible = self.cache.visible
        if visible == self.cache.capacity:
            return self.keys, self.values
        return self.keys[:, :, :visible], self.values[:, :, :visible]

    def select(self, kept: torch.Tensor) -> None:
        """Keep these rows only."""
        if self.is_initialized:
            kept = kept.to(self.keys.device)
            self.keys, self.values = self.keys[kept], self.values[kept]
            self.rows = self.rows[: len(kept)]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.cache.visible, 0

    def get_seq_length(self) -> int:
        return 0  # rows differ; positions are always given

    def get_max_length(self) -> int:
        return self.cache.capacity


class SlotCache(Cache):
    """The cache of all layers of a model.

    Args:
        layers (`int`): Number of layers.
        capacity (`int`, *optional*): Slots of each row, fixed; without it, the cache grows.

    Attributes:
        slots (`torch.LongTensor` of shape `(B, n)`): Where the tokens of the pass under way go.
        visible (`int`): How many slots, from the first, queries look at.
    """

    def __init__(self, layers: int, capacity: int | None = None) -> None:
        self.fixed = capacity is not None
        self.capacity = capacity or 0
        self.visible = self.capacity
        self.slots: torch.Tensor | None = None
        super().__init__(layers=[SlotLayer(self) for _ in range(layers)])

    def make_room(self, visible: int) -> None:
        """Let the next pass see `visible` slots. One more than it sees takes what nobody shall see."""
        if self.fixed:
            return
        self.visible = visible
        if visible >= self.capacity:
            self.capacity = visible + max(_GROWTH, visible // 2)


class SlotPass:
    """Runs a model over a [`SlotCache`].

    Raises:
        ValueError: If the model is not of the kind described at the top of this file.
    """

    def __init__(self, model: PreTrainedModel, capacity: int | None = None) -> None:
        config = model.config
        layers = DynamicCache(config=config.get_text_config(decoder=True)).layers
        attention = config._attn_implementation
        types = set(getattr(config, "layer_types", None) or ())
        problem = None
        if config.get_text_config(decoder=True) is not config:
            problem = "is multimodal"
        elif "position_ids" not in inspect.signature(model.forward).parameters:
            problem = "takes no position_ids"
        elif attention not in ("sdpa", "eager"):
            problem = f'uses attn_implementation="{attention}", which takes no 4-D mask (load it with "sdpa")'
        elif odd := {type(x).__name__ for x in layers} - {DynamicLayer.__name__, DynamicSlidingWindowLayer.__name__}:
            problem = f"has layers that are neither full nor sliding-window attention ({', '.join(sorted(odd))})"
        elif (odd := types - set(_MASKS)) or getattr(config, "attention_chunk_size", None) is not None:
            problem = f"has layers with a mask of their own ({', '.join(sorted(odd)) or 'chunked attention'})"
        if problem:
            raise ValueError(
                f"{type(model).__name__} {problem}, so it can be decoded with judge= only one prompt at a time and "
                "without a static cache."
            )
        self.cache = SlotCache(len(layers) or config.num_hidden_layers, capacity)
        self._window = getattr(config, "sliding_window", None)
        self._layer_types = types
        self._dtype = model.dtype
        self._additive = attention == "eager"
        self._keeps_logits = keeps_logits(model)

    def __call__(self, model: PreTrainedModel, tokens: torch.Tensor, starts: torch.Tensor, rows: int) -> torch.Tensor:
        """Run `tokens`, of shape `(B, n)`, at the positions from `starts`, of shape `(B, 1)`, on.

        Tokens at negative positions are padding. Returns the logits of the last `rows` tokens, in the model's dtype.
        """
        slots = starts + torch.arange(tokens.shape[1], device=tokens.device)
        self.cache.slots = torch.where(slots < 0, self.cache.capacity - 1, slots)
        positions = slots.clamp(min=0)
        outputs = model(
            input_ids=tokens,
            position_ids=positions,
            attention_mask=self._masks(positions),
            past_key_values=self.cache,
            use_cache=True,
            return_dict=True,
            **({"logits_to_keep": rows} if self._keeps_logits else {}),
        )
        self.cache.slots = None
        return outputs.logits[:, -rows:]

    def _masks(self, positions: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
        query = positions[:, None, :, None]
        slot = torch.arange(self.cache.visible, device=positions.device)
        full, sliding = _MASKS
        masks = {full: slot <= query}
        if self._window is not None:
            masks[sliding] = masks[full] & (slot > query - self._window)
        if self._additive:
            lowest = torch.finfo(self._dtype).min
            masks = {
                name: torch.zeros_like(mask, dtype=self._dtype).masked_fill(~mask, lowest)
                for name, mask in masks.items()
            }
        if self._layer_types:
            return {name: masks[name] for name in self._layer_types}
        return masks[full if self._window is None else sliding]
