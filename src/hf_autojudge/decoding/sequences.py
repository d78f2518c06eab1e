"""The sequences of a call while they are decoded, and where they end, to the token."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import torch
from transformers import EosTokenCriteria, MaxLengthCriteria, StoppingCriteriaList

from hf_autojudge.runners.base import end_tokens, to_device


class Sequences:
    """The prompts of a call and the tokens committed after them, for the sequences that are still running.

    End tokens and the length are checked on the host, where the tokens of a round already are; other criteria see
    every prefix of a sequence, as in plain `generate`.

    Args:
        input_ids (`torch.LongTensor` of shape `(B, prompt length)`): The prompts, padded on the left.
        padding (`Sequence[int]`, *optional*): Padding tokens in front of each prompt; default: none.
        criteria ([`StoppingCriteriaList`], *optional*): As `generate` prepared them.
        max_length (`int`, *optional*): Of the generation config, padding included.
        keep (`Sequence[str]`, *optional*): Which step outputs to keep: `"scores"`, `"logits"`.
        attention_mask (`torch.Tensor` of shape `(1, prompt length)`, *optional*): Of a single prompt whose padding
            counts as tokens of it; judges do not see what it leaves out.

    Attributes:
        ids (`torch.LongTensor` of shape `(A, width)`): The A running sequences. Sequence i ends at `ends[i]`; what
            follows is undefined.
        ends (`list[int]`): Where each sequence ends, its padding included.
        indices (`list[int]`): Which sequence of the batch each is.
        eos_token_ids (`frozenset[int]`): End tokens.
        max_length (`int`): The largest value of `ends`.
    """

    def __init__(
        self,
        input_ids: torch.Tensor,
        padding: Sequence[int] | None = None,
        criteria: StoppingCriteriaList | None = None,
        max_length: int | None = None,
        keep: Sequence[str] = (),
        attention_mask: torch.Tensor | None = None,
    ) -> None:
        batch, length = input_ids.shape
        criteria = criteria or StoppingCriteriaList()
        self.ids = input_ids
        self.ends = [length] * batch
        self.indices = list(range(batch))
        self._prompt_length = length
        self._padding = [0] * batch if padding is None else list(padding)
        self._masked = None if attention_mask is None else attention_mask == 0
        self._ends_on_device = to_device(self.ends, input_ids.device)[:, None]  # current while there are several
        self._finished: dict[int, torch.Tensor] = {}
        self._steps: dict[str, list[list[torch.Tensor]]] = {name: [[] for _ in self.ends] for name in keep}
        self.eos_token_ids = frozenset().union(
            *(end_tokens(c.eos_token_id) for c in criteria if isinstance(c, EosTokenCriteria))
        )
        # A length criterion of the caller replaces the one that `generate` makes
        limits = [c.max_length for c in criteria if type(c) is MaxLengthCriteria]
        self.max_length = min(limits) if limits else max_length if max_length is not None else 2**62
        self._criteria = StoppingCriteriaList(
            c for c in criteria if type(c) not in (EosTokenCriteria, MaxLengthCriteria)
        )

    @property
    def num_new_tokens(self) -> list[int]:
        """Number of tokens after the prompt, of each running sequence."""
        return [end - self._prompt_length for end in self.ends]

    def aligned(self) -> torch.Tensor:
        """The running sequences, aligned on the right, with -1 in place of padding and in front: shape `(A, L)`."""
        length = max(self.ends)
        if len(self.ends) == 1:
            ids = self.ids[:, :length].clone()
            ids[:, : self._padding[0]] = -1
            if self._masked is not None:
                ids[:, : self._prompt_length].masked_fill_(self._masked, -1)
            return ids
        device = self.ids.device
        places = self._ends_on_device - length + torch.arange(length, device=device)
        first = to_device(self._padding, device)[:, None]
        return self.ids.gather(1, places.clamp(min=0)).masked_fill(places < first, -1)

    def uncached(self, num_cached: Sequence[int]) -> tuple[torch.Tensor, list[int]]:
        """The tokens that a model has to read next.

        Args:
            num_cached (`Sequence[int]`): See [`ModelRunner`]. The last token of a sequence always counts as uncached.

        Returns:
            Tokens of shape `(A, n)`, n being what the sequence with the most uncached tokens needs; and the positions
            of their first ones, negative where padding precedes a prompt.
        """
        lengths = [end - padding for end, padding in zip(self.ends, self._padding, strict=True)]
        n = max(length - min(cached, length - 1) for length, cached in zip(lengths, num_cached, strict=True))
        starts = [length - n for length in lengths]
        if len(starts) == 1:
            return self.ids[:, self.ends[0] - n : self.ends[0]], starts
        places = self._ends_on_device - n + torch.arange(n, device=self.ids.device)
        return self.ids.gather(1, places), starts

    def tokens_until_end(
        self, i: int, new: Sequence[int], tokens: torch.Tensor, scores: torch.Tensor
    ) -> tuple[int, bool]:
        """How many of its `new` tokens running sequence i takes, and whether it then ends. `tokens`, shape `(A, n)`,
        are the new tokens of all sequences on the device, `scores`, shape `(A, n, V)`, their scores."""
        end = self.ends[i]
        if self._criteria:
            ids = torch.cat([self.ids[i : i + 1, :end], tokens[i : i + 1, : len(new)]], dim=-1)
            steps = None
            if "scores" in self._steps:
                steps = (*self._steps["scores"][self.indices[i]], *scores[i : i + 1].unbind(1))
        for count, token in enumerate(new, start=1):
            if token in self.eos_token_ids or end + count >= self.max_length:
                return count, True
            if self._criteria:
                seen = None if steps is None else steps[: len(steps) - scores.shape[1] + count]
                if bool(self._criteria(ids[:, : end + count], seen).all()):
                    return count, True
        return len(new), False

    def commit(self, tokens: torch.Tensor, counts: Sequence[int], **steps: torch.Tensor) -> None:
        """Append the first `counts[i]` of `tokens[i]`, shape `(A, n)`, to sequence i; `steps` are the `scores` and
        `logits` of the tokens, shape `(A, n, V)`."""
        for name, kept in self._steps.items():
            for i, count in enumerate(counts):
                kept[self.indices[i]] += steps[name][i : i + 1, :count].unbind(1)
        ends = [end + count for end, count in zip(self.ends, counts, strict=True)]
        if len(ends) == 1:
            self.ids = torch.cat([self.ids[:, : self.ends[0]], tokens[:, : counts[0]]], dim=-1)
        else:
            n = tokens.shape[1]
            missing = max(self.ends) + n - self.ids.shape[1]
            if missing > 0:
                self.ids = torch.nn.functional.pad(self.ids, (0, max(missing, self.ids.shape[1])))
            places = self._ends_on_device + torch.arange(n, device=tokens.device)
            self.ids = self.ids.scatter(1, places, tokens)
            self._ends_on_device = to_device(ends, self.ids.device)[:, None]
        self.ends = ends

    def select(self, running: Sequence[int]) -> None:
        """Continue with these sequences only; the others are finished."""
        for i in set(range(len(self.ends))) - set(running):
            self._finished[self.indices[i]] = self.ids[i, : self.ends[i]]
        kept = to_device(running, self.ids.device)
        self.ids, self._ends_on_device = self.ids[kept], self._ends_on_device[kept]
        self.ends, self._padding, self.indices = (
            [old[i] for i in running] for old in (self.ends, self._padding, self.indices)
        )

    def finished(self, pad_token_id: int) -> torch.Tensor:
        """All finished sequences in the order of the batch, padded on the right: shape `(B, longest)`."""
        ordered = [self._finished[index] for index in sorted(self._finished)]
        if len(ordered) == 1:
            return ordered[0][None]
        return torch.nn.utils.rnn.pad_sequence(ordered, batch_first=True, padding_value=pad_token_id)

    def step_outputs(self, name: str) -> tuple[torch.Tensor, ...] | None:
        """`scores` or `logits` as `generate` returns them: a tensor of shape `(B, V)` for each step, zeros for
        sequences that have ended; `None` if they are not kept."""
        if name not in self._steps:
            return None
        zeros = torch.zeros_like(self._steps[name][0][0])
        return tuple(torch.cat(step) for step in zip_longest(*self._steps[name], fillvalue=zeros))
