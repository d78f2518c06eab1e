"""One sequence, with transformers' own cache: works with any decoder-only model whose cache can be cropped.

Checked with transformers 5.17.0 and 5.23.0: cache layers and their `crop`, `prepare_inputs_for_generation`, and how
`_update_model_kwargs_for_generation` continues inputs that have one entry per token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache

from hf_autojudge.runners.base import HiddenStates, run_model, takes, vocab_size

# How inputs with one entry per token continue, from the last entry and the steps 1, 2, ... after it
_CONTINUE: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "attention_mask": lambda last, steps: torch.ones_like(last + steps),
    "position_ids": lambda last, steps: last + steps,
    "token_type_ids": lambda last, steps: last.expand(*last.shape[:-1], len(steps)),
}


class DynamicRunner:
    """A [`ModelRunner`] of one sequence.

    Args:
        model ([`PreTrainedModel`]): A decoder-only model.
        cache ([`Cache`], *optional*): Must be croppable; by default a new one whose layers all keep every token.
        inputs (`dict`, *optional*): Further inputs of the model, as `generate` prepares them. Of these,
            `attention_mask`, `position_ids` and `token_type_ids` hold one entry for each token of the prompt and grow
            with the sequence.
        hidden_states ([`HiddenStates`], *optional*): To return them too.

    Raises:
        ValueError: If the model has layers that cannot be rolled back, or, at the first pass, does not use the cache.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        cache: Cache | None = None,
        inputs: dict[str, Any] | None = None,
        hidden_states: HiddenStates | None = None,
    ) -> None:
        self.model = model
        self.cache = _croppable_cache(model) if cache is None else cache
        self.cache.activate_past_recording()
        self.num_cached = [int(self.cache.get_seq_length())]
        self._hidden_states = hidden_states
        self._last_token_id = vocab_size(model) - 1
        self._device = model.device
        self._keeps_logits = takes(model, "logits_to_keep")
        self._has_run = False
        given = {name: value for name, value in (inputs or {}).items() if value is not None}
        self._per_token = {name: self._moved(given.pop(name)) for name in _CONTINUE if name in given}
        self._inputs = given
        # A model without special inputs needs tokens, positions and the cache only: a tenth of the overhead
        self._positions = _consecutive(self._per_token.get("position_ids"))
        special = set(self._per_token) - ({"position_ids"} if self._positions is not None else set())
        prepares_as_usual = type(model).prepare_inputs_for_generation is GenerationMixin.prepare_inputs_for_generation
        self._lean = not given and not special and prepares_as_usual

    def forward(
        self, tokens: torch.Tensor, starts: Sequence[int], logits_to_keep: int, sequences: Sequence[int] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See [`ModelRunner.forward`]."""
        start, end = starts[0], starts[0] + tokens.shape[1]
        if self._has_run:
            self.rollback(start)
        tokens = self._moved(tokens).clamp(max=self._last_token_id)
        if self._lean:
            inputs = {"input_ids": tokens, "past_key_values": self.cache, "use_cache": True}
            if self._positions is not None:
                if end > self._positions.shape[1]:
                    self._positions = torch.arange(2 * end, device=tokens.device)[None]
                inputs["position_ids"] = self._positions[:, start:end]
        else:
            inputs = self._prepared(tokens, end)
        if self._keeps_logits:
            inputs["logits_to_keep"] = logits_to_keep
        found = run_model(self.model, inputs, logits_to_keep, self._hidden_states)
        if not self._has_run and self.cache.get_seq_length() != end:
            raise ValueError(
                f"{type(self.model).__name__} does not use the cache it is given, so nothing could be rolled back; "
                "judge= needs a model that does."
            )
        self._has_run = True
        self.num_cached = [end]
        return found

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        """On the model's device, unless all of the model is offloaded: then hooks move the inputs."""
        return tensor if self._device.type == "meta" else tensor.to(self._device)

    def _prepared(self, tokens: torch.Tensor, end: int) -> dict[str, Any]:
        for name, values in self._per_token.items():
            if (missing := end - values.shape[-1]) > 0:
                steps = torch.arange(1, missing + 1, dtype=values.dtype, device=values.device)
                self._per_token[name] = torch.cat([values, _CONTINUE[name](values[..., -1:], steps)], dim=-1)
        prepared = self.model.prepare_inputs_for_generation(  # cuts positions and types to the new tokens
            tokens,
            past_key_values=self.cache,
            is_first_iteration=not self._has_run,
            use_cache=True,
            **self._per_token,
            **self._inputs,
        )
        return prepared | {"past_key_values": self.cache}  # Phi-3 drops it before a long prompt

    def rollback(self, length: int) -> None:
        """Keep the first `length` tokens in the cache. Also needed with nothing to remove: sliding-window layers then
        drop the states that no further query can see."""
        removed = self.num_cached[0] - length
        self.cache.crop(-removed)  # a number of tokens to remove; 0 removes none
        self.num_cached = [length]
        if removed and not self._lean:
            self._per_token = {name: values[..., :length] for name, values in self._per_token.items()}

    def select(self, sequences: Sequence[int]) -> None:
        """See [`ModelRunner.select`]: with one sequence there is nothing to choose from."""


def _consecutive(positions: torch.Tensor | None) -> torch.Tensor | None:
    """`positions` if they are 0, 1, 2, ... of one sequence."""
    if positions is None or positions.ndim != 2 or positions.shape[0] != 1:
        return None
    consecutive = torch.arange(positions.shape[1], device=positions.device)[None]
    return consecutive if torch.equal(positions, consecutive) else None


def _croppable_cache(model: PreTrainedModel) -> DynamicCache:
    """A cache that can be rolled back over several passes. Every layer keeps every token; sliding windows are left to
    the attention mask."""
    layers = DynamicCache(config=model.config.get_text_config(decoder=True)).layers
    if any(hasattr(layer, "conv_states") for layer in layers):
        raise ValueError(
            f"{type(model).__name__} has convolution or recurrent layers, which cannot be rolled back over several "
            "passes; use a model with attention layers only."
        )
    return DynamicCache()
