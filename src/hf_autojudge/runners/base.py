"""What a model runner is, and the facts about a model that runners and their users need."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from threading import get_ident
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel


class ModelRunner(Protocol):
    """Runs the forward passes of one model over a batch of sequences and owns its KV cache.

    A pass that starts at position p first rolls the cache back to p tokens: starting earlier *is* the rollback.
    [`DynamicRunner`] runs one sequence with any model, [`BatchedRunner`] many with most models, [`CompiledRunner`]
    many with static shapes.

    Attributes:
        model ([`PreTrainedModel`])
        num_cached (`list[int]`): For each sequence, how many of its first tokens the cache holds; tokens of the last
            pass that were rejected since then are still counted.
    """

    model: PreTrainedModel
    num_cached: list[int]

    def forward(
        self, tokens: torch.Tensor, starts: Sequence[int], logits_to_keep: int, sequences: Sequence[int] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Run tokens at given positions.

        Args:
            tokens (`torch.LongTensor` of shape `(B, n)`): On any device. Ids that the model's vocabulary lacks are
                replaced by its last one.
            starts (`Sequence[int]`): Position of each sequence's first token in `tokens`, at most its number of cached
                tokens. Tokens at negative positions are padding.
            logits_to_keep (`int`): For how many trailing tokens logits are wanted.
            sequences (`Sequence[int]`, *optional*): Which of the runner's sequences these are, ascending; default:
                all. Not in a static cache.

        Returns:
            Logits in the model's dtype, shape `(B, logits_to_keep, V)`; and, if the runner was made with
            [`HiddenStates`], those of shape `(B, logits_to_keep, hidden size)`, else `None`.
        """

    def select(self, sequences: Sequence[int]) -> None:
        """Continue with these of the runner's sequences only; the others have ended."""


class HiddenStates:
    """While the context is open, records what the model's output head reads: the last hidden states after the final
    norm. (`output_hidden_states=True` would keep those of every layer alive.)"""

    def __init__(self, model: PreTrainedModel) -> None:
        self._head = output_head(model)
        self._thread = get_ident()  # another thread may run the same model
        self.last: torch.Tensor | None = None

    def __enter__(self) -> HiddenStates:
        self._handle = self._head.register_forward_pre_hook(self._record)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _record(self, _module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        if get_ident() == self._thread:
            self.last = args[0]


def run_model(
    model: PreTrainedModel, inputs: dict[str, Any], logits_to_keep: int, hidden_states: HiddenStates | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """One forward pass: what [`ModelRunner.forward`] returns."""
    logits, hidden = model(**inputs, return_dict=True).logits, None
    if hidden_states is not None:
        hidden, hidden_states.last = hidden_states.last, None
    if logits.shape[1] > logits_to_keep:  # some models compute the logits of all tokens
        return logits[:, -logits_to_keep:], None if hidden is None else hidden[:, -logits_to_keep:]
    return logits, hidden


def output_head(model: PreTrainedModel) -> torch.nn.Module:
    """The module that computes logits from hidden states. Raises `ValueError` if the model has none."""
    head = model.get_output_embeddings()
    if head is None:
        raise ValueError(
            f"{type(model).__name__} has no output embeddings, so a judge cannot read its hidden states; use a judge "
            "that reads logits only, such as KLRule."
        )
    return head


def hidden_size(model: PreTrainedModel) -> int:
    """Width of what the model's output head reads; of the config, if the head does not say."""
    width = getattr(model.get_output_embeddings(), "in_features", None)
    return int(model.config.get_text_config(decoder=True).hidden_size if width is None else width)


def vocab_size(model: PreTrainedModel) -> int:
    """Number of logits of the model."""
    return int(model.config.get_text_config(decoder=True).vocab_size)


def end_tokens(eos_token_id: int | Sequence[int] | torch.Tensor | None) -> frozenset[int]:
    """The end tokens that an `eos_token_id`, of a generation config or of a stopping criterion, names."""
    if eos_token_id is None:
        return frozenset()
    return frozenset(torch.as_tensor(eos_token_id).flatten().tolist())


def takes(model: PreTrainedModel, argument: str) -> bool:
    """Whether the model's forward method has an argument of that name."""
    return argument in inspect.signature(model.forward).parameters


def unwrap_peft(model: Any) -> PreTrainedModel:
    """The transformers model inside a peft wrapper (its adapters stay active); any other model as it is."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def to_device(numbers: Sequence[int], device: torch.device) -> torch.Tensor:
    """Integers of the host as a 1-D tensor, without a host-device synchronization."""
    tensor = torch.tensor(numbers, dtype=torch.long)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
