"""Forward passes of one model over its growing text: the cache, the mask, the positions, and taking tokens back."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache

# How inputs with one entry a token go on, from the last entry and the steps 1, 2, ... after it; as in transformers'
# `_update_model_kwargs_for_generation`
_CONTINUE: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "attention_mask": lambda last, steps: torch.ones_like(last + steps),
    "position_ids": lambda last, steps: last + steps,
    "token_type_ids": lambda last, steps: last.expand(*last.shape[:-1], len(steps)),
}


class CachedModel:
    """A model with its cache. [`forward`] runs new tokens, [`rollback`] forgets the last ones.

    Args:
        model ([`PreTrainedModel`]): A decoder-only model.
        cache ([`Cache`]): Holds the first `length` tokens of the text; must be croppable.
        inputs (`dict`, *optional*): Further inputs of the model, as `generate` prepares them. Of these,
            `attention_mask`, `position_ids` and `token_type_ids` hold one entry for each token of the prompt and grow
            with the text.

    Attributes:
        length (`int`): Number of tokens in the cache.
        calls (`int`): Forward passes so far.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        cache: Cache,
        inputs: dict[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.cache = cache
        given = {name: value for name, value in (inputs or {}).items() if value is not None}
        self._per_token: dict[str, torch.Tensor] = {name: given.pop(name) for name in _CONTINUE if name in given}
        self._inputs = given
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
        for name, values in self._per_token.items():
            if (missing := total - values.shape[-1]) > 0:
                steps = torch.arange(1, missing + 1, dtype=values.dtype, device=values.device)
                self._per_token[name] = torch.cat([values, _CONTINUE[name](values[..., -1:], steps)], dim=-1)
        inputs = self.model.prepare_inputs_for_generation(  # cuts positions and types to the new tokens
            tokens,
            past_key_values=self.cache,
            is_first_iteration=self.calls == 0,
            use_cache=True,
            **({"logits_to_keep": rows} if self._keeps_logits else {}),
            **self._per_token,
            **self._inputs,
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
        self._per_token = {name: values[..., : self.length] for name, values in self._per_token.items()}

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


def end_tokens(eos_token_id: int | Sequence[int] | None) -> frozenset[int]:
    """The end tokens that a generation config's `eos_token_id` names."""
    return frozenset([eos_token_id] if isinstance(eos_token_id, int) else eos_token_id or ())


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
