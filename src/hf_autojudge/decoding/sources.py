"""From the arguments of a call to its candidate source.

The only file that calls `model._get_candidate_generator`; checked with transformers 5.17.0 and 5.23.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

from transformers import GenerationConfig, PreTrainedModel

from hf_autojudge.decoding.call import Call
from hf_autojudge.decoding.candidates import CandidateSource, DraftCandidates, TransformersCandidates
from hf_autojudge.decoding.length import Length, Schedule
from hf_autojudge.decoding.passes import hidden_size, vocab_size
from hf_autojudge.judges import Judge

DEFAULT_NUM_ASSISTANT_TOKENS = 20  # transformers' own
SCHEDULES = get_args(Schedule)


@dataclass(frozen=True)
class DraftOptions:
    """How the draft drafts. The call is honoured first, then the target's generation config, then the draft's, then
    the judge's window, then the default (20 tokens, constant, no confidence threshold)."""

    num_tokens: int
    schedule: Schedule
    confidence_threshold: float

    @classmethod
    def resolve(
        cls,
        call: Call,
        judge_window: int | None,
        num_tokens: int | None,
        schedule: str | None,
        confidence_threshold: float | None,
    ) -> DraftOptions:
        """Raises `ValueError` for a number of tokens below 1, an unknown schedule, a confidence threshold outside
        [0, 1], or a growing schedule with a static cache."""
        defaults = GenerationConfig._get_default_generation_params()

        def first(given: Any, name: str, otherwise: Any) -> Any:
            if given is not None:
                return given
            # transformers has filled the merged config with its defaults: only another value was set by somebody
            if (merged := getattr(call.config, name)) != defaults[name]:
                return merged
            for model in (call.model, call.draft):
                if model is not None and getattr(model.generation_config, name) is not None:
                    return getattr(model.generation_config, name)
            return otherwise

        n = first(num_tokens, "num_assistant_tokens", judge_window or DEFAULT_NUM_ASSISTANT_TOKENS)
        s = first(schedule, "num_assistant_tokens_schedule", "constant")
        c = first(confidence_threshold, "assistant_confidence_threshold", 0.0)
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise ValueError(f"num_assistant_tokens must be a whole number of at least 1; got {n!r}.")
        if s not in SCHEDULES:
            raise ValueError(f"num_assistant_tokens_schedule must be one of {SCHEDULES}; got {s!r}.")
        if not 0 <= c <= 1:
            raise ValueError(f"assistant_confidence_threshold must lie in [0, 1]; got {c}.")
        if s != "constant" and call.engine == "static":
            raise ValueError(
                f'num_assistant_tokens_schedule="{s}" lets the window grow, which a static cache cannot; use '
                '"constant".'
            )
        return cls(n, s, float(c))


def make_source(call: Call, judge: Judge, options: DraftOptions) -> CandidateSource:
    """Our own generator for a draft with the target's tokens, transformers' factory for everything else.

    Raises:
        ValueError: If there is no source, the vocabularies differ and no tokenizers are given, the draft cannot be
            rolled back, or the judge was made for other models.
    """
    target, draft = call.model, call.draft
    other_source = _other_source(call.config, draft)
    if draft is None and other_source is None:
        raise ValueError(
            "judge= needs somebody to propose tokens: pass `assistant_model=` (a draft model), or another source "
            "such as `prompt_lookup_num_tokens=`."
        )
    lean = draft is not None and other_source is None and _same_tokens(call)
    if lean:
        _check_draft(draft)
    judge.check_models(hidden_size(target), hidden_size(draft) if lean else None, vocab_size(target))
    if lean:
        keeps_hidden = "draft_hidden" in judge.reads
        return DraftCandidates(
            call.draft_passes(keeps_hidden),
            partial(Length, options.num_tokens, options.schedule, options.confidence_threshold),
            processors=call.processors,
            do_sample=bool(call.config.do_sample),
            eos_token_ids=call.stopping.eos_token_ids,
            vocab_size=vocab_size(target),
            keep_logits="draft_logits" in judge.reads,
            keep_hidden=keeps_hidden,
            device=call.input_ids.device,
        )
    if "draft_hidden" in judge.reads or "draft_logits" in judge.reads and draft is None:
        raise ValueError(
            f"This judge reads {sorted(judge.reads)}, but this candidate source has no draft states or logits; pass "
            "`assistant_model=`, or use a judge that reads the target only."
        )
    if call.batch > 1:
        raise ValueError(
            f"Got {call.batch} prompts, but this candidate source proposes for one at a time; pass `assistant_model=` "
            "with the target's tokens, or call generate for each prompt."
        )
    if call.engine == "static" and other_source != "prompt_lookup_num_tokens":
        raise ValueError(
            f"{other_source or 'This draft with another tokenizer'} drafts with caches of its own; leave "
            'cache_implementation="static" away.'
        )
    return _transformers_candidates(call, judge)


def _other_source(config: GenerationConfig, draft: PreTrainedModel | None) -> str | None:
    """Which source other than a plain draft model the call names, if any."""
    if type(draft).__name__.startswith(("Gemma4Assistant", "Gemma4UnifiedAssistant")):
        return type(draft).__name__  # drafts from the target's cache, as transformers' factory knows by the same names
    for name in ("prompt_lookup_num_tokens", "assistant_early_exit", "use_mtp", "speculation_type"):
        if getattr(config, name, None):
            return name
    return None


def _same_tokens(call: Call) -> bool:
    """Whether draft and target speak the same tokens. Raises if that cannot be known."""
    assert call.draft is not None
    if call.tokenizer is not None and call.assistant_tokenizer is not None:
        return call.tokenizer.get_vocab() == call.assistant_tokenizer.get_vocab()
    if vocab_size(call.model) != vocab_size(call.draft):
        raise ValueError(
            f"The target has a vocabulary of {vocab_size(call.model)} tokens and the draft one of "
            f"{vocab_size(call.draft)}; pass `tokenizer=` and `assistant_tokenizer=` so that they can be compared (or "
            "translated)."
        )
    return True


def _check_draft(draft: PreTrainedModel) -> None:
    name = type(draft).__name__
    if draft._is_stateful:
        raise ValueError(
            f"{name} keeps a recurrent state that cannot be rolled back; use a draft with an attention cache."
        )
    if draft.config.is_encoder_decoder:
        raise ValueError(f"{name} is an encoder-decoder; the draft must be a decoder-only model.")


def _transformers_candidates(call: Call, judge: Judge) -> TransformersCandidates:
    generator = call.model._get_candidate_generator(
        generation_config=call.config,
        input_ids=call.input_ids,
        inputs_tensor=call.input_ids,
        logits_processor=call.processors,
        model_kwargs=call.inputs,
        assistant_model=call.draft,
        target_tokenizer=call.tokenizer,
        assistant_tokenizer=call.assistant_tokenizer,
    )
    if getattr(generator, "requires_model_outputs", False):
        raise ValueError(
            f"{type(generator).__name__} drafts from the target's own hidden states, which judge= does not hand "
            "over yet; pass `assistant_model=` or `prompt_lookup_num_tokens=`."
        )
    return TransformersCandidates(
        generator, call.input_ids.device, bool(call.config.do_sample), keep_logits="draft_logits" in judge.reads
    )
