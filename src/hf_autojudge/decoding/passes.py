"""Forward passes of one model over its growing text: the cache, the mask, the positions, and taking tokens back."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache


class CachedModel:
    """A model with its cache. [`forward`] runs new tokens, [`rollback`] forgets the last ones.

    Args:
        model ([`PreTrainedModel`]): A decoder-only model.
        cache ([`Cache`]): Holds the first `length` tokens of the text; must be croppable.
        attention_mask (`torch.LongTensor` of shape `(B, prompt length)`, *optional*): `None` means no padding.
        position_ids (`torch.LongTensor` of shape `(..., prompt length)`, *optional*): `None` lets the model count.
        kwargs (`dict`, *optional*): Further inputs of the model, prepared by `generate`.

    Attributes:
        length (`int`): Number of tokens in the cache.
        calls (`int`): Forward passes so far.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        cache: Cache,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        kwargs: dict[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.cache = cache
        self.attention_mask = attention_mask
        self.position_ids = position_ids
        self.kwargs = kwargs or {}
        self.length = int(cache.get_seq_length())
        self.calls = 0
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._hidden: torch.Tensor | None = None
        cache.activate_past_recording()

    def forward(self, tokens: torch.Tensor, rows: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Run tokens that follow the cached ones.

        Args:
            tokens (`torch.LongTensor` of shape `(B, n)`): The new tokens.
            rows (`int`): For how many of the last of them logits are wanted.

        Returns:
            Logits in float32, shape `(B, rows, V)`, and, inside [`record_hidden`], what the output head read, shape
            `(B, rows, hidden size)`; else `None`.
        """
        total = self.length + tokens.shape[1]
        if self.attention_mask is not None and (missing := total - self.attention_mask.shape[1]) > 0:
            mask = self.attention_mask
            self.attention_mask = torch.cat([mask, mask.new_ones(mask.shape[0], missing)], dim=-1)
        types = self.kwargs.get("token_type_ids")
        if types is not None and (missing := total - types.shape[1]) > 0:  # as transformers does: the last one goes on
            self.kwargs["token_type_ids"] = torch.cat([types, types[:, -1:].expand(-1, missing)], dim=-1)
        if self.position_ids is not None and (missing := total - self.position_ids.shape[-1]) > 0:
            last = self.position_ids[..., -1:]
            steps = torch.arange(1, missing + 1, dtype=last.dtype, device=last.device)
            self.position_ids = torch.cat([self.position_ids, last + steps], dim=-1)
        inputs = self.model.prepare_inputs_for_generation(
            tokens,
            past_key_values=self.cache,
            attention_mask=self.attention_mask,
            position_ids=None if self.position_ids is None else self.position_ids[..., self.length : total],
            is_first_iteration=self.calls == 0,
            use_cache=True,
            **({"logits_to_keep": rows} if self._keeps_logits else {}),
            **self.kwargs,
        )
        self._hidden = None
        outputs = self.model(**inputs, return_dict=True)
        self.length = total
        self.calls += 1
        hidden = None if self._hidden is None else self._hidden[:, -rows:]
        return outputs.logits[:, -rows:].float(), hidden

    def rollback(self, n: int) -> None:
        """Forget the last `n` tokens. Also to be called with 0 after a pass: window layers then drop what they need no
        more."""
        self.cache.crop(-n)
        self.length -= n
        if self.attention_mask is not None:
            self.attention_mask = self.attention_mask[:, : self.length]
        if self.kwargs.get("token_type_ids") is not None:
            self.kwargs["token_type_ids"] = self.kwargs["token_type_ids"][:, : self.length]
        if self.position_ids is not None:
            self.position_ids = self.position_ids[..., : self.length]

    @contextmanager
    def record_hidden(self) -> Iterator[None]:
        """While open, [`forward`] also returns what the output head read (it sees exactly the rows whose logits are
        kept)."""
        head = self.model.get_output_embeddings()
        if head is None:
            raise ValueError(
                f"{type(self.model).__name__} has no output embeddings, so a judge cannot read its hidden states; "
                "use a judge that reads logits only, such as KLRule."
            )
        owner = threading.get_ident()  # another thread may generate with the same model

        def keep(_module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            if threading.get_ident() == owner:
                self._hidden = args[0]

        handle = head.register_forward_pre_hook(keep)
        try:
            yield
        finally:
            handle.remove()


def hidden_size(model: PreTrainedModel) -> int:
    """Width of what the model's output head reads; of the config, if the head does not say."""
    width = getattr(model.get_output_embeddings(), "in_features", None)
    return int(model.config.get_text_config(decoder=True).hidden_size if width is None else width)


def vocab_size(model: PreTrainedModel) -> int:
    """Number of logits of the model."""
    return int(model.config.get_text_config(decoder=True).vocab_size)


def rewindable_cache(model: PreTrainedModel) -> DynamicCache:
    """A cache that can be rolled back over several passes at once. Every layer keeps everything; the model's windows
    then live in the mask alone.

    Raises:
        ValueError: If some layers of the model are not attention.
    """
    layers = DynamicCache(config=model.config.get_text_config(decoder=True)).layers
    if any(hasattr(layer, "conv_states") for layer in layers):
        raise ValueError(
            f"{type(model).__name__} has convolution or recurrent layers, which cannot be rolled back over several "
            "passes; use a model with attention layers only."
        )
    return DynamicCache()


def unwrap_peft(model: Any) -> PreTrainedModel:
    """The transformers model inside a peft wrapper (its adapters stay active); any other model as it is."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
