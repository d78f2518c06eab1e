"""How `judge=` reaches `generate`: one wrapper around `GenerationMixin.generate`, installed once, removed by
[`disable`].

Checked with transformers 5.17.0 and 5.23.0.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

from transformers import GenerationMixin, StoppingCriteriaList, StopStringCriteria

from hf_autojudge.decoding import JudgedDecoding

# What `JudgedDecoding` carries because transformers hands it to no callable
_CARRIED = ("assistant_model", "bonus_token", "tokenizer", "assistant_tokenizer", "streamer")
# What a `GenerationConfig` object may also say, and `JudgedDecoding.__call__` takes by name
_ROUTED = ("num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold")


def enable() -> None:
    """Let `generate` take `judge=`. Runs when `hf_autojudge` is imported; doing it again changes nothing."""
    original = GenerationMixin.generate
    if hasattr(original, "_without_judge"):
        return

    @functools.wraps(original)
    def generate(self: Any, *args: Any, judge: Any = None, **kwargs: Any) -> Any:
        if judge is None:
            return original(self, *args, **kwargs)
        return original(self, **_judged_arguments(self, original, judge, args, kwargs))

    generate._without_judge = original  # type: ignore[attr-defined]
    GenerationMixin.generate = generate


def disable() -> None:
    """Restore transformers' own `generate`."""
    GenerationMixin.generate = getattr(GenerationMixin.generate, "_without_judge", GenerationMixin.generate)


def _judged_arguments(model: Any, original: Any, judge: Any, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call with `judge=`, as arguments of one with `custom_generate=`."""
    bound = inspect.signature(original).bind_partial(model, *args)
    named = {name: value for name, value in bound.arguments.items() if name != "self"} | kwargs
    if named.get("custom_generate") is not None:
        raise ValueError(
            "judge= and custom_generate= were both given; judged decoding is a custom_generate itself, so drop one."
        )
    carried = {name: named.pop(name) for name in _CARRIED if named.get(name) is not None}
    config = named.get("generation_config")
    for name in _ROUTED:
        if config is not None and getattr(config, name, None) is not None:
            named.setdefault(name, getattr(config, name))
    strings = [named.get("stop_strings"), getattr(config, "stop_strings", None), model.generation_config.stop_strings]
    if any(strings):
        # transformers would look for a tokenizer, which reaches no callable: build the criterion here, and say None
        # there
        if carried.get("tokenizer") is None:
            raise ValueError("`stop_strings` needs the tokenizer: pass `tokenizer=` as well.")
        criterion = StopStringCriteria(carried["tokenizer"], next(filter(None, strings)))
        named["stopping_criteria"] = StoppingCriteriaList([*(named.get("stopping_criteria") or []), criterion])
        named["stop_strings"] = None
    return named | {
        "custom_generate": JudgedDecoding(judge, judge_threshold=named.pop("judge_threshold", None), **carried)
    }
