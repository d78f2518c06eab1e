"""Measure a frontier: task accuracy against accepted tokens per target call and tokens/s, over thresholds."""

from __future__ import annotations

import platform
import random
import time
from collections.abc import Mapping, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_autojudge.decoding.candidates import DraftLength
from hf_autojudge.evaluation.baselines import EXACT, PLAIN, DecodingStrategy, decoding_strategies
from hf_autojudge.evaluation.metrics import load_metric
from hf_autojudge.evaluation.report import Frontier, Questions, make_point
from hf_autojudge.judges import Judge
from hf_autojudge.progress import Progress
from hf_autojudge.provenance import command_line, versions
from hf_autojudge.runners.base import end_tokens, unwrap_peft
from hf_autojudge.tasks.base import Sample, Task


def measure_frontier(
    target: PreTrainedModel,
    draft: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    samples: Sequence[Sample],
    judges: Judge | Mapping[str, Judge],
    thresholds: Sequence[float] = (),
    *,
    max_new_tokens: int | None = None,
    num_assistant_tokens: int | None = None,
    baselines: bool = True,
    seconds: float | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Frontier:
    """Measure judges and baselines on one task in one run, decoding greedily.

    Every strategy answers each question before the next question begins, in an order shuffled for each question, so
    that other load on the machine affects all strategies alike. Each strategy first answers the first question once
    without being timed.

    Args:
        target, draft ([`PreTrainedModel`]): Decoder-only models with the same tokens.
        tokenizer ([`PreTrainedTokenizerBase`]): Of both models.
        task ([`Task`]): Makes prompts and checks outcomes.
        samples (`Sequence[Sample]`): Questions, for instance `task.load("test", 500)`.
        judges ([`Judge`] or `Mapping[str, Judge]`): By name. A judge with a threshold runs at each of `thresholds`, a
            rule without one once.
        thresholds (`Sequence[float]`, *optional*): In [0, 1]; needed if a judge has a threshold.
        max_new_tokens (`int`, *optional*): Maximum length of an answer; the task's by default.
        num_assistant_tokens (`int`, *optional*): Candidate tokens per round, for every strategy. By default that of
            the target's generation config, then the draft's, then the first judge that names a number, then 20.
        baselines (`bool`, *optional*, defaults to `True`): Also run plain greedy decoding and transformers' own
            assisted generation. Exact matching in our own loop ("threshold 0") always runs.
        seconds (`float`, *optional*): Start no further question after this time; at least one is answered.
        seed (`int`, *optional*, defaults to `0`): Of the order of strategies and of the bootstrap.
        progress (`bool`, *optional*, defaults to `True`): Show the questions answered and the time left.

    Returns:
        [`Frontier`]

    Raises:
        ValueError: If there are no samples, a threshold is not in [0, 1], a name occurs twice, or a number is below 1.
    """
    target, draft = unwrap_peft(target), unwrap_peft(draft)
    metric = load_metric()
    named = dict(judges) if isinstance(judges, Mapping) else {_name(judges): judges}
    if not samples:
        raise ValueError(f"There are no samples to measure {task.name} on; pass one or more.")
    suggested = [judge.num_assistant_tokens for judge in named.values()]
    length = DraftLength.resolve(target, draft, suggested, num_assistant_tokens=num_assistant_tokens)
    num_assistant_tokens = length.num_assistant_tokens
    max_new_tokens = task.max_new_tokens if max_new_tokens is None else max_new_tokens
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1; got {max_new_tokens}.")
    strategies = decoding_strategies(
        target, draft, tokenizer, named, thresholds, num_assistant_tokens, max_new_tokens, baselines
    )

    ends = end_tokens(target.generation_config.eos_token_id)
    questions = {s.name: Questions([], [], [], [], []) for s in strategies}
    answers: dict[str, list[str]] = {s.name: [] for s in strategies}
    order = random.Random(seed)
    began = time.monotonic()
    for strategy in strategies:  # untimed: allocators, compilers and caches settle
        _timed(strategy, task.prompt(samples[0], tokenizer), target.device)
    total, unit = (len(samples), "questions") if seconds is None else (seconds, "s")
    with Progress(f"Measuring {len(strategies)} strategies", total, unit, disable=not progress) as bar:
        for index, sample in enumerate(samples):
            if seconds is not None and index > 0 and time.monotonic() - began > seconds:
                samples = samples[:index]
                break
            prompt = task.prompt(sample, tokenizer)
            for number, strategy in enumerate(order.sample(strategies, len(strategies))):
                new_tokens, target_calls, duration = _timed(strategy, prompt, target.device)
                new_tokens = _up_to_end(new_tokens, ends)
                answers[strategy.name].append(tokenizer.decode(new_tokens, skip_special_tokens=True))
                measured = questions[strategy.name]
                measured.new_tokens.append(len(new_tokens))
                measured.target_calls.append(target_calls)
                measured.seconds.append(round(duration, 5))
                measured.capped.append(int(not new_tokens or new_tokens[-1] not in ends))
                if seconds is None:
                    bar.set(index + (number + 1) / len(strategies))
                else:
                    bar.set(min(seconds, time.monotonic() - began), f"{index + 1} questions")

    for name, predictions in answers.items():
        scores = metric.compute(
            predictions=predictions,
            references=[str(index) for index in range(len(samples))],
            is_correct=lambda answer, index: task.is_correct(answer, samples[int(index)]),
        )
        questions[name].correct.extend(scores["correct"])
    reference = PLAIN if baselines else EXACT
    points = [
        make_point(s.name, s.judge, s.threshold, questions[s.name], questions[reference], questions[EXACT], seed)
        for s in strategies
    ]
    settings = {
        "target": target.config.name_or_path,
        "draft": draft.config.name_or_path,
        "task": task.name,
        "n": len(samples),
        "num_assistant_tokens": num_assistant_tokens,
        "max_new_tokens": max_new_tokens,
        "reference": reference,
        "seed": seed,
        "device": str(target.device),
        "device_name": _device_name(target.device),
        "threads": torch.get_num_threads(),
        "dtype": str(target.dtype).removeprefix("torch."),
        "versions": versions("transformers", "torch"),
        "command": command_line(),
    }
    return Frontier(points, questions, settings)


def _name(judge: Judge) -> str:
    return type(judge).__name__ if isinstance(judge, torch.nn.Module) else repr(judge)


def _timed(strategy: DecodingStrategy, prompt: list[int], device: torch.device) -> tuple[list[int], int, float]:
    """New tokens, target calls and wall time in seconds of one answer."""
    ids = torch.tensor([prompt], device=device)
    _synchronize(device)
    start = time.perf_counter()
    new_tokens, target_calls = strategy.run(ids)
    _synchronize(device)
    return new_tokens, target_calls, time.perf_counter() - start


def _up_to_end(tokens: list[int], ends: frozenset[int]) -> list[int]:
    """Tokens up to and including the first end token: transformers' assisted generation may write past it."""
    return next((tokens[: i + 1] for i, token in enumerate(tokens) if token in ends), tokens)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} {device.type}"
