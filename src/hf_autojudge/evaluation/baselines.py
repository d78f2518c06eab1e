"""The ways to decode that a frontier compares: baselines, threshold 0, judges."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel

from hf_autojudge.judges import ExactMatchRule, Judge
from hf_autojudge.judges.base import check_threshold

PLAIN = "plain greedy"
ASSISTED = "assisted (transformers)"
EXACT = "threshold 0"


@dataclass(frozen=True)
class Method:
    """A way to decode: `run(ids, mask)` gives the new token ids and the number of target calls."""

    name: str
    judge: str
    threshold: float | None
    run: Callable[[torch.Tensor, torch.Tensor], tuple[list[int], int]]


def make_methods(
    target: PreTrainedModel,
    draft: PreTrainedModel,
    judges: Mapping[str, Judge],
    thresholds: Sequence[float],
    k: int,
    max_new_tokens: int,
    baselines: bool,
) -> list[Method]:
    """All methods of a run, in the order of the report. Raises `ValueError` for bad thresholds and names that occur
    twice."""
    thresholds = sorted(check_threshold(t) for t in thresholds)
    greedy = {"max_new_tokens": max_new_tokens, "do_sample": False, "num_beams": 1, "return_dict_in_generate": True}
    drafting = {
        "num_assistant_tokens": k,
        "num_assistant_tokens_schedule": "constant",
        "assistant_confidence_threshold": 0.0,
    }

    def plain(ids: torch.Tensor, mask: torch.Tensor) -> tuple[list[int], int]:
        new = _new_tokens(target.generate(ids, attention_mask=mask, **greedy), ids)
        return new, len(new)  # one pass a token

    def assisted(ids: torch.Tensor, mask: torch.Tensor) -> tuple[list[int], int]:
        with generation_settings(draft, drafting), counted_calls(target) as calls:
            output = target.generate(ids, attention_mask=mask, assistant_model=draft, **greedy)
        return _new_tokens(output, ids), len(calls)

    def judged(ids: torch.Tensor, mask: torch.Tensor, judge: Judge, threshold: float | None) -> tuple[list[int], int]:
        output = target.generate(
            ids,
            attention_mask=mask,
            assistant_model=draft,
            judge=judge,
            judge_threshold=threshold,
            **greedy,
            **drafting,
        )
        return _new_tokens(output, ids), output.judge_stats.target_calls

    methods = [Method(PLAIN, PLAIN, None, plain), Method(ASSISTED, ASSISTED, None, assisted)] if baselines else []
    methods.append(Method(EXACT, EXACT, None, partial(judged, judge=ExactMatchRule(), threshold=None)))
    for name, judge in judges.items():
        if judge.threshold is None:
            methods.append(Method(name, name, None, partial(judged, judge=judge, threshold=None)))
            continue
        if not thresholds:
            raise ValueError(f"The judge {name!r} needs at least one threshold in [0, 1]; `thresholds` is empty.")
        # four digits, unless two thresholds are closer than that
        labels = next(
            ls for d in range(4, 18) if len(set(ls := [f"{t:.{d}g}" for t in thresholds])) == len(set(thresholds))
        )
        for t, label in zip(thresholds, labels, strict=True):
            methods.append(Method(f"{name}, threshold {label}", name, t, partial(judged, judge=judge, threshold=t)))
    names = [m.name for m in methods]
    if repeated := sorted({n for n in names if names.count(n) > 1}):
        raise ValueError(f"Names occur twice: {repeated}; give each judge its own name and each threshold once.")
    return methods


@contextmanager
def generation_settings(model: PreTrainedModel, settings: dict[str, Any]) -> Iterator[None]:
    """Change settings of a model's generation config; afterwards the model has its own config object back, untouched.
    transformers reads how to draft there and ignores it in the call."""
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


def _new_tokens(output: Any, ids: torch.Tensor) -> list[int]:
    return output.sequences[0, ids.shape[1] :].tolist()
