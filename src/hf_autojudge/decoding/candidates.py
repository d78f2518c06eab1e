"""Who proposes the candidate tokens: a draft model, or any candidate generator of transformers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import torch
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel
from transformers.generation import CandidateGenerator

from hf_autojudge.decoding.logits import process, sample
from hf_autojudge.decoding.sequences import Sequences
from hf_autojudge.judges import Judge
from hf_autojudge.runners.base import ModelRunner

Schedule = Literal["constant", "heuristic", "heuristic_transient"]
DEFAULT_NUM_ASSISTANT_TOKENS = 20  # as in transformers


@dataclass(frozen=True)
class DraftLength:
    """When drafting stops: after `num_assistant_tokens` candidates, and after a candidate whose probability is below
    the confidence threshold (constant here, while transformers adapts it between rounds; 0 never stops).

    With a heuristic schedule the number grows by 2 after a fully accepted round and shrinks by 1 after any other, as
    in transformers; each call starts with the given number, so `"heuristic_transient"` is `"heuristic"`.

    Raises:
        ValueError: For a number of tokens below 1, an unknown schedule, or a confidence threshold outside [0, 1].
    """

    num_assistant_tokens: int = DEFAULT_NUM_ASSISTANT_TOKENS
    schedule: Schedule = "constant"
    confidence_threshold: float = 0.0

    def __post_init__(self) -> None:
        n, schedules = self.num_assistant_tokens, get_args(Schedule)
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise ValueError(f"num_assistant_tokens must be a whole number of at least 1; got {n!r}.")
        if self.schedule not in schedules:
            raise ValueError(f"num_assistant_tokens_schedule must be one of {schedules}; got {self.schedule!r}.")
        if not 0 <= self.confidence_threshold <= 1:
            raise ValueError(f"assistant_confidence_threshold must lie in [0, 1]; got {self.confidence_threshold}.")

    @classmethod
    def resolve(
        cls,
        target: PreTrainedModel,
        draft: PreTrainedModel | None,
        judges: Iterable[Judge] = (),
        config: GenerationConfig | None = None,
        num_assistant_tokens: int | None = None,
        schedule: Any = None,
        confidence_threshold: float | None = None,
    ) -> DraftLength:
        """The options of a call: what it gives, else the call's generation config, else the target's, the draft's, the
        first judge's that names one, and the defaults."""
        defaults = GenerationConfig._get_default_generation_params()
        suggested = [(j.num_assistant_tokens, getattr(j, "assistant_confidence_threshold", None)) for j in judges]
        numbers, confidences = zip(*suggested, strict=True) if suggested else ((), ())

        def first(given: Any, name: str, *others: Any) -> Any:
            # transformers has filled the call's config with its defaults: only another value was set by the caller
            merged = getattr(config, name, None)
            models = [getattr(model.generation_config, name) for model in (target, draft) if model is not None]
            found = [given, None if merged == defaults[name] else merged, *models, *others]
            return next(value for value in found if value is not None)

        return cls(
            first(num_assistant_tokens, "num_assistant_tokens", *numbers, DEFAULT_NUM_ASSISTANT_TOKENS),
            first(schedule, "num_assistant_tokens_schedule", "constant"),
            float(first(confidence_threshold, "assistant_confidence_threshold", *confidences, 0.0)),
        )


@dataclass(frozen=True)
class Candidates:
    """The candidate tokens of one round for A sequences, on the target's device.

    Attributes:
        tokens (`torch.LongTensor` of shape `(A, K)`): K may be 0.
        counts (`list[int]`): How many of each sequence's tokens are candidates; the rest is padding.
        logits (`torch.FloatTensor` of shape `(A, K, V)`, *optional*): The distributions they came from, unprocessed.
        scores (`torch.FloatTensor` of shape `(A, K, V)`, *optional*): The same after the logits processors, over the
            target's vocabulary.
        sampled (`bool`, *optional*, defaults to `False`): Whether the tokens were drawn from `scores`.
        hidden (`torch.Tensor` of shape `(A, K + 1, H)`, *optional*): The draft's last hidden states at the context's
            last token and at the candidates.
    """

    tokens: torch.Tensor
    counts: list[int]
    logits: torch.Tensor | None = None
    scores: torch.Tensor | None = None
    hidden: torch.Tensor | None = None
    sampled: bool = False


class CandidateSource(Protocol):
    """Proposes candidate tokens, and learns how many were accepted."""

    calls: int  # forward passes of the draft so far, each counted once for every sequence in it

    def propose(self, sequences: Sequences) -> Candidates:
        """Candidates for each running sequence: fewer than it may still grow by, since every round adds one token of
        the target's."""

    def update(self, sequences: Sequences, target_scores: torch.Tensor, accepted: Sequence[int]) -> None:
        """The round's tokens are committed, `accepted[i]` candidates of sequence i among them."""

    def select(self, running: Sequence[int]) -> None:
        """Continue with these sequences only."""


class DraftCandidates(CandidateGenerator):
    """Drafts with a model, one pass per token, and keeps what judges read of the draft. Does not call `generate`.
    Drafting also stops after an end token.

    Args:
        runner ([`ModelRunner`]): The draft's.
        length ([`DraftLength`])
        processors ([`LogitsProcessorList`], *optional*): Applied to the draft's logits, as to the target's.
        do_sample (`bool`, *optional*, defaults to `False`): Sample from the draft instead of taking its argmax.
        target_vocab_size (`int`, *optional*): Models that share a tokenizer may pad their vocabularies differently:
            the draft's additional logits are cut off, its missing ones are never proposed.
        keep_logits (`bool`, *optional*, defaults to `False`): Return the draft's logits.
        keep_hidden (`bool`, *optional*, defaults to `False`): Return the runner's hidden states; this costs a pass
            over the last candidate, which fills the cache for the next round.
    """

    def __init__(
        self,
        runner: ModelRunner,
        length: DraftLength,
        processors: LogitsProcessorList | None = None,
        do_sample: bool = False,
        target_vocab_size: int | None = None,
        keep_logits: bool = False,
        keep_hidden: bool = False,
        keep_scores: bool = False,
    ) -> None:
        self.runner = runner
        self.processors = processors if processors is not None else LogitsProcessorList()
        self.do_sample = do_sample
        self.keep_logits = keep_logits
        self.keep_hidden = keep_hidden
        self.keep_scores = keep_scores or do_sample
        self.calls = 0
        self._length = length
        self._vocab_size = target_vocab_size
        self._num_assistant_tokens = [length.num_assistant_tokens] * len(runner.num_cached)
        self._counts: list[int] = []

    def propose(self, sequences: Sequences) -> Candidates:
        """See [`CandidateSource.propose`]."""
        limits = [sequences.max_length - end - 1 for end in sequences.ends]
        limits = [min(n, limit) for n, limit in zip(self._num_assistant_tokens, limits, strict=True)]
        counts = [0] * len(limits)
        drafting = [i for i, limit in enumerate(limits) if limit > 0]
        tokens: list[torch.Tensor] = []
        logits: list[torch.Tensor] = []
        scores: list[torch.Tensor] = []
        hidden: list[Any] = []
        device = sequences.ids.device
        new, starts = sequences.uncached(self.runner.num_cached)
        while drafting:
            logit, state = self.runner.forward(new, starts, logits_to_keep=1)
            starts = self.runner.num_cached
            score = logit = logit.to(device, torch.float32)
            if self._vocab_size is not None and (missing := self._vocab_size - logit.shape[-1]):
                score = torch.nn.functional.pad(logit, (0, missing), value=-torch.inf)
                logit = logit[..., : self._vocab_size]
            if self.processors:
                score = process(self.processors, sequences, tokens, score)
            if self.do_sample:
                new = sample(score[:, 0].softmax(-1))
            else:
                new = score[:, 0].argmax(-1, keepdim=True)
            tokens.append(new)
            if self.keep_scores:
                scores.append(score)
            if self.keep_logits:
                logits.append(logit)
            if self.keep_hidden:
                hidden.append(state)
            # On an accelerator this look would cost a synchronization per token, and drafting past the end is
            # harmless: the sequence ends at the end token, if that is accepted
            ended = new[:, 0].tolist() if new.device.type == "cpu" and sequences.eos_token_ids else None
            sure = None
            if threshold := self._length.confidence_threshold:
                sure = (score[:, 0].softmax(-1).gather(-1, new) >= threshold)[:, 0].tolist()
            for i in tuple(drafting):
                counts[i] += 1
                is_end = ended is not None and ended[i] in sequences.eos_token_ids
                if counts[i] == limits[i] or is_end or (sure is not None and not sure[i]):
                    drafting.remove(i)
        self._counts = counts
        if not tokens:
            return Candidates(sequences.ids[:, :0], counts)
        if self.keep_hidden:
            hidden.append(self.runner.forward(new, starts, logits_to_keep=1)[1])
        self.calls += len(counts) * (len(tokens) + self.keep_hidden)
        return Candidates(
            torch.cat(tokens, dim=1),
            counts,
            torch.cat(logits, dim=1) if self.keep_logits else None,
            torch.cat(scores, dim=1) if self.keep_scores else None,
            torch.cat(hidden, dim=1).to(device) if self.keep_hidden else None,
            self.do_sample,
        )

    def update(self, sequences: Sequences, target_scores: torch.Tensor, accepted: Sequence[int]) -> None:
        """See [`CandidateSource.update`]."""
        if self._length.schedule != "constant":
            self._num_assistant_tokens = [
                n + 2 if kept == count else max(1, n - 1)
                for n, kept, count in zip(self._num_assistant_tokens, accepted, self._counts, strict=True)
            ]

    def select(self, running: Sequence[int]) -> None:
        """See [`CandidateSource.select`]."""
        self.runner.select(running)
        self._num_assistant_tokens = [self._num_assistant_tokens[i] for i in running]

    def get_candidates(self, input_ids: torch.Tensor, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The interface of transformers: `input_ids` with the candidates appended, and their processed logits if they
        were sampled."""
        candidates = self.propose(Sequences(input_ids))
        scores = candidates.scores if candidates.sampled else None
        return torch.cat([input_ids, candidates.tokens], dim=-1), scores

    def update_candidate_strategy(self, input_ids: torch.Tensor, scores: torch.Tensor, num_matches: int) -> None:
        """The interface of transformers: see [`update`]."""
        self.update(Sequences(input_ids), scores, [num_matches])
