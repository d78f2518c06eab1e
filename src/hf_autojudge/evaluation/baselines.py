"""The decoding strategies that a frontier compares: baselines, and judges at thresholds."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_autojudge.judges import ExactMatchRule, Judge
from hf_autojudge.judges.base import check_threshold
from hf_autojudge.runners.base import vocab_size

PLAIN = "plain greedy"
ASSISTED = "assisted (transformers)"
EXACT = "threshold 0"


@dataclass(frozen=True)
class DecodingStrategy:
    """A baseline, or a judge at a threshold.

    Attributes:
        name (`str`): Unique within a frontier.
        judge (`str`): The judge's name; equal to `name` for baselines.
        threshold (`float`, *optional*): `None` for baselines and for judges without a threshold.
        run (`Callable`): Maps the prompt's token ids, shape `(1, n)`, to the new token ids and the number of target
            forward passes.
    """

    name: str
    judge: str
    threshold: float | None
    run: Callable[[torch.Tensor], tuple[list[int], int]]


def decoding_strategies(
    target: PreTrainedModel,
    draft: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    judges: Mapping[str, Judge],
    thresholds: Sequence[float],
    num_assistant_tokens: int,
    max_new_tokens: int,
    baselines: bool,
) -> list[DecodingStrategy]:
    """All strategies of a frontier, greedy, in the order of its report; see [`measure_frontier`] for the arguments.

    Raises:
        ValueError: If a threshold is not in [0, 1], a judge needs a threshold and there is none, or a name occurs
            twice.
    """
    thresholds = sorted(check_threshold(t) for t in thresholds)
    greedy = {"max_new_tokens": max_new_tokens, "do_sample": False, "num_beams": 1, "return_dict_in_generate": True}
    tokenizers = {"tokenizer": tokenizer, "assistant_tokenizer": tokenizer}  # vocabularies may be padded differently
    same_size = vocab_size(target) == vocab_size(draft)  # else transformers, too, wants to compare the tokenizers
    drafting = {
        "num_assistant_tokens": num_assistant_tokens,
        "num_assistant_tokens_schedule": "constant",
        "assistant_confidence_threshold": 0.0,
    }

    def generate(ids: torch.Tensor, **options: Any) -> tuple[list[int], Any]:
        output = target.generate(ids, attention_mask=torch.ones_like(ids), **greedy, **options)
        return output.sequences[0, ids.shape[1] :].tolist(), output

    def plain(ids: torch.Tensor) -> tuple[list[int], int]:
        new_tokens, _ = generate(ids)
        return new_tokens, len(new_tokens)  # one forward pass per token

    def assisted(ids: torch.Tensor) -> tuple[list[int], int]:
        with generation_settings(draft, drafting), counted_calls(target) as calls:
            new_tokens, _ = generate(ids, assistant_model=draft, **({} if same_size else tokenizers))
        return new_tokens, len(calls)

    def judged(ids: torch.Tensor, judge: Judge, threshold: float | None) -> tuple[list[int], int]:
        options = {"judge": judge, "judge_threshold": threshold} | drafting | tokenizers
        new_tokens, output = generate(ids, assistant_model=draft, **options)
        return new_tokens, output.judge_stats.target_calls

    strategies = []
    if baselines:
        strategies += [
            DecodingStrategy(PLAIN, PLAIN, None, plain),
            DecodingStrategy(ASSISTED, ASSISTED, None, assisted),
        ]
    for name, judge in [(EXACT, ExactMatchRule()), *judges.items()]:
        if judge.threshold is None:
            strategies.append(DecodingStrategy(name, name, None, partial(judged, judge=judge, threshold=None)))
            continue
        if not thresholds:
            raise ValueError(f"The judge {name!r} needs at least one threshold in [0, 1]; `thresholds` is empty.")
        for threshold, label in zip(thresholds, _labels(thresholds), strict=True):
            run = partial(judged, judge=judge, threshold=threshold)
            strategies.append(DecodingStrategy(f"{name}, threshold {label}", name, threshold, run))
    names = [strategy.name for strategy in strategies]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"Names occur twice: {repeated}; give each judge its own name and each threshold once.")
    return strategies


def _labels(thresholds: Sequence[float]) -> list[str]:
    """Thresholds with four digits, or with as many more as it takes to tell them apart."""
    for digits in range(4, 18):
        labels = [f"{threshold:.{digits}g}" for threshold in thresholds]
        if len(set(labels)) == len(set(thresholds)):
            break
    return labels


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
