"""Passes over several rows that keep different numbers of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from transformers import PreTrainedModel

from hf_autojudge.decoding.passes import HeadInput
from hf_autojudge.decoding.slots import SlotPass
from hf_autojudge.decoding.text import Text, on_device


class Runner(Protocol):
    """Runs passes at given positions: [`GrowingSlots`], or [`StaticSlots`]."""

    model: PreTrainedModel

    def run(
        self, tokens: torch.Tensor, starts: torch.Tensor, rows: int, longest: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Run `tokens`, shape `(A, n)`, at the positions from `starts`, shape `(A, 1)`, on; afterwards the longest row
        has `longest` tokens. Returns logits (float32) and the head's input of the last `rows`."""
        ...

    def select(self, kept: Sequence[int]) -> None: ...

    def record_hidden(self) -> AbstractContextManager[None]: ...


class RaggedModel:
    """A model whose rows stand at positions of their own: see [`Passes`].

    Args:
        runner ([`Runner`])
        tail (`int`, *optional*, defaults to `1`): How many of a row's last tokens [`keep`] forgets, to be run next. A
            draft that does not run its last candidate has 2, as it may have seen all but two tokens.
    """

    def __init__(self, runner: Runner, tail: int = 1) -> None:
        self.runner = runner
        self.model = runner.model
        self.tail = tail
        self.calls = 0
        self._starts: torch.Tensor | None = None  # (A, 1): tokens in the cache
        self._longest = 0  # the largest of them

    def unseen(self, text: Text) -> torch.Tensor:
        """See [`Passes.unseen`]: the whole prompts, or each row's last `tail` tokens."""
        if self._starts is None:
            self._stand([-pad for pad in text.pads])
            return text.ids
        return text.tail(self.tail)

    def forward(self, tokens: torch.Tensor, rows: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See [`Passes.forward`]."""
        assert self._starts is not None, "unseen() comes first"
        n = tokens.shape[1]
        self._longest += n
        out = self.runner.run(tokens, self._starts, rows, self._longest)
        self._starts = self._starts + n
        self.calls += tokens.shape[0]
        return out

    def keep(self, text: Text) -> None:
        """See [`Passes.keep`]."""
        self._stand([end - pad - self.tail for end, pad in zip(text.ends, text.pads, strict=True)])

    def _stand(self, starts: list[int]) -> None:
        """The next pass begins at these positions."""
        self._starts = on_device(starts, self.model.device)[:, None]
        self._longest = max(starts)

    def select(self, kept: Sequence[int]) -> None:
        """See [`Passes.select`]."""
        self.runner.select(kept)
        assert self._starts is not None
        self._starts = self._starts[on_device(kept, self._starts.device)]

    def record_hidden(self) -> AbstractContextManager[None]:
        """See [`Passes.record_hidden`]."""
        return self.runner.record_hidden()


class GrowingSlots:
    """Passes over a cache that grows with the text; rows that ended leave it."""

    def __init__(self, model: PreTrainedModel, max_length: int) -> None:
        self.model = model
        self._pass = SlotPass(model)
        self._pass.limit(max_length)
        self._head_input = HeadInput(model)

    def run(
        self, tokens: torch.Tensor, starts: torch.Tensor, rows: int, longest: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See [`Runner.run`]."""
        self._pass.table.make_room(longest)
        logits = self._pass(self.model, tokens, starts, rows).float()
        return logits, self._head_input.take(rows)

    def select(self, kept: Sequence[int]) -> None:
        """See [`Passes.select`]."""
        self._pass.select(on_device(kept, self.model.device))

    def record_hidden(self) -> AbstractContextManager[None]:
        """See [`Passes.record_hidden`]."""
        return self._head_input.recording()
