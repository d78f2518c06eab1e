"""The arguments of one call of `generate(judge=...)`, resolved once: what it asks for, and what it may not ask for.

Checked with transformers 5.17.0 and 5.23.0 (what `generate` hands to a callable `custom_generate`).
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    EncoderNoRepeatNGramLogitsProcessor,
    EncoderRepetitionPenaltyLogitsProcessor,
    GenerationConfig,
    LogitsProcessorList,
    PrefixConstrainedLogitsProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteriaList,
    UnbatchedClassifierFreeGuidanceLogitsProcessor,
)
from transformers.cache_utils import DynamicCache
from transformers.generation.streamers import BaseStreamer

from hf_autojudge.decoding.candidates import DraftLength
from hf_autojudge.decoding.sequences import Sequences
from hf_autojudge.judges import Judge
from hf_autojudge.runners.base import HiddenStates, ModelRunner, hidden_size, takes, vocab_size
from hf_autojudge.runners.batched import BatchedRunner
from hf_autojudge.runners.compiled import compile_options, compiled_runner
from hf_autojudge.runners.dynamic import DynamicRunner

# Logits processors that know which sequence of the batch they see; where sequences differ in length they see one alone
_NEED_THE_BATCH = (
    EncoderNoRepeatNGramLogitsProcessor,
    EncoderRepetitionPenaltyLogitsProcessor,
    PrefixConstrainedLogitsProcessor,
)


@dataclass
class Arguments:
    """What stays the same during one call: its arguments, and what follows from them. `model` is the target, `inputs`
    are its further inputs, its cache included.

    Attributes:
        reads (`frozenset[str]`): What the judge reads.
        vocab_size (`int`): The target's.
        draft_length ([`DraftLength`]): When drafting stops.
        runner (`str`): `"dynamic"`, `"batched"` or `"static"`.
        source (`str`, *optional*): What proposes candidates, if not the draft model.
        sequences ([`Sequences`]): The prompts.
    """

    model: PreTrainedModel
    draft: PreTrainedModel | None
    judge: Judge
    tokenizer: PreTrainedTokenizerBase | None
    assistant_tokenizer: PreTrainedTokenizerBase | None
    streamer: BaseStreamer | None
    input_ids: torch.Tensor
    logits_processor: LogitsProcessorList
    stopping_criteria: StoppingCriteriaList
    config: GenerationConfig
    inputs: dict[str, Any]
    num_assistant_tokens: int | None = None
    schedule: str | None = None
    confidence_threshold: float | None = None

    def __post_init__(self) -> None:
        # Some versions of transformers synchronize with the device to look at a mask of ones in every pass
        mask = self.inputs.get("attention_mask")
        self.inputs = {k: v for k, v in self.inputs.items() if k != "attention_mask" or mask is None or not mask.all()}
        self.batch_size = int(self.input_ids.shape[0])
        self.do_sample = bool(self.config.do_sample)
        # A static cache may compile for a minute, so only on request; else the fastest runner that is exact
        exact = "dynamic" if self.batch_size == 1 else "batched"
        self.runner = "static" if self.config.cache_implementation == "static" else exact
        if problem := self._problem():
            raise ValueError(problem)
        self.reads, suggested = self.judge.reads, [self.judge.num_assistant_tokens]
        given = (self.num_assistant_tokens, self.schedule, self.confidence_threshold)
        self.draft_length = DraftLength.resolve(self.model, self.draft, suggested, self.config, *given)
        self.vocab_size = vocab_size(self.model)
        if self.draft_length.schedule != "constant" and self.runner == "static":
            raise ValueError(
                f'num_assistant_tokens_schedule="{self.draft_length.schedule}" lets the number of candidates grow, '
                'which a static cache cannot; use "constant".'
            )
        self.source = _other_source(self)
        self._check_source()
        config = self.config
        kept = [
            name
            for name in ("scores", "logits")
            if config.return_dict_in_generate and getattr(config, f"output_{name}")
        ]
        self.sequences = Sequences(
            self.input_ids, self._padding(), self.stopping_criteria, int(config.max_length), keep=kept
        )

    def _padding(self) -> list[int]:
        """Padding tokens in front of each prompt, for runners that store none."""
        mask, given = self.inputs.get("attention_mask"), self.inputs.get("position_ids")
        if self.runner == "dynamic":  # the mask tells the model
            return [0]
        padding = [0] * self.batch_size
        if mask is not None:
            mask = mask.long()
            if (mask.diff(dim=-1) < 0).any() or not mask[:, -1].all():
                raise ValueError(
                    "attention_mask has zeros after a prompt's first token; with several prompts or a static cache "
                    "judge= takes prompts padded on the left (tokenizer.padding_side = 'left')."
                )
            padding = (mask.shape[1] - mask.sum(-1)).tolist()
        positions = _positions(self.input_ids, mask)
        if given is not None and not torch.equal(given.expand_as(positions), positions):
            raise ValueError(
                "position_ids were given that do not count from each prompt's first token; with several prompts or a "
                "static cache judge= counts so, so omit them."
            )
        return padding

    def target_runner(self, stack: ExitStack) -> ModelRunner:
        """The target's runner, to be used while the stack is open."""
        candidates = self.config.prompt_lookup_num_tokens or self.draft_length.num_assistant_tokens
        inputs = {k: v for k, v in self.inputs.items() if k not in ("logits_to_keep", "use_cache", "past_key_values")}
        cache = self.inputs["past_key_values"]
        return self._runner(stack, self.model, "target_hidden" in self.reads, [candidates + 1], cache, inputs)

    def draft_runner(self, stack: ExitStack) -> ModelRunner:
        """The draft's runner, likewise. If the judge does not read its hidden states, the last candidate stays
        uncached, and a round starts with two tokens."""
        assert self.draft is not None
        inputs: dict[str, Any] = {}
        if self.runner == "dynamic":
            mask = self.inputs.get("attention_mask")
            inputs["attention_mask"] = mask
            if takes(self.draft, "position_ids"):
                inputs["position_ids"] = _positions(self.input_ids, mask)
        reads_hidden = "draft_hidden" in self.reads
        return self._runner(stack, self.draft, reads_hidden, [1] if reads_hidden else [1, 2], None, inputs)

    def _runner(
        self, stack: ExitStack, model: PreTrainedModel, hidden: bool, widths: list[int], cache: Any, inputs: dict
    ) -> ModelRunner:
        size = (self.batch_size, self.sequences.max_length)
        if self.runner == "static":
            return stack.enter_context(compiled_runner(model, *size, widths, compile_options(model, self.config)))
        hidden_states = stack.enter_context(HiddenStates(model)) if hidden else None
        if self.runner == "batched":
            return BatchedRunner(model, *size, hidden_states)
        return DynamicRunner(model, cache, inputs, hidden_states)

    def _check_source(self) -> None:
        """Whether the candidate source fits the target, the judge and the runner."""
        draft_size = hidden_size(self.draft) if self.draft is not None and self.source is None else None
        self.judge.check_models(hidden_size(self.model), draft_size, self.vocab_size)
        if self.source is None:
            return
        if "draft_hidden" in self.reads or "draft_logits" in self.reads and self.draft is None:
            raise ValueError(
                f"This judge reads {sorted(self.reads)}, but this candidate source has no draft states or "
                "logits; pass `assistant_model=`, or use a judge that reads the target only."
            )
        if self.batch_size > 1:
            raise ValueError(
                f"Got {self.batch_size} prompts, but this candidate source proposes for one at a time; pass "
                "`assistant_model=` with the target's tokens, or call generate for each prompt."
            )
        if self.runner == "static" and self.source != "prompt_lookup_num_tokens":
            raise ValueError(f'{self.source} drafts with other caches; omit cache_implementation="static".')

    def _problem(self) -> str | None:
        """What judged decoding cannot do, in one sentence."""
        name, config, inputs = type(self.model).__name__, self.config, self.inputs
        cache = inputs.get("past_key_values")
        if self.model.config.is_encoder_decoder:
            return f"{name} is an encoder-decoder; judge= works with decoder-only models."
        if self.model._is_stateful:
            return f"{name} keeps a recurrent state that cannot be rolled back; judge= needs an attention cache."
        if (config.num_beams or 1) > 1:
            return f"num_beams={config.num_beams} was given; judge= works without beams, so leave it at 1."
        if (config.num_return_sequences or 1) > 1:
            return (
                f"num_return_sequences={config.num_return_sequences} was given; judge= returns one sequence per "
                "prompt, so repeat the prompts instead."
            )
        if any(isinstance(p, UnbatchedClassifierFreeGuidanceLogitsProcessor) for p in self.logits_processor):
            return "guidance_scale keeps a separate cache that cannot be rolled back; judge= works without it."
        if inputs.get("inputs_embeds") is not None:
            return "`inputs_embeds` was given, but the draft reads tokens; pass `input_ids`."
        if self.input_ids.shape[1] == 0:
            return "The prompt is empty (input_ids has 0 tokens); pass at least one token, for instance the BOS token."
        if not inputs.get("use_cache", True):
            return "use_cache=False was given; judge= needs the cache."
        if config.output_attentions or config.output_hidden_states:
            return "output_attentions and output_hidden_states are not collected with judge=; leave them off."
        if "prepare_inputs_for_generation" in vars(self.model):
            return f"This {name} has a prompt-learning adapter (peft), which judge= does not support; LoRA works."
        if cache is None:
            return f"{name} does not use transformers' cache classes, so judge= cannot roll it back."
        if self.runner == "dynamic":
            if not isinstance(cache, DynamicCache):
                return (
                    f"A {type(cache).__name__} cannot be rolled back; judge= needs a DynamicCache (the default) or "
                    'cache_implementation="static".'
                )
            if cache.get_seq_length() >= self.input_ids.shape[1]:
                return (
                    f"past_key_values holds {cache.get_seq_length()} tokens and input_ids {self.input_ids.shape[1]}; "
                    "pass the whole sequence as input_ids, the cached tokens included."
                )
            return None
        known = ("attention_mask", "position_ids", "past_key_values", "use_cache", "logits_to_keep")
        if more := sorted(k for k, v in inputs.items() if v is not None and k not in known):
            return f"{', '.join(more)} was given; with several prompts or a static cache judge= takes input_ids only."
        if self.runner == "batched" and config.cache_implementation not in (None, "dynamic"):
            return (
                f'cache_implementation="{config.cache_implementation}" was given; with several prompts judge= takes '
                '"static" or none.'
            )
        if self.runner == "batched" and not (isinstance(cache, DynamicCache) and cache.get_seq_length() == 0):
            return (
                f"A {type(cache).__name__} was given as past_key_values; with several prompts judge= makes its cache "
                "itself, so omit it."
            )
        if self.batch_size > 1 and self.streamer is not None:
            return f"A streamer was given for {self.batch_size} prompts; it can follow one only."
        if self.batch_size > 1 and (
            needs := [type(p).__name__ for p in self.logits_processor if isinstance(p, _NEED_THE_BATCH)]
        ):
            return f"{needs[0]} needs the whole batch at once; with judge= it works for one prompt at a time."
        return None


def _other_source(arguments: Arguments) -> str | None:
    """What proposes candidates, if not the draft model: an option of `generate`, a kind of draft that reads the
    target's cache, or a draft with another tokenizer.

    Raises:
        ValueError: If there is no source, the vocabularies differ and no tokenizers are given, or the draft cannot be
            rolled back.
    """
    draft, name = arguments.draft, type(arguments.draft).__name__
    if name.startswith(("Gemma4Assistant", "Gemma4UnifiedAssistant")):  # as transformers knows them
        return name
    for option in ("prompt_lookup_num_tokens", "assistant_early_exit", "use_mtp", "speculation_type"):
        if getattr(arguments.config, option, None):
            return option
    if draft is None:
        raise ValueError(
            "judge= needs a source of candidate tokens: pass `assistant_model=` (a draft model), or another source "
            "such as `prompt_lookup_num_tokens=`."
        )
    tokenizer, assistant_tokenizer = arguments.tokenizer, arguments.assistant_tokenizer
    if tokenizer is not None and assistant_tokenizer is not None:
        if tokenizer is not assistant_tokenizer and tokenizer.get_vocab() != assistant_tokenizer.get_vocab():
            return "A draft with another tokenizer"
    elif (size := vocab_size(draft)) != arguments.vocab_size:
        raise ValueError(
            f"The target has a vocabulary of {arguments.vocab_size} tokens and the draft one of {size}; "
            "pass `tokenizer=` and `assistant_tokenizer=` so that they can be compared (or translated)."
        )
    if draft._is_stateful:
        raise ValueError(f"{name} keeps a recurrent state that cannot be rolled back; draft with an attention model.")
    if draft.config.is_encoder_decoder:
        raise ValueError(f"{name} is an encoder-decoder; the draft must be a decoder-only model.")
    return None


def _positions(input_ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """As `generate` counts them: shape `(B, prompt length)`."""
    present = torch.ones_like(input_ids) if mask is None else mask.long()
    return (present.cumsum(-1) - 1).clamp(min=0)
