"""Answer prompts with any strategy of a frontier, greedily, one prompt or a batch of them at a time."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_autojudge.decoding.candidates import DraftLength
from hf_autojudge.evaluation.strategies import ASSISTED, DRAFT, EXACT, PLAIN, DecodingStrategy
from hf_autojudge.judges import ExactMatchRule, Judge
from hf_autojudge.runners.base import end_tokens, vocab_size
from hf_autojudge.runners.batched import BatchedRunner

Prompt = Sequence[int]


@dataclass(frozen=True)
class DecodedAnswer:
    """The tokens of one answer, and what they took.

    Attributes:
        tokens (`list[int]`): New tokens, up to and including the first end token.
        target_calls (`int`): Forward passes of the target, prefill included; 0 for the draft alone.
        histogram (`Counter[int]`): Number of rounds in which n candidates were emitted, by n. Empty for baselines that
            do not count them.
    """

    tokens: list[int]
    target_calls: int
    histogram: Counter[int] = field(default_factory=Counter)


class Decoder:
    """A pair of models that answers prompts with any strategy.

    Args:
        target, draft ([`PreTrainedModel`])
        judges (`Mapping[str, Judge]`): By name.
        tokenizer ([`PreTrainedTokenizerBase`]): Of both models.
        draft_length ([`DraftLength`]): Of every strategy that drafts.
        max_new_tokens (`int`): Maximum length of an answer.

    Attributes:
        end_tokens (`frozenset[int]`): The target's; the draft alone stops at them too.
    """

    def __init__(
        self,
        target: PreTrainedModel,
        draft: PreTrainedModel,
        judges: Mapping[str, Judge],
        tokenizer: PreTrainedTokenizerBase,
        draft_length: DraftLength,
        max_new_tokens: int,
    ) -> None:
        self.target, self.draft = target, draft
        self.end_tokens = end_tokens(target.generation_config.eos_token_id)
        self._judges = {EXACT: ExactMatchRule(), **judges}
        self._drafting = {
            "num_assistant_tokens": draft_length.num_assistant_tokens,
            "num_assistant_tokens_schedule": draft_length.schedule,
            "assistant_confidence_threshold": draft_length.confidence_threshold,
        }
        self._tokenizers = {"tokenizer": tokenizer, "assistant_tokenizer": tokenizer}
        padding = tokenizer.pad_token_id
        self._pad_token_id = min(self.end_tokens, default=0) if padding is None else padding
        self._options = {"max_new_tokens": max_new_tokens, "do_sample": False, "num_beams": 1}

    def decode(self, strategy: DecodingStrategy, prompts: Sequence[Prompt]) -> list[DecodedAnswer]:
        """The answer to each prompt. In float32 it does not depend on the other prompts."""
        if strategy.name == PLAIN:
            answers, _ = self._generate(self.target, prompts)
            return [DecodedAnswer(tokens, target_calls=len(tokens)) for tokens in answers]  # one pass per token
        if strategy.name == DRAFT:
            ends = {"eos_token_id": sorted(self.end_tokens)} if self.end_tokens else {}
            answers, _ = self._generate(self.draft, prompts, **ends)
            return [DecodedAnswer(tokens, target_calls=0) for tokens in answers]
        if strategy.name == ASSISTED:
            # transformers compares tokenizers where vocabularies are padded to different sizes, and only there
            same_size = vocab_size(self.target) == vocab_size(self.draft)
            tokenizers = {} if same_size else self._tokenizers
            with generation_settings(self.draft, self._drafting), counted_calls(self.target) as calls:
                [tokens], _ = self._generate(self.target, prompts, assistant_model=self.draft, **tokenizers)
            return [DecodedAnswer(tokens, len(calls))]
        answers, output = self._generate(
            self.target,
            prompts,
            assistant_model=self.draft,
            judge=self._judges[strategy.judge],
            judge_threshold=strategy.threshold,
            **self._drafting,
            **self._tokenizers,
        )
        return [
            DecodedAnswer(tokens, stats.target_calls, stats.histogram)
            for tokens, stats in zip(answers, output.sequence_stats, strict=True)
        ]

    def _generate(
        self, model: PreTrainedModel, prompts: Sequence[Prompt], **options: Any
    ) -> tuple[list[list[int]], Any]:
        """New tokens of each prompt, and the output of `generate`."""
        width = max(map(len, prompts))
        pad = self._pad_token_id
        ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        output = model.generate(
            ids.clamp(max=vocab_size(model) - 1).to(model.device),
            attention_mask=mask.to(model.device),
            pad_token_id=pad,
            return_dict_in_generate=True,
            **self._options,
            **options,
        )
        return [self._until_end(tokens) for tokens in output.sequences[:, width:].tolist()], output

    def _until_end(self, tokens: list[int]) -> list[int]:
        """Tokens up to and including the first end token. What follows is padding, or tokens that transformers'
        assisted generation wrote past it."""
        return next((tokens[: i + 1] for i, token in enumerate(tokens) if token in self.end_tokens), tokens)


def batch_problem(target: PreTrainedModel, draft: PreTrainedModel, max_length: int) -> str | None:
    """Why the pair cannot decode several sequences of that many tokens at once, in one sentence; `None` if it can."""
    try:
        for model in (target, draft):
            BatchedRunner(model, num_sequences=1, max_length=max_length)
    except ValueError as error:
        return str(error)
    return None


@contextmanager
def generation_settings(model: PreTrainedModel, settings: Mapping[str, Any]) -> Iterator[None]:
    """Change settings of a model's generation config within the `with` block; afterwards the model has its own,
    unchanged config object back. transformers reads how to draft from there and ignores it in the call."""
    original = model.generation_config
    model.generation_config = copy.deepcopy(original)
    for name, value in settings.items():
        setattr(model.generation_config, name, value)
    try:
        yield
    finally:
        model.generation_config = original


@contextmanager
def counted_calls(model: torch.nn.Module) -> Iterator[list[None]]:
    """A list that grows by one entry with each forward pass of the model."""
    calls: list[None] = []
    handle = model.register_forward_pre_hook(lambda _module, _args: calls.append(None))
    try:
        yield calls
    finally:
        handle.remove()
