"""A cache in which every row of a batch writes at its own position, and one pass of a model over it.

Slot p of a row holds its token at position p, whatever the other rows do: taking tokens back is only a smaller write
position, rows may keep different numbers of tokens, and the padding in front of a prompt is never stored. What a query
may see follows from positions alone, so sliding windows are exact too. Nothing in a pass depends on a number that only
the device knows, so it can be captured in a graph.

Works with decoder-only models that take `position_ids` and a 4-D attention mask: those built from transformers' own
attention with the implementations "sdpa" and "eager", with full or sliding-window layers and a position embedding that
does not change with the length of the text. [`SlotPass`] refuses the others.

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


class SlotTable:
    """Where a pass writes and what it sees: the same for all layers.

    Attributes:
        slots (`torch.LongTensor` of shape `(B, n)`): Where the tokens of the pass under way go.
        rows (`torch.LongTensor` of shape `(B,)`, *optional*): Which rows of the cache they belong to; `None`: all.
        height (`int`, *optional*): How many rows the cache has; by default as many as the first pass.
        visible (`int`): How many slots, from the first, queries look at.
        capacity (`int`): How many there are. One more than are visible takes what nobody shall see.
    """

    def __init__(self, capacity: int | None, height: int | None = None) -> None:
        self.fixed = capacity is not None
        self.capacity = self.visible = capacity or 0
        self.height = height
        self.slots: torch.Tensor | None = None
        self.rows: torch.Tensor | None = None

    def make_room(self, visible: int) -> None:
        """Let the next pass see `visible` slots. Not for a fixed capacity."""
        self.visible = visible
        if visible >= self.capacity:
            self.capacity = visible + max(_GROWTH, visible // 2)


class SlotLayer(CacheLayerMixin):
    """Keys and values of one layer, shape `(B, heads, capacity, head size)`, written at `table.slots`."""

    is_compileable = True
    is_sliding = False

    def __init__(self, table: SlotTable) -> None:
        super().__init__()
        self.table = table

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate. The zeros matter: a masked slot counts nothing only if it holds a number."""
        with torch.inference_mode(False):  # a fixed cache outlives the call
            height = self.table.height or key_states.shape[0]
            self.keys, self.values = (
                states.new_zeros(height, states.shape[1], self.table.capacity, states.shape[-1])
                for states in (key_states, value_states)
            )
            self.rows = torch.arange(height, device=key_states.device)[:, None]
        if self.table.fixed:
            for tensor in (self.keys, self.values, self.rows):
                torch._dynamo.mark_static_address(tensor)  # else no CUDA graph could write into them
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new states; returns what queries may look at."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        elif self.keys.shape[2] < self.table.capacity:
            more = (0, 0, 0, self.table.capacity - self.keys.shape[2])
            self.keys, self.values = (torch.nn.functional.pad(kept, more) for kept in (self.keys, self.values))
        assert self.table.slots is not None, "a SlotPass comes first"
        slots = self.table.slots.to(self.keys.device)
        chosen = None if self.table.rows is None else self.table.rows.to(self.keys.device)
        rows = self.rows if chosen is None else chosen[:, None]
        self.keys[rows, :, slots] = key_states.transpose(1, 2)
        self.values[rows, :, slots] = value_states.transpose(1, 2)
        keys, values = self.keys, self.values
        visible = self.table.visible
        if visible != self.table.capacity:
            keys, values = keys[:, :, :visible], values[:, :, :visible]
        return (keys, values) if chosen is None else (keys[chosen], values[chosen])

    def select(self, kept: torch.Tensor) -> None:
        """Keep these rows only."""
        if self.is_initialized:
            kept = kept.to(self.keys.device)
            self.keys, self.values = self.keys[kept], self.values[kept]
            self.rows = self.rows[: len(kept)]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.table.visible, 0

    def get_seq_length(self) -> int:
        return 0  # rows differ; positions are always given

    def get_max_length(self) -> int:
        return self.table.capacity


class SlotPass:
    """Runs a model over slots.

    Args:
        model ([`PreTrainedModel`])
        capacity (`int`, *optional*): Slots of each row, fixed; without it, there are as many as are needed.
        height (`int`, *optional*): Rows of the cache, if passes serve only some of them.

    Attributes:
        cache ([`Cache`]): Of [`SlotLayer`]s.
        table ([`SlotTable`]): Theirs.

    Raises:
        ValueError: If the model is not of the kind described at the top of this file.
    """

    def __init__(self, model: PreTrainedModel, capacity: int | None = None, height: int | None = None) -> None:
        config = model.config
        layers = DynamicCache(config=config.get_text_config(decoder=True)).layers
        if problem := _problem(model, layers):
            raise _refused(model, problem)
        self.table = SlotTable(capacity, height)
        self.cache = Cache(layers=[SlotLayer(self.table) for _ in range(len(layers) or config.num_hidden_layers)])
        self._window = getattr(config, "sliding_window", None)
        self._layer_types = set(getattr(config, "layer_types", None) or ())
        self._dtype = model.dtype
        self._additive = config._attn_implementation == "eager"
        self._keeps_logits = keeps_logits(model)
        self._model_limit = _length_limit(config)
        with torch.inference_mode(False):
            self._last = torch.zeros((), dtype=torch.long, device=model.device)
        torch._dynamo.mark_static_address(self._last)

    def limit(self, max_length: int) -> None:
        """Texts will not be longer. What a wide pass computes behind that is never emitted, but it must not leave a
        table of learned positions.

        Raises:
            ValueError: If the model's position embedding changes at a shorter length.
        """
        if self._model_limit is not None and max_length > self._model_limit:
            raise ValueError(
                f"This model's rotary embedding changes for texts longer than {self._model_limit} tokens, for all "
                f"rows of a batch at once; with several prompts or a static cache max_length={max_length} must not "
                "exceed that."
            )
        self._last.fill_(max_length - 1)

    def select(self, kept: torch.Tensor) -> None:
        """Keep these rows only."""
        for layer in self.cache.layers:
            layer.select(kept)

    def __call__(self, model: PreTrainedModel, tokens: torch.Tensor, starts: torch.Tensor, rows: int) -> torch.Tensor:
        """Run `tokens`, of shape `(B, n)`, at the positions from `starts`, of shape `(B, 1)`, on.

        Tokens at negative positions are padding. Returns the logits of the last `rows` tokens, in the model's dtype.
        """
        slots = starts + torch.arange(tokens.shape[1], device=tokens.device)
        self.table.slots = torch.where(slots < 0, self.table.capacity - 1, slots)
        positions = torch.minimum(slots.clamp(min=0), self._last)
        outputs = model(
            input_ids=tokens,
            position_ids=positions,
            attention_mask=self._masks(positions),
            past_key_values=self.cache,
            use_cache=True,
            return_dict=True,
            **({"logits_to_keep": rows} if self._keeps_logits else {}),
        )
        self.table.slots = None
        return outputs.logits[:, -rows:]

    def _masks(self, positions: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
        query = positions[:, None, :, None]
        slot = torch.arange(self.table.visible, device=positions.device)
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


def _refused(model: PreTrainedModel, problem: str) -> ValueError:
    return ValueError(
        f"{type(model).__name__} {problem}, so it can be decoded with judge= only one prompt at a time and without a "
        "static cache."
    )


def _problem(model: PreTrainedModel, layers: list[Any]) -> str | None:
    """What keeps a model from running over slots."""
    config = model.config
    attention = config._attn_implementation
    full_or_window = {DynamicLayer.__name__, DynamicSlidingWindowLayer.__name__}
    if config.get_text_config(decoder=True) is not config:
        return "is multimodal"
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return "takes no position_ids"
    if attention not in ("sdpa", "eager"):
        return f'uses attn_implementation="{attention}", which takes no 4-D mask (load it with "sdpa")'
    if odd := {type(layer).__name__ for layer in layers} - full_or_window:
        return f"has layers that are neither full nor sliding-window attention ({', '.join(sorted(odd))})"
    types = set(getattr(config, "layer_types", None) or ()) - set(_MASKS)
    if "local" in (getattr(config, "attention_layers", None) or ()):  # GPT-Neo
        types.add("local")
    if types or getattr(config, "attention_chunk_size", None) is not None:
        return f"has layers with a mask of their own ({', '.join(sorted(types)) or 'chunked attention'})"
    if getattr(config, "alibi", False):
        return "uses ALiBi, which builds its bias from a 2-D mask"
    return None


def _length_limit(config: Any) -> int | None:
    """Longest text for which the rotary embedding is the same for every length; `None`: any."""
    parameters = getattr(config, "rope_parameters", None) or {}
    kinds = [parameters, *(p for p in parameters.values() if isinstance(p, dict))]
    limits = []
    for kind in kinds:
        if kind.get("rope_type") in ("dynamic", "longrope"):
            original = kind.get("original_max_position_embeddings")
            original = original or getattr(config, "original_max_position_embeddings", None)
            limits.append(original or config.max_position_embeddings)
    return min(limits, default=None)
