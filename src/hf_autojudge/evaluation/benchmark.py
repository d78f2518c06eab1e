"""The frontier: task accuracy against accepted tokens per target call and tokens/s, over thresholds, with
intervals."""

from __future__ import annotations

import platform
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from hf_autojudge.decoding.sources import DEFAULT_NUM_ASSISTANT_TOKENS
from hf_autojudge.evaluation.baselines import EXACT, PLAIN, make_methods
from hf_autojudge.evaluation.bootstrap import Bootstrap
from hf_autojudge.evaluation.metrics import load_metric
from hf_autojudge.evaluation.report import Frontier, Questions, make_point
from hf_autojudge.judges import Judge
from hf_autojudge.provenance import command_line, versions
from hf_autojudge.runners.base import end_tokens, unwrap_peft
from hf_autojudge.tasks.base import Sample, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def measure_frontier(
    target: PreTrainedModel,
    draft: PreTrainedModel,
    judges: Judge | Mapping[str, Judge],
    task: Task,
    thresholds: Sequence[float],
    *,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Sample] | None = None,
    limit: int | None = None,
    max_new_tokens: int | None = None,
    num_assistant_tokens: int | None = None,
    baselines: bool = True,
    seconds: float | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Frontier:
    """Measure judges and baselines on one task, greedily, in one run.

    Methods alternate question by question, in an order shuffled for each question, so that what else the machine does
    hits all alike. Before that every method answers the first question once, untimed.

    Args:
        target, draft ([`PreTrainedModel`]): Decoder-only models with the same tokens.
        judges ([`Judge`] or `Mapping[str, Judge]`): By name. A judge with a threshold runs at each of `thresholds`, a
            rule without one once.
        task ([`Task`]): Makes prompts and checks outcomes.
        thresholds (`Sequence[float]`): In [0, 1].
        tokenizer ([`PreTrainedTokenizerBase`]): Of both models.
        rows (`Sequence[Sample]`, *optional*): Questions; those of the task's `"test"` split by default.
        limit (`int`, *optional*): Only the first so many questions.
        max_new_tokens (`int`, *optional*): Length limit of an answer; the task's by default.
        num_assistant_tokens (`int`, *optional*): Candidates a round, for every method. By default that of the target's
            generation config, then the draft's, then the first judge's window, then 20.
        baselines (`bool`, *optional*, defaults to `True`): Also run plain greedy decoding and transformers' own
            assisted generation. Exact matching in our own loop ("threshold 0") always runs.
        seconds (`float`, *optional*): Start no further question after this time; at least one is answered.
        seed (`int`, *optional*, defaults to `0`): Of the order of methods and of the bootstrap.
        progress (`bool`, *optional*, defaults to `True`): Show a progress bar.

    Returns:
        [`Frontier`]

    Raises:
        ImportError: If `evaluate` is not installed.
        ValueError: If there are no questions, a threshold is not in [0, 1], a name occurs twice, or a number is below
            1.
    """
    target, draft = unwrap_peft(target), unwrap_peft(draft)
    metric = load_metric()
    named = dict(judges) if isinstance(judges, Mapping) else {_name(judges): judges}
    rows = list(task.load("test", limit) if rows is None else rows[:limit])
    if not rows:
        raise ValueError(f"The frontier of {task.name} has no questions (limit={limit}); pass at least one row.")
    k = _num_assistant_tokens(num_assistant_tokens, target, draft, named)
    length = task.max_new_tokens if max_new_tokens is None else max_new_tokens
    for name, number in (("num_assistant_tokens", k), ("max_new_tokens", length)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1; got {number}.")
    methods = make_methods(target, draft, named, thresholds, k, length, baselines)

    ends = end_tokens(target.generation_config.eos_token_id)
    measured: dict[str, dict[str, list]] = {m.name: {f.name: [] for f in fields(Questions)} for m in methods}
    answers: dict[str, list[str]] = {m.name: [] for m in methods}
    order = random.Random(seed)
    began = time.monotonic()
    # the first question is answered twice: once untimed, for allocators, compilers and caches to settle
    bar = tqdm([rows[0], *rows], desc=f"Frontier of {task.name}", unit="question", disable=not progress)
    for index, row in enumerate(bar):
        if seconds is not None and index > 1 and time.monotonic() - began > seconds:
            rows = rows[: index - 1]
            bar.close()
            break
        ids = torch.tensor([task.prompt(row, tokenizer)], device=target.device)
        for method in order.sample(methods, len(methods)):
            _synchronize(target.device)
            start = time.perf_counter()
            new, calls = method.run(ids, torch.ones_like(ids))
            _synchronize(target.device)
            spent = time.perf_counter() - start
            if index == 0:
                continue
            new = _up_to_end(new, ends)
            answers[method.name].append(tokenizer.decode(new, skip_special_tokens=True))
            row_of = measured[method.name]
            row_of["new_tokens"].append(len(new))
            row_of["target_calls"].append(calls)
            row_of["seconds"].append(round(spent, 5))
            row_of["capped"].append(int(not new or new[-1] not in ends))

    for name, found in answers.items():
        measured[name]["correct"] = metric.compute(
            predictions=found,
            references=[str(index) for index in range(len(rows))],
            is_correct=lambda answer, index: task.is_correct(answer, rows[int(index)]),
        )["correct"]
    questions = {name: Questions(**lists) for name, lists in measured.items()}
    bootstrap = Bootstrap(len(rows), seed)
    reference = PLAIN if baselines else EXACT
    points = [
        make_point(m.name, m.judge, m.threshold, questions[m.name], questions[reference], questions[EXACT], bootstrap)
        for m in methods
    ]
    settings = {
        "target": target.config._name_or_path,
        "draft": draft.config._name_or_path,
        "task": task.name,
        "n": len(rows),
        "num_assistant_tokens": k,
        "max_new_tokens": length,
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


def _num_assistant_tokens(
    given: int | None, target: PreTrainedModel, draft: PreTrainedModel, judges: Mapping[str, Judge]
) -> int:
    configured = [model.generation_config.num_assistant_tokens for model in (target, draft)]
    wanted = [given, *configured, *(judge.num_assistant_tokens for judge in judges.values())]
    return next((int(n) for n in wanted if n is not None), DEFAULT_NUM_ASSISTANT_TOKENS)


def _up_to_end(tokens: list[int], ends: frozenset[int]) -> list[int]:
    """Cut behind the first end token: transformers' assisted generation may write past it."""
    return next((tokens[: i + 1] for i, token in enumerate(tokens) if token in ends), tokens)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} {device.type}"
