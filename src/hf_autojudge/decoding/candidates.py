"""Who proposes: our lean draft model, or any candidate source of transformers behind the same methods.

Checked with transformers 5.17.0 and 5.23.0 (the `CandidateGenerator` interface).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import LogitsProcessorList
from transformers.generation import CandidateGenerator

from hf_autojudge.decoding.length import Length
from hf_autojudge.decoding.passes import Passes
from hf_autojudge.decoding.passes import vocab_size as vocab_size_of
from hf_autojudge.decoding.processing import process
from hf_autojudge.decoding.text import Text
from hf_autojudge.decoding.verifier import sample


@dataclass(frozen=True)
class Candidates:
    """The candidate tokens of one round for A rows, on the target's device.

    Attributes:
        tokens (`torch.LongTensor` of shape `(A, K)`): K may be 0.
        counts (`list[int]`): How many of each row's tokens are candidates; what comes after is padding.
        logits (`torch.FloatTensor` of shape `(A, K, V)`, *optional*): The distributions they came from, unprocessed.
        scores (`torch.FloatTensor` of shape `(A, K, V)`, *optional*): The same after the logits processors: what they
            were sampled from. `None` for candidates that were not sampled.
        hidden (`torch.Tensor` of shape `(A, K + 1, H)`, *optional*): The draft's last hidden states at the context's
            last token and at the candidates.
    """

    tokens: torch.Tensor
    counts: list[int]
    logits: torch.Tensor | None = None
    scores: torch.Tensor | None = None
    hidden: torch.Tensor | None = None


class CandidateSource(Protocol):
    """Proposes candidate tokens, and is told what became of them."""

    @property
    def calls(self) -> int:
        """Forward passes of the draft so far, each counted once for every row it served."""
        ...

    def propose(self, text: Text, limits: Sequence[int]) -> Candidates:
        """At most `limits[i]` candidates for row i of the text."""
        ...

    def update(self, text: Text, found: Candidates, scores: torch.Tensor, accepted: Sequence[int]) -> None:
        """The text now ends in the round's emitted tokens, `accepted[i]` of row i from `found`; `scores` are the
        target's, of shape `(A, K + 1, V)`."""
        ...

    def select(self, kept: Sequence[int]) -> None:
        """Go on with these rows only."""
        ...

    def record_hidden(self) -> AbstractContextManager[None]:
        """While open, candidates come with hidden states. Only for sources that have some."""
        ...


class DraftCandidates(CandidateGenerator):
    """Drafts with a model, one pass a token, and keeps what judges read of the draft. Calls no `generate`.

    Args:
        draft ([`Passes`]): The draft, over the same texts.
        length (`Callable[[], Length]`): Makes, for each row, what decides how many candidates a round has.
        processors ([`LogitsProcessorList`], *optional*): Applied to the draft's logits, as to the target's.
        do_sample (`bool`, *optional*, defaults to `False`): Sample from the draft instead of taking its argmax.
        eos_token_ids (`set[int]`, *optional*): Drafting stops after one of them.
        vocab_size (`int`, *optional*): Size of the target's vocabulary. Models that share a tokenizer may pad their
            vocabularies differently: further logits of the draft are cut off, missing ones are never proposed.
        keep_logits (`bool`, *optional*, defaults to `False`): Return the draft's logits.
        keep_hidden (`bool`, *optional*, defaults to `False`): Return hidden states; costs a pass over the last
            candidate, which fills the cache for the next round.
        device (`torch.device`, *optional*): Where the candidates are wanted; default: where the draft is.
    """

    def __init__(
        self,
        draft: Passes,
        length: Callable[[], Length],
        processors: LogitsProcessorList | None = None,
        do_sample: bool = False,
        eos_token_ids: frozenset[int] = frozenset(),
        vocab_size: int | None = None,
        keep_logits: bool = False,
        keep_hidden: bool = False,
        device: torch.device | None = None,
    ) -> None:
        self.draft = draft
        self.processors = processors if processors is not None else LogitsProcessorList()
        self.do_sample = do_sample
        self.eos_token_ids = eos_token_ids
        self.keep_logits = keep_logits
        self.keep_hidden = keep_hidden
        self.device = device if device is not None else draft.model.device
        known = vocab_size_of(draft.model)
        self._vocab_size = vocab_size if vocab_size is not None else known
        self._last_token = known - 1
        self._make_length = length
        self._lengths: list[Length] = []  # of each row, once the first round begins

    @property
    def calls(self) -> int:
        return self.draft.calls

    def record_hidden(self) -> AbstractContextManager[None]:
        """See [`CandidateSource.record_hidden`]."""
        return self.draft.record_hidden()

    def propose(self, text: Text, limits: Sequence[int]) -> Candidates:
        """See [`CandidateSource.propose`]."""
        self._lengths = self._lengths or [self._make_length() for _ in limits]
        for length, limit in zip(self._lengths, limits, strict=True):
            length.begin(limit)
        tokens: list[torch.Tensor] = []
        logits: list[torch.Tensor] = []
        scores: list[torch.Tensor] = []
        hidden: list[torch.Tensor | None] = []
        while any(length.open for length in self._lengths):
            new = tokens[-1] if tokens else self.draft.unseen(text).to(self.draft.model.device)
            row, state = self._forward(new)
            hidden.append(state)
            score = process(self.processors, text, tokens, self._in_target_vocabulary(row))
            if self.do_sample:
                token = sample(score[:, 0].softmax(-1))
            else:
                token = score[:, 0].argmax(-1, keepdim=True)
            tokens.append(token)
            if self.keep_logits:
                logits.append(row[..., : self._vocab_size])
            if self.do_sample:
                scores.append(score)
            self._count(token, score)
        counts = [length.count for length in self._lengths]
        if not tokens:
            return Candidates(text.ids[:, :0], counts)
        if self.keep_hidden:
            hidden.append(self._forward(tokens[-1])[1])

        def joined(parts: Sequence[torch.Tensor | None]) -> torch.Tensor:
            return torch.cat([part for part in parts if part is not None], dim=1).to(self.device)

        return Candidates(
            joined(tokens),
            counts,
            joined(logits) if self.keep_logits else None,
            joined(scores) if self.do_sample else None,
            joined(hidden) if self.keep_hidden else None,
        )

    def _count(self, token: torch.Tensor, score: torch.Tensor) -> None:
        """Tell each row's length of its new candidate."""
        probabilities, ends = [1.0] * len(self._lengths), [False] * len(self._lengths)
        if self._lengths[0].confidence_threshold:
            probabilities = score[:, 0].softmax(-1).gather(-1, token)[:, 0].tolist()
        # On an accelerator the look would cost a synchronisation a token, and drafting on past the end is harmless:
        # the text ends at the end token, if that is kept.
        if token.device.type == "cpu" and self.eos_token_ids:
            ends = [t in self.eos_token_ids for t in token[:, 0].tolist()]
        for length, probability, end in zip(self._lengths, probabilities, ends, strict=True):
            if length.open:
                length.add(probability, end)

    def _forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        if self._vocab_size > self._last_token + 1:
            tokens = tokens.clamp(max=self._last_token)  # a token that the draft lacks must not crash it
        return self.draft.forward(tokens, rows=1)

    def _in_target_vocabulary(self, row: torch.Tensor) -> torch.Tensor:
        missing = self._vocab_size - row.shape[-1]
        if missing > 0:
            return torch.nn.functional.pad(row, (0, missing), value=-torch.inf)
        return row[..., : self._vocab_size] if missing else row

    def update(self, text: Text, found: Candidates, scores: torch.Tensor, accepted: Sequence[int]) -> None:
        """See [`CandidateSource.update`]. Keeps in the cache what is still the text, but its last token."""
        self.draft.keep(text)
        for length, kept in zip(self._lengths, accepted, strict=True):
            length.update(kept)

    def select(self, kept: Sequence[int]) -> None:
        """See [`CandidateSource.select`]."""
        self.draft.select(kept)
        self._lengths = [self._lengths[i] for i in kept]

    def get_candidates(self, input_ids: torch.Tensor, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The interface of transformers: `input_ids` with the candidates appended, and their processed logits if they
        were sampled."""
        found = self.propose(Text(input_ids), limits=[sys.maxsize])
        return torch.cat([input_ids, found.tokens.to(input_ids.device)], dim=-1), found.scores

    def update_candidate_strategy(self, input_ids: torch.Tensor, scores: torch.Tensor, num_matches: int) -> None:
        """The interface of transformers: see [`update`]."""
        found = Candidates(input_ids[:, :0], counts=[scores.shape[1] - 1])
        self.update(Text(input_ids), found, scores, [num_matches])


class TransformersCandidates:
    """Any candidate generator of transformers (prompt lookup, early exit, other tokenizers, ...) as a
    [`CandidateSource`], for one row.

    Args:
        generator ([`CandidateGenerator`]): Made by the model's own factory.
        device (`torch.device`): Where the candidates are wanted.
        do_sample (`bool`, *optional*, defaults to `False`): Whether the call samples.
        keep_logits (`bool`, *optional*, defaults to `False`): Whether the judge reads the draft's logits.
    """

    def __init__(
        self, generator: CandidateGenerator, device: torch.device, do_sample: bool = False, keep_logits: bool = False
    ) -> None:
        self.generator = generator
        self.device = device
        self.do_sample = do_sample
        self.keep_logits = keep_logits
        self.calls = 0

    def record_hidden(self) -> AbstractContextManager[None]:
        """See [`CandidateSource.record_hidden`]."""
        raise NotImplementedError(f"{type(self.generator).__name__} has no hidden states.")

    def propose(self, text: Text, limits: Sequence[int]) -> Candidates:
        """See [`CandidateSource.propose`]."""
        ids, scores = self.generator.get_candidates(text.ids)
        tokens = ids[:, text.ids.shape[1] :][:, : limits[0]].to(self.device)
        count = tokens.shape[1]
        if count == 0:
            return Candidates(tokens, [0])
        if scores is not None:
            scores = scores[:, :count].to(self.device, torch.float32)
        elif self.keep_logits:
            raise ValueError(
                f"This judge reads draft_logits, but {type(self.generator).__name__} has none; use a judge that reads "
                "the target only."
            )
        return Candidates(tokens, [count], scores, scores if self.do_sample else None)

    def update(self, text: Text, found: Candidates, scores: torch.Tensor, accepted: Sequence[int]) -> None:
        """See [`CandidateSource.update`]."""
        self.generator.update_candidate_strategy(text.ids, scores, accepted[0])

    def select(self, kept: Sequence[int]) -> None:
        """One row: nothing to choose from."""
