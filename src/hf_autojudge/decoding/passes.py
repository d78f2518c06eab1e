"""Forward passes of one model over growing texts: the cache, the mask, the positions, and taking tokens back."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache

from hf_autojudge.decoding.text import Text

# How inputs with one entry a token go on, from the last entry and the steps 1, 2, ... after it; as in transformers'
# `_update_model_kwargs_for_generation`
_CONTINUE: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "attention_mask": lambda last, steps: torch.ones_like(last + steps),
    "position_ids": lambda last, steps: last + steps,
    "token_type_ids": lambda last, steps: last.expand(*last.shape[:-1], len(steps)),
}


class Passes(Protocol):
    """How the passes of a model over a [`Text`] are run: what an engine replaces. [`CachedModel`] for one row,
    [`RaggedModel`] for several, and for static caches.

    Attributes:
        model ([`PreTrainedModel`])
        calls (`int`): Forward passes so far, each counted once for every row it served.
    """

    model: PreTrainedModel
    calls: int

    def unseen(self, text: Text) -> torch.Tensor:
        """The tokens of the text to run next, shape `(A, n)`: the same number for every row, at least 1."""
        ...

    def forward(self, tokens: torch.Tensor, rows: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Run tokens that follow those run before.

        Args:
            tokens (`torch.LongTensor` of shape `(A, n)`): The new tokens.
            rows (`int`): For how many of the last of them logits are wanted.

        Returns:
            Logits in float32, shape `(A, rows, V)`, and, inside [`record_hidden`], what the output head read, shape
            `(A, rows, hidden size)`; else `None` or that.
        """
        ...

    def keep(self, text: Text) -> None:
        """Forget what is not, or no more, in the text; its last token too."""
        ...

    def select(self, kept: Sequence[int]) -> None:
        """Go on with these rows only."""
        ...

    def record_hidden(self) -> AbstractContextManager[None]:
        """While open, [`forward`] also returns what the output head read."""
        ...


class CachedModel:
    """A model with its cache, for one row. [`forward`] runs new tokens, [`rollback`] forgets the last ones.

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
        # With nothing of its own to prepare, a model needs the tokens, their positions and the cache only: a tenth of
        # the overhead
        self._positions = _counting(self._per_token.get("position_ids"))
        extra = set(self._per_token) - ({"position_ids"} if self._positions is not None else set())
        self._lean = not given and not extra and prepares_as_usual(model)
        self.length = int(cache.get_seq_length())
        self.calls = 0
        self._keeps_logits = keeps_logits(model)
        self._head_input = HeadInput(model)
        cache.activate_past_recording()

    def unseen(self, text: Text) -> torch.Tensor:
        """See [`Passes.unseen`]."""
        return text.ids[:, self.length : text.ends[0]]

    def forward(self, tokens: torch.Tensor, rows: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See [`Passes.forward`]."""
        total = self.length + tokens.shape[1]
        kept = {"logits_to_keep": rows} if self._keeps_logits else {}
        if self._lean:
            inputs = {"input_ids": tokens, "past_key_values": self.cache, "use_cache": True, **kept}
            if self._positions is not None:
                if total > self._positions.shape[1]:
                    self._positions = torch.arange(2 * total, device=tokens.device)[None]
                inputs["position_ids"] = self._positions[:, self.length : total]
        else:
            inputs = self._prepared(tokens, total, kept)
        logits = self.model(**inputs, return_dict=True).logits[:, -rows:].float()
        if not self.calls and self.cache.get_seq_length() != total:
            raise ValueError(
                f"{type(self.model).__name__} does not keep its past in the cache it is given, so nothing could be "
                "rolled back; judge= needs a model that does."
            )
        self.length = total
        self.calls += 1
        return logits, self._head_input.take(rows)

    def _prepared(self, tokens: torch.Tensor, total: int, kept: dict[str, int]) -> dict[str, Any]:
        for name, values in self._per_token.items():
            if (missing := total - values.shape[-1]) > 0:
                steps = torch.arange(1, missing + 1, dtype=values.dtype, device=values.device)
                self._per_token[name] = torch.cat([values, _CONTINUE[name](values[..., -1:], steps)], dim=-1)
        prepared = self.model.prepare_inputs_for_generation(  # cuts positions and types to the new tokens
            tokens,
            past_key_values=self.cache,
            is_first_iteration=self.calls == 0,
            use_cache=True,
            **kept,
            **self._per_token,
            **self._inputs,
        )
        return prepared | {"past_key_values": self.cache}  # Phi-3 forgets it before a long prompt

    def rollback(self, n: int) -> None:
        """Forget the last `n` tokens. Also to be called with 0 after a pass: window layers then drop what they need no
        more."""
        self.cache.crop(-n)
        self.length -= n
        if not self._lean:
            self._per_token = {name: values[..., : self.length] for name, values in self._per_token.items()}

    def keep(self, text: Text) -> None:
        """See [`Passes.keep`]."""
        self.rollback(max(0, self.length - (text.ends[0] - 1)))

    def select(self, kept: Sequence[int]) -> None:
        """One row: nothing to choose from."""

    def record_hidden(self) -> AbstractContextManager[None]:
        """See [`Passes.record_hidden`]."""
        return self._head_input.recording()


def _counting(positions: torch.Tensor | None) -> torch.Tensor | None:
    """`positions` if they are 0, 1, 2, ... of one row."""
    if positions is None or positions.ndim != 2 or positions.shape[0] != 1:
        return None
    counted = torch.arange(positions.shape[1], device=positions.device)[None]
    return counted if torch.equal(positions, counted) else None


class HeadInput:
    """What a model's output head reads in its passes: exactly the rows whose logits are kept."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._seen: torch.Tensor | None = None

    def take(self, rows: int) -> torch.Tensor | None:
        """Of the last pass, its last `rows`: shape `(B, rows, hidden size)`; `None` while not recording."""
        seen, self._seen = self._seen, None
        return None if seen is None else seen[:, -rows:]

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Look while the context is open.

        Raises:
            ValueError: If the model has no output head.
        """
        head = output_head(self.model)
        owner = threading.get_ident()  # another thread may generate with the same model

        def look(_module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            if threading.get_ident() == owner:
                self._seen = args[0]

        handle = head.register_forward_pre_hook(look)
        try:
            yield
        finally:
            handle.remove()
            self._seen = None


def output_head(model: PreTrainedModel) -> torch.nn.Module:
    """The module that makes logits of hidden states. Raises `ValueError` if the model has none."""
    head = model.get_output_embeddings()
    if head is None:
        raise ValueError(
            f"{type(model).__name__} has no output embeddings, so a judge cannot read its hidden states; use a judge "
            "that reads logits only, such as KLRule."
        )
    return head


def keeps_logits(model: PreTrainedModel) -> bool:
    """Whether the model can compute the logits of its last rows only."""
    return "logits_to_keep" in inspect.signature(model.forward).parameters


def prepares_as_usual(model: PreTrainedModel) -> bool:
    """Whether the model leaves the preparation of its inputs to transformers."""
    return type(model).prepare_inputs_for_generation is GenerationMixin.prepare_inputs_for_generation


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
