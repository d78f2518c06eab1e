"""Who proposes: our lean draft model, or any candidate source of transformers behind the same two methods.

Checked with transformers 5.17.0 and 5.23.0 (the `CandidateGenerator` interface).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from transformers import LogitsProcessorList
from transformers.generation import CandidateGenerator

from hf_autojudge.decoding.passes import CachedModel
from hf_autojudge.decoding.passes import vocab_size as vocab_size_of

Schedule = Literal["constant", "heuristic", "heuristic_transient"]


@dataclass(frozen=True)
class Candidates:
    """The K candidate tokens of one round, on the target's device; K may be 0.

    Attributes:
        tokens (`torch.LongTensor` of shape `(B, K)`)
        logits (`torch.FloatTensor` of shape `(B, K, V)`, *optional*): The distributions they came from, unprocessed.
        scores (`torch.FloatTensor` of shape `(B, K, V)`, *optional*): The same after the logits processors: what they
            were chosen or sampled from. `None` for sources without a model.
        hidden (`torch.Tensor` of shape `(B, K + 1, H)`, *optional*): The draft's last hidden states at the context's
            last token and at the candidates.
    """

    tokens: torch.Tensor
    logits: torch.Tensor | None = None
    scores: torch.Tensor | None = None
    hidden: torch.Tensor | None = None


class CandidateSource(Protocol):
    """Proposes candidate tokens, and is told what became of them."""

    @property
    def calls(self) -> int:
        """Forward passes of the draft so far."""
        ...

    def propose(self, input_ids: torch.Tensor, limit: int) -> Candidates:
        """At most `limit` candidates that follow `input_ids`, a tensor of shape `(B, length)`."""
        ...

    def update(self, input_ids: torch.Tensor, scores: torch.Tensor, n_accepted: int) -> None:
        """`input_ids` now ends in the round's emitted tokens, `n_accepted` of them candidates; `scores` are the
        target's, of shape `(B, K + 1, V)`."""
        ...


def process(processors: LogitsProcessorList, input_ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Apply logits processors to rows of logits, as transformers does in assisted decoding.

    Args:
        processors ([`LogitsProcessorList`]): With none, `logits` comes back as it is.
        input_ids (`torch.LongTensor` of shape `(B, length + n - 1)`): Ends in the tokens before the last row.
        logits (`torch.FloatTensor` of shape `(B, n, V)`): Row i follows `input_ids[:, : length + i]`.
    """
    if not processors:
        return logits
    rows = logits.shape[1]
    start = input_ids.shape[1] - rows + 1
    return torch.stack([processors(input_ids[:, : start + i], logits[:, i].clone()) for i in range(rows)], dim=1)


class DraftCandidates(CandidateGenerator):
    """Drafts with a model, one pass a token, and keeps the draft's logits and hidden states. Calls no `generate`.

    Args:
        draft ([`CachedModel`]): The draft and its cache.
        num_tokens (`int`): Candidates a round.
        processors ([`LogitsProcessorList`], *optional*): Applied to the draft's logits, as to the target's.
        do_sample (`bool`, *optional*, defaults to `False`): Sample from the draft instead of taking its argmax.
        schedule (`str`, *optional*, defaults to `"constant"`): `"heuristic"` and `"heuristic_transient"` add 2 after a
            fully accepted window and take 1 away after any other, as transformers does. Each call starts afresh.
        confidence_threshold (`float`, *optional*, defaults to `0`): Stop drafting after a token to which the draft
            gave a lower probability; 0 never stops. The threshold stays as it is (transformers moves it between
            rounds).
        eos_token_ids (`set[int]`, *optional*): Drafting stops after one of them.
        vocab_size (`int`, *optional*): Size of the target's vocabulary. Models that share a tokenizer may pad their
            vocabularies differently: further logits of the draft are cut off, missing ones are never proposed.
        keep_hidden (`bool`, *optional*, defaults to `False`): Return hidden states; costs a pass over the last
            candidate, which fills the cache for the next round.
        device (`torch.device`, *optional*): Where the candidates are wanted; default: where the draft is.
    """

    def __init__(
        self,
        draft: CachedModel,
        num_tokens: int,
        processors: LogitsProcessorList | None = None,
        do_sample: bool = False,
        schedule: Schedule = "constant",
        confidence_threshold: float = 0.0,
        eos_token_ids: frozenset[int] = frozenset(),
        vocab_size: int | None = None,
        keep_hidden: bool = False,
        device: torch.device | None = None,
    ) -> None:
        self.draft = draft
        self.num_tokens = num_tokens
        self.processors = processors if processors is not None else LogitsProcessorList()
        self.do_sample = do_sample
        self.schedule = schedule
        self.confidence_threshold = confidence_threshold
        self.eos_token_ids = eos_token_ids
        self.vocab_size = vocab_size
        self.keep_hidden = keep_hidden
        self._known_tokens = vocab_size_of(draft.model)
        self.device = device if device is not None else draft.model.device

    @property
    def calls(self) -> int:
        return self.draft.calls

    def propose(self, input_ids: torch.Tensor, limit: int) -> Candidates:
        """See [`CandidateSource.propose`]."""
        ids = input_ids.to(self.draft.model.device)
        known = ids.shape[1]
        tokens: list[torch.Tensor] = []
        logits: list[torch.Tensor] = []
        scores: list[torch.Tensor] = []
        hidden: list[torch.Tensor | None] = []
        while len(tokens) < min(self.num_tokens, limit):
            row, state = self._forward(ids)
            row = row[..., : self.vocab_size]
            missing = 0 if self.vocab_size is None else self.vocab_size - row.shape[-1]
            score = process(self.processors, ids, torch.nn.functional.pad(row, (0, missing), value=-torch.inf))
            if self.do_sample:
                token = torch.multinomial(score[:, 0].softmax(-1), num_samples=1)
            else:
                token = score[:, 0].argmax(-1, keepdim=True)
            ids = torch.cat([ids, token], dim=-1)
            tokens.append(token)
            logits.append(row)
            scores.append(score)
            hidden.append(state)
            if self._stops(token, score):
                break
        if not tokens:
            return Candidates(ids[:, known:].to(self.device))
        if self.keep_hidden:
            hidden.append(self._forward(ids)[1])
        return Candidates(
            torch.cat(tokens, dim=-1).to(self.device),
            torch.cat(logits, dim=1).to(self.device),
            torch.cat(scores, dim=1).to(self.device),
            torch.cat([h for h in hidden if h is not None], dim=1).to(self.device) if self.keep_hidden else None,
        )

    def _forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Run what the draft has not seen; rows of its last token."""
        new = ids[:, self.draft.length :]
        return self.draft.forward(new.clamp(max=self._known_tokens - 1), rows=1)  # a token it lacks must not crash it

    def _stops(self, token: torch.Tensor, score: torch.Tensor) -> bool:
        if self.confidence_threshold:
            confidence = score[:, 0].softmax(-1).gather(-1, token)
            if confidence.min() < self.confidence_threshold:
                return True
        # On an accelerator the look would cost a synchronisation a token, and drafting on past the end is harmless:
        # the text ends at the end token, if that is kept.
        return token.device.type == "cpu" and bool(self.eos_token_ids) and token.item() in self.eos_token_ids

    def update(self, input_ids: torch.Tensor, scores: torch.Tensor, n_accepted: int) -> None:
        """See [`CandidateSource.update`]. Keeps in the cache what is still the text, but its last token."""
        self.draft.rollback(max(0, self.draft.length - (input_ids.shape[1] - 1)))
        if self.schedule != "constant":
            full = n_accepted == scores.shape[1] - 1
            self.num_tokens = self.num_tokens + 2 if full else max(1, self.num_tokens - 1)

    def get_candidates(self, input_ids: torch.Tensor, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The interface of transformers: `input_ids` with the candidates appended, and their processed logits."""
        found = self.propose(input_ids, limit=self.num_tokens)
        return torch.cat([input_ids, found.tokens.to(input_ids.device)], dim=-1), found.scores

    def update_candidate_strategy(self, input_ids: torch.Tensor, scores: torch.Tensor, num_matches: int) -> None:
        """The interface of transformers: see [`update`]."""
        self.update(input_ids, scores, num_matches)


class TransformersCandidates:
    """Any candidate generator of transformers (prompt lookup, early exit, other tokenizers, ...) as a
    [`CandidateSource`].

    Args:
        generator ([`CandidateGenerator`]): Made by the model's own factory.
        device (`torch.device`): Where the candidates are wanted.
        needs_logits (`bool`, *optional*, defaults to `False`): Whether the judge reads the draft's logits.
    """

    def __init__(self, generator: CandidateGenerator, device: torch.device, needs_logits: bool = False) -> None:
        self.generator = generator
        self.device = device
        self.needs_logits = needs_logits
        self.calls = 0

    def propose(self, input_ids: torch.Tensor, limit: int) -> Candidates:
        """See [`CandidateSource.propose`]."""
        ids, scores = self.generator.get_candidates(input_ids)
        tokens = ids[:, input_ids.shape[1] :][:, :limit].to(self.device)
        if tokens.shape[1] == 0:
            return Candidates(tokens)
        if scores is not None:
            scores = scores[:, : tokens.shape[1]].to(self.device, torch.float32)
        elif self.needs_logits:
            raise ValueError(
                f"This judge reads draft_logits, but {type(self.generator).__name__} has none; use a judge that reads "
                "the target only."
            )
        return Candidates(tokens, scores, scores)

    def update(self, input_ids: torch.Tensor, scores: torch.Tensor, n_accepted: int) -> None:
        """See [`CandidateSource.update`]."""
        self.generator.update_candidate_strategy(input_ids, scores, n_accepted)
