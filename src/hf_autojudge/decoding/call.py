"""One call of `generate(judge=...)`: what it hands over, what it may not ask for, and which engine runs its passes.

Checked with transformers 5.17.0 and 5.23.0 (what `generate` hands to a callable `custom_generate`).
"""

from __future__ import annotations

import inspect
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from transformers import (
    EncoderNoRepeatNGramLogitsProcessor,
    EncoderRepetitionPenaltyLogitsProcessor,
    GenerationConfig,
    LogitsProcessorList,
    PrefixConstrainedLogitsProcessor,
    PreTrainedModel,
    UnbatchedClassifierFreeGuidanceLogitsProcessor,
)
from transformers.cache_utils import DynamicCache

from hf_autojudge.decoding.passes import CachedModel, Passes, rewindable_cache
from hf_autojudge.decoding.ragged import GrowingSlots, RaggedModel
from hf_autojudge.decoding.static import compile_options, static_slots
from hf_autojudge.decoding.stopping import Stopping
from hf_autojudge.decoding.text import Text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from transformers.generation.streamers import BaseStreamer

# Logits processors that know which row of the batch they see; with rows of different lengths they see one at a time
_WHOLE_BATCH = (
    EncoderNoRepeatNGramLogitsProcessor,
    EncoderRepetitionPenaltyLogitsProcessor,
    PrefixConstrainedLogitsProcessor,
)
Engine = Literal["dynamic", "ragged", "static"]


@dataclass(frozen=True)
class Call:
    """Everything that stays the same during one call.

    Attributes:
        model ([`PreTrainedModel`]): The target.
        draft ([`PreTrainedModel`], *optional*)
        input_ids (`torch.LongTensor` of shape `(B, prompt length)`)
        processors ([`LogitsProcessorList`])
        stopping ([`Stopping`])
        config ([`GenerationConfig`])
        inputs (`dict`): Further inputs of the target, its cache included: see [`without_full_mask`].
        tokenizer, assistant_tokenizer ([`PreTrainedTokenizerBase`], *optional*)
        streamer ([`BaseStreamer`], *optional*)
        stack (`ExitStack`): Closed when the call ends.
    """

    model: PreTrainedModel
    draft: PreTrainedModel | None
    input_ids: torch.Tensor
    processors: LogitsProcessorList
    stopping: Stopping
    config: GenerationConfig
    inputs: dict[str, Any]
    tokenizer: PreTrainedTokenizerBase | None = None
    assistant_tokenizer: PreTrainedTokenizerBase | None = None
    streamer: BaseStreamer | None = None
    stack: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        if problem := self._problem():
            raise ValueError(problem)

    @property
    def batch(self) -> int:
        """Number of prompts."""
        return int(self.input_ids.shape[0])

    @property
    def engine(self) -> Engine:
        """`"static"` if `cache_implementation` asks for it, which may compile for a minute; else the fastest that is
        exact: `"dynamic"` for one prompt, `"ragged"` for several."""
        if self.config.cache_implementation == "static":
            return "static"
        return "dynamic" if self.batch == 1 else "ragged"

    def text(self) -> Text:
        """The prompts, as a text to be continued.

        Raises:
            ValueError: If several prompts are not padded on the left.
        """
        mask, given = self.inputs.get("attention_mask"), self.inputs.get("position_ids")
        if self.engine == "dynamic":
            return Text(self.input_ids)
        pads = [0] * self.batch
        if mask is not None:
            mask = mask.long()
            if (mask.diff(dim=-1) < 0).any() or not mask[:, -1].all():
                raise ValueError(
                    "attention_mask has zeros after a prompt's first token; with several prompts or a static cache "
                    "judge= takes prompts padded on the left (tokenizer.padding_side = 'left')."
                )
            pads = (mask.shape[1] - mask.sum(-1)).tolist()
        counted = _positions(self.input_ids, mask)
        if given is not None and not torch.equal(given.expand_as(counted), counted):
            raise ValueError(
                "position_ids of the caller's were given; with several prompts or a static cache judge= counts "
                "positions from each prompt's first token."
            )
        return Text(self.input_ids, pads)

    def target_passes(self, candidates: int) -> Passes:
        """The target's passes, over at most `candidates` candidate tokens each."""
        if self.engine == "dynamic":
            inputs = {k: v for k, v in self.inputs.items() if k not in ("logits_to_keep", "use_cache")}
            return CachedModel(self.model, inputs.pop("past_key_values"), inputs)
        return self._ragged(self.model, tail=1, widths=[candidates + 1])

    def draft_passes(self, keeps_hidden: bool) -> Passes:
        """The draft's passes. One that does not keep hidden states leaves its last candidate unseen."""
        assert self.draft is not None
        if self.engine == "dynamic":
            mask = self.inputs.get("attention_mask")
            inputs = {"attention_mask": mask if mask is None else mask.to(self.draft.device)}
            if "position_ids" in inspect.signature(self.draft.forward).parameters:
                inputs["position_ids"] = _positions(self.input_ids, mask).to(self.draft.device)
            return CachedModel(self.draft, rewindable_cache(self.draft), inputs)
        return self._ragged(self.draft, tail=1 if keeps_hidden else 2, widths=[1] if keeps_hidden else [1, 2])

    def _ragged(self, model: PreTrainedModel, tail: int, widths: list[int]) -> RaggedModel:
        if self.engine == "ragged":
            return RaggedModel(GrowingSlots(model, self.stopping.max_length), tail)
        options = compile_options(model, self.config)
        slots = static_slots(model, self.batch, self.stopping.max_length, widths, options)
        return RaggedModel(self.stack.enter_context(slots), tail)

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
                f"num_return_sequences={config.num_return_sequences} was given; judge= returns one sequence a prompt, "
                "so repeat the prompts instead."
            )
        if any(isinstance(p, UnbatchedClassifierFreeGuidanceLogitsProcessor) for p in self.processors):
            return "guidance_scale keeps a cache of its own that cannot be rolled back; judge= works without it."
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
            return f"{name} keeps its past in a way of its own, which judge= cannot roll back."
        if self.engine == "dynamic":
            if not isinstance(cache, DynamicCache):
                return (
                    f"A {type(cache).__name__} cannot be rolled back; judge= needs a DynamicCache (the default) or "
                    'cache_implementation="static".'
                )
            if cache.get_seq_length() >= self.input_ids.shape[1]:
                return (
                    f"past_key_values holds {cache.get_seq_length()} tokens and input_ids {self.input_ids.shape[1]}; "
                    "pass the whole text as input_ids, the cached tokens included."
                )
            return None
        known = ("attention_mask", "position_ids", "past_key_values", "use_cache", "logits_to_keep")
        if more := sorted(k for k, v in inputs.items() if v is not None and k not in known):
            return f"{', '.join(more)} was given; with several prompts or a static cache judge= takes input_ids only."
        if self.engine == "ragged" and config.cache_implementation not in (None, "dynamic"):
            return (
                f'cache_implementation="{config.cache_implementation}" was given; with several prompts judge= takes '
                '"static" or none.'
            )
        if self.engine == "ragged" and not (isinstance(cache, DynamicCache) and cache.get_seq_length() == 0):
            return (
                f"past_key_values is a {type(cache).__name__} of the caller's; with several prompts judge= starts "
                "with a cache of its own, so leave it away."
            )
        if self.batch > 1 and self.streamer is not None:
            return f"A streamer was given for {self.batch} prompts; it can follow one only."
        if self.batch > 1 and (several := [type(p).__name__ for p in self.processors if isinstance(p, _WHOLE_BATCH)]):
            return f"{several[0]} needs the whole batch at once; with judge= it works for one prompt at a time."
        return None


def _positions(input_ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """As `generate` counts them: shape `(B, prompt length)`."""
    present = torch.ones_like(input_ids) if mask is None else mask.long()
    return (present.cumsum(-1) - 1).clamp(min=0)


def without_full_mask(inputs: dict[str, Any]) -> dict[str, Any]:
    """Leave away a mask of ones: some versions of transformers wait for the device to look at it in every pass."""
    mask = inputs.get("attention_mask")
    return {k: v for k, v in inputs.items() if k != "attention_mask" or mask is None or not mask.all()}
