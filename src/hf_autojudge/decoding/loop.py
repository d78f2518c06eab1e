"""The one loop of judged decoding: `JudgedDecoding` is the callable that `generate(custom_generate=...)` runs."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    EosTokenCriteria,
    GenerationConfig,
    LogitsProcessorList,
    MaxLengthCriteria,
    PreTrainedModel,
    StoppingCriteriaList,
    UnbatchedClassifierFreeGuidanceLogitsProcessor,
)
from transformers.cache_utils import DynamicCache
from transformers.generation import GenerateDecoderOnlyOutput

from hf_autojudge.decoding.candidates import CandidateSource, process
from hf_autojudge.decoding.passes import CachedModel, unwrap_peft
from hf_autojudge.decoding.sources import DraftOptions, make_source
from hf_autojudge.decoding.stats import JudgeStats, Stopwatch
from hf_autojudge.decoding.verifier import (
    Verification,
    accepted_run,
    exact_match,
    judge_test,
    next_token,
    speculative_sampling,
)
from hf_autojudge.judges import Judge, Window
from hf_autojudge.judges.base import check_threshold

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from transformers.generation.streamers import BaseStreamer


class JudgedDecoding:
    """Assisted decoding that keeps the mismatches a judge accepts, for
    `model.generate(custom_generate=JudgedDecoding(...))`.

    `generate(judge=...)` makes one of these; use the class itself where `generate` must stay untouched. What
    transformers does not hand to a callable (draft, tokenizers, streamer) is carried here; `num_assistant_tokens`,
    `num_assistant_tokens_schedule`, `assistant_confidence_threshold` and `judge_threshold` are arguments of
    `generate`. For stop strings without `judge=`, pass `stopping_criteria=[StopStringCriteria(tokenizer, strings)]`.

    Args:
        judge ([`Judge`]): Decides which mismatches may stay.
        assistant_model ([`PreTrainedModel`], *optional*): The draft. Without it, the call must name another candidate
            source, such as `prompt_lookup_num_tokens`.
        judge_threshold (`float`, *optional*): Overrides the judge's own, in [0, 1].
        bonus_token (`bool`, *optional*, defaults to `True`): After a fully accepted window, also emit the target's
            next token. `False` is the round of the AutoJudge authors' code.
        tokenizer, assistant_tokenizer ([`PreTrainedTokenizerBase`], *optional*): The target's and the draft's, for a
            draft with another vocabulary.
        streamer ([`BaseStreamer`], *optional*): Receives the prompt, then the tokens of each round.

    Raises:
        TypeError: If `judge` is not a judge.
        ValueError: If `judge_threshold` is not in [0, 1], or the judge has no threshold.
    """

    def __init__(
        self,
        judge: Judge,
        assistant_model: PreTrainedModel | None = None,
        *,
        judge_threshold: float | None = None,
        bonus_token: bool = True,
        tokenizer: PreTrainedTokenizerBase | None = None,
        assistant_tokenizer: PreTrainedTokenizerBase | None = None,
        streamer: BaseStreamer | None = None,
    ) -> None:
        if not isinstance(judge, Judge):
            raise TypeError(
                f"judge= takes an AutoJudgeHead, a rule or another object with the methods of hf_autojudge.Judge; got "
                f"{type(judge).__name__}. To load one from the Hub: AutoJudgeHead.from_pretrained(...)."
            )
        self.judge = judge
        self.draft = None if assistant_model is None else unwrap_peft(assistant_model)
        self.threshold = self._checked_threshold(judge_threshold)
        self.bonus_token = bonus_token
        self.tokenizer = tokenizer
        self.assistant_tokenizer = assistant_tokenizer
        self.streamer = streamer

    def _checked_threshold(self, threshold: float | None) -> float | None:
        if threshold is None:
            return None
        if self.judge.threshold is None:
            raise ValueError(
                f"judge_threshold={threshold} was given, but {self.judge!r} is a rule without a threshold; change "
                "the rule's own arguments instead."
            )
        return check_threshold(threshold)

    @torch.no_grad()
    def __call__(
        self,
        model: PreTrainedModel,
        input_ids: torch.Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        # transformers routes arguments of the call to these by name
        num_assistant_tokens: int | None = None,
        num_assistant_tokens_schedule: str | None = None,
        assistant_confidence_threshold: float | None = None,
        judge_threshold: float | None = None,
        **model_kwargs: Any,
    ) -> torch.Tensor | GenerateDecoderOnlyOutput:
        """Generate. Called by transformers' `generate` with everything prepared.

        Returns:
            `torch.LongTensor` of shape `(1, length)`, or, with `return_dict_in_generate=True`,
            [`GenerateDecoderOnlyOutput`] with one more attribute `judge_stats`, a [`JudgeStats`].
        """
        _check_call(model, input_ids, generation_config, logits_processor, model_kwargs)
        threshold = self._checked_threshold(judge_threshold)
        threshold = self.threshold if threshold is None else threshold
        judge = _on_device(self.judge, model.device)
        options = DraftOptions.resolve(
            model,
            self.draft,
            generation_config,
            judge.window,
            num_assistant_tokens,
            num_assistant_tokens_schedule,
            assistant_confidence_threshold,
        )
        criteria = _Stopping(stopping_criteria, int(generation_config.max_length))
        source = make_source(
            model,
            self.draft,
            judge,
            options,
            generation_config,
            input_ids,
            logits_processor,
            model_kwargs,
            criteria.eos_token_ids,
            self.tokenizer,
            self.assistant_tokenizer,
        )
        if self.streamer is not None:
            self.streamer.put(input_ids.cpu())

        target = CachedModel(
            model,
            model_kwargs.pop("past_key_values"),
            {k: v for k, v in model_kwargs.items() if k not in ("logits_to_keep", "use_cache")},
        )
        with ExitStack() as stack:
            if "target_hidden" in judge.reads:
                stack.enter_context(target.record_hidden())
            if "draft_hidden" in judge.reads:
                stack.enter_context(source.draft.record_hidden())  # type: ignore[attr-defined]  # make_source checked it
            return self._decode(
                target, source, judge, threshold, input_ids, logits_processor, criteria, generation_config
            )

    def _decode(
        self,
        target: CachedModel,
        source: CandidateSource,
        judge: Judge,
        threshold: float | None,
        input_ids: torch.Tensor,
        processors: LogitsProcessorList,
        criteria: _Stopping,
        config: GenerationConfig,
    ) -> torch.Tensor | GenerateDecoderOnlyOutput:
        stats, watch = JudgeStats(), Stopwatch(target.model.device)
        keeps_scores = config.return_dict_in_generate and config.output_scores
        keeps_logits = config.return_dict_in_generate and config.output_logits
        all_scores: list[torch.Tensor] = []
        all_logits: list[torch.Tensor] = []
        prompt_length = input_ids.shape[1]
        done = False
        with watch.part("all"):
            while not done:
                # 1. Draft; every round adds at least one token of the target's
                known = input_ids.shape[1]
                with watch.part("draft"):
                    found = source.propose(input_ids, criteria.max_length - known - 1)
                k = found.tokens.shape[1]
                ids = torch.cat([input_ids, found.tokens], dim=-1)

                # 2. One target pass over the last token and the candidates (the first round: over the prompt and them)
                with watch.part("target"):
                    logits, states = target.forward(ids[:, target.length :], rows=k + 1)
                logits = logits.to(input_ids.device)
                scores = process(processors, ids, logits)
                if config.do_sample and found.scores is None:
                    choices = torch.multinomial(scores.softmax(-1).flatten(0, 1), num_samples=1).view(-1, k + 1)
                else:
                    choices = scores.argmax(-1)

                # 3. Which candidates stay, and what follows them
                v = Verification(
                    Window(found.tokens, choices[:, :-1], states, found.hidden, logits, found.logits),
                    scores,
                    found.scores,
                    choices,
                )
                sampling_test = config.do_sample and found.scores is not None
                standard = speculative_sampling if sampling_test else exact_match
                n, passed = accepted_run([standard, judge_test(judge, threshold)] if k else [standard], v)
                following = next_token(v, n, config.do_sample)
                # the round's only synchronisation with the device
                n_host, *rest = torch.cat([n, following, passed.long(), found.tokens], dim=-1)[0].tolist()
                emitted = rest[1 + k :][:n_host]
                if self.bonus_token or n_host < k or k == 0:
                    emitted.append(rest[0])

                # 4. Emit, up to the first token that ends the text
                new = torch.cat([found.tokens[:, :n_host], following], dim=-1)[:, : len(emitted)]
                grown = torch.cat([input_ids, new], dim=-1)
                if keeps_scores:
                    all_scores += scores[:, : len(emitted)].unbind(1)
                m, done = criteria.first_stop(grown, emitted, all_scores if keeps_scores else None)
                input_ids = grown[:, : known + m]
                del all_scores[input_ids.shape[1] - prompt_length :]
                if keeps_logits:
                    all_logits += logits[:, :m].unbind(1)
                if self.streamer is not None:
                    self.streamer.put(input_ids[:, known:].cpu())

                # 5. Both caches keep exactly the emitted tokens but the last
                target.rollback(target.length - (input_ids.shape[1] - 1))
                with watch.part("draft"):
                    source.update(input_ids, scores, min(n_host, m))

                kept = min(n_host, m)
                matched = sum(rest[1 : 1 + kept])
                stats.rounds += 1
                stats.new_tokens += m
                stats.drafted += k
                stats.matched += matched
                stats.accepted_by_judge += kept - matched
                stats.histogram[kept] += 1
        if self.streamer is not None:
            self.streamer.end()
        stats.target_calls = target.calls
        stats.draft_calls = source.calls
        stats.draft_seconds = watch.seconds("draft")
        stats.target_seconds = watch.seconds("target")
        stats.other_seconds = watch.seconds("all") - stats.draft_seconds - stats.target_seconds
        if not config.return_dict_in_generate:
            return input_ids
        output = GenerateDecoderOnlyOutput(
            sequences=input_ids,
            scores=tuple(all_scores) if keeps_scores else None,
            logits=tuple(all_logits) if keeps_logits else None,
            past_key_values=target.cache,
        )
        output.judge_stats = stats
        return output


class _Stopping:
    """Where the text ends, to the token. End tokens and the length are looked up on the host, where the tokens already
    are; other criteria see every prefix, as in plain `generate`."""

    def __init__(self, criteria: StoppingCriteriaList, max_length: int) -> None:
        eos = [c.eos_token_id for c in criteria if isinstance(c, EosTokenCriteria)]
        self.eos_token_ids = frozenset(token for ids in eos for token in ids.flatten().tolist())
        # a length criterion of the caller's replaces the one that `generate` makes
        self.max_length = min((c.max_length for c in criteria if type(c) is MaxLengthCriteria), default=max_length)
        self.others = StoppingCriteriaList(c for c in criteria if type(c) not in (EosTokenCriteria, MaxLengthCriteria))

    def first_stop(self, ids: torch.Tensor, emitted: list[int], scores: list[torch.Tensor] | None) -> tuple[int, bool]:
        """How many of the emitted tokens stand, and whether the text then ends. `ids` and `scores` end in theirs."""
        for i, token in enumerate(emitted, start=1):
            later = len(emitted) - i
            length = ids.shape[1] - later
            if token in self.eos_token_ids or length >= self.max_length:
                return i, True
            if self.others:
                seen = None if scores is None else tuple(scores[: len(scores) - later])
                if bool(self.others(ids[:, :length], seen).all()):
                    return i, True
        return len(emitted), False


def _on_device(judge: Judge, device: torch.device) -> Judge:
    """Move a trained head next to the target; rules have no device."""
    if isinstance(judge, torch.nn.Module) and any(p.device != device for p in judge.parameters()):
        judge.to(device)
    return judge


def _check_call(
    model: PreTrainedModel,
    input_ids: torch.Tensor,
    config: GenerationConfig,
    processors: LogitsProcessorList,
    model_kwargs: dict[str, Any],
) -> None:
    """Refuse what judged decoding cannot do, in one sentence each."""
    name = type(model).__name__
    cache = model_kwargs.get("past_key_values")
    problem = None
    if model.config.is_encoder_decoder:
        problem = f"{name} is an encoder-decoder; judge= works with decoder-only models."
    elif model._is_stateful:
        problem = (
            f"{name} keeps a recurrent state that cannot be rolled back; judge= works with attention caches only."
        )
    elif (config.num_beams or 1) > 1:
        problem = f"num_beams={config.num_beams} was given; judge= works without beams, so leave it at 1."
    elif (config.num_return_sequences or 1) > 1:
        problem = (
            f"num_return_sequences={config.num_return_sequences} was given; judge= returns one sequence a prompt, "
            "so call generate once for each."
        )
    elif any(isinstance(p, UnbatchedClassifierFreeGuidanceLogitsProcessor) for p in processors):
        problem = "guidance_scale keeps a cache of its own that cannot be rolled back; judge= works without it."
    elif model_kwargs.get("inputs_embeds") is not None:
        problem = "`inputs_embeds` was given, but the draft reads tokens; pass `input_ids`."
    elif input_ids.shape[1] == 0:
        problem = "The prompt is empty (input_ids has 0 tokens); pass at least one token, for instance the BOS token."
    elif input_ids.shape[0] != 1:
        problem = (
            f"judge= decodes one prompt at a time; got a batch of {input_ids.shape[0]}. Call generate for each prompt."
        )
    elif not model_kwargs.get("use_cache", True):
        problem = "use_cache=False was given; judge= needs the cache."
    elif config.output_attentions or config.output_hidden_states:
        problem = "output_attentions and output_hidden_states are not collected with judge=; leave them off."
    elif not isinstance(cache, DynamicCache):
        problem = f"A {type(cache).__name__} cannot be rolled back; judge= needs a DynamicCache (the default)."
    elif cache.get_seq_length() >= input_ids.shape[1]:
        problem = (
            f"past_key_values holds {cache.get_seq_length()} tokens and input_ids {input_ids.shape[1]}; pass the "
            "whole text as input_ids, the cached tokens included."
        )
    if problem:
        raise ValueError(problem)
