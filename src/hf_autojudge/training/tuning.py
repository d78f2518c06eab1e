"""How many tokens to draft: the number and the confidence threshold with the most tokens/s."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_autojudge.decoding.candidates import DraftLength
from hf_autojudge.judges import AutoJudgeHead, Judge
from hf_autojudge.progress import Progress
from hf_autojudge.runners.base import unwrap_peft
from hf_autojudge.tasks.base import Sample, Task


@dataclass(frozen=True)
class DraftLengthChoice:
    """The outcome of [`tune_draft_length`].

    Attributes:
        num_assistant_tokens (`int`): Candidate tokens per round.
        confidence_threshold (`float`): Drafting stops after a candidate of a smaller probability; 0 never stops.
        tokens_per_second (`float`): Measured with these two.
        rows (`list[dict]`): One row for each setting, the fastest first: `num_assistant_tokens`,
            `confidence_threshold`, `n` (questions answered), `tokens_per_second` and `accepted` (new tokens per target
            call).
    """

    num_assistant_tokens: int
    confidence_threshold: float
    tokens_per_second: float
    rows: list[dict[str, Any]]


@dataclass
class _Setting:
    """What one setting has done so far."""

    length: DraftLength
    n: int = 0
    new_tokens: int = 0
    target_calls: int = 0
    seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        return self.new_tokens / self.seconds


def tune_draft_length(
    target: PreTrainedModel,
    draft: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    samples: Sequence[Sample],
    judge: Judge,
    num_assistant_tokens: Sequence[int] = (4, 8, 16, 32),
    confidence_thresholds: Sequence[float] = (0.0, 0.4, 0.6, 0.8),
    max_new_tokens: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    progress: bool = True,
) -> DraftLengthChoice:
    """Choose the draft length by measured speed, and store it in the judge's config if it is a head: the defaults of a
    call that names none.

    Every setting answers each question, greedily and one at a time, before the next question begins, in an order
    shuffled for each question, so that other load on the machine affects all settings alike. The slower half is
    dropped at regular intervals (successive halving), until two settings are left for the last questions. Each setting
    first answers the first question once without being timed.

    With a judge that accepts mismatches the draft length also changes answers a little, because the token after a
    round's candidates is always the target's own: tune before calibrating.

    Args:
        target, draft ([`PreTrainedModel`]): Decoder-only models with the same tokens.
        tokenizer ([`PreTrainedTokenizerBase`]): Of both models.
        task ([`Task`]): Makes prompts.
        samples (`Sequence[Sample]`): Samples of the task's validation split, for instance 32.
        judge ([`Judge`]): Decides during decoding, at its own threshold.
        num_assistant_tokens (`Sequence[int]`, *optional*, defaults to `(4, 8, 16, 32)`): Candidate tokens per round.
        confidence_thresholds (`Sequence[float]`, *optional*, defaults to `(0.0, 0.4, 0.6, 0.8)`): In [0, 1]; each is
            tried with each number of tokens. 0 drafts the full number.
        max_new_tokens (`int`, *optional*): Maximum length of an answer; the task's by default.
        seconds (`float`, *optional*): Start no further question after this time; at least one is answered.
        seed (`int`, *optional*, defaults to `0`): Of the order of settings.
        progress (`bool`, *optional*, defaults to `True`): Show the questions answered and the time left.

    Returns:
        [`DraftLengthChoice`]

    Raises:
        ValueError: If there are no samples, fewer than two settings, or a number is out of range.
    """
    if not samples:
        raise ValueError(f"There are no samples to measure {task.name} on; pass one or more.")
    lengths = dict.fromkeys(
        DraftLength(n, confidence_threshold=confidence)
        for n, confidence in product(num_assistant_tokens, confidence_thresholds)
    )
    if len(lengths) < 2:
        raise ValueError(
            f"num_assistant_tokens {list(num_assistant_tokens)} and confidence_thresholds "
            f"{list(confidence_thresholds)} give {len(lengths)} settings; pass two or more to choose from."
        )
    target, draft = unwrap_peft(target), unwrap_peft(draft)
    call = {
        "assistant_model": draft,
        "judge": judge,
        "max_new_tokens": task.max_new_tokens if max_new_tokens is None else max_new_tokens,
        "do_sample": False,
        "num_beams": 1,
        "num_assistant_tokens_schedule": "constant",
        "return_dict_in_generate": True,
    }
    settings = [_Setting(length) for length in lengths]
    running, order, began = list(settings), random.Random(seed), time.monotonic()
    interval = math.ceil(len(samples) / math.ceil(math.log2(len(settings))))
    for setting in settings:  # untimed: allocators, compilers and caches settle
        _answer(target, task.prompt(samples[0], tokenizer), setting.length, call)
    with Progress(f"Tuning {len(settings)} draft lengths", len(samples), "questions", disable=not progress) as bar:
        for index, sample in enumerate(samples):
            if seconds is not None and index > 0 and time.monotonic() - began > seconds:
                break
            prompt = task.prompt(sample, tokenizer)
            for setting in order.sample(running, len(running)):
                new_tokens, target_calls, duration = _answer(target, prompt, setting.length, call)
                setting.n += 1
                setting.new_tokens += new_tokens
                setting.target_calls += target_calls
                setting.seconds += duration
            if (index + 1) % interval == 0 and len(running) > 2:
                running = sorted(running, key=lambda s: s.tokens_per_second, reverse=True)[: -(-len(running) // 2)]
            bar.set(index + 1, f"{len(running)} left")
    settings.sort(key=lambda s: (s.n, s.tokens_per_second), reverse=True)
    best = settings[0]
    choice = DraftLengthChoice(
        best.length.num_assistant_tokens,
        best.length.confidence_threshold,
        best.tokens_per_second,
        [
            {
                "num_assistant_tokens": s.length.num_assistant_tokens,
                "confidence_threshold": s.length.confidence_threshold,
                "n": s.n,
                "tokens_per_second": s.tokens_per_second,
                "accepted": s.new_tokens / s.target_calls,
            }
            for s in settings
        ],
    )
    if isinstance(judge, AutoJudgeHead):
        judge.config.num_candidate_tokens = choice.num_assistant_tokens
        judge.config.confidence_threshold = choice.confidence_threshold
    return choice


def _answer(
    target: PreTrainedModel, prompt: list[int], length: DraftLength, call: dict[str, Any]
) -> tuple[int, int, float]:
    """New tokens, target calls and wall time in seconds of one answer."""
    ids = torch.tensor([prompt], device=target.device)
    start = time.perf_counter()
    output = target.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        num_assistant_tokens=length.num_assistant_tokens,
        assistant_confidence_threshold=length.confidence_threshold,
        **call,
    )
    stats = output.judge_stats
    output.sequences.tolist()  # waits for the device
    return stats.new_tokens, stats.target_calls, time.perf_counter() - start
