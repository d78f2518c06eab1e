"""The frontier: task accuracy against accepted tokens per target call and tokens/s, over thresholds, with
intervals."""

from __future__ import annotations

import copy
import json
import math
import os
import platform
import random
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from tqdm import tqdm
from transformers import PreTrainedModel

import hf_autojudge
from hf_autojudge.decoding.passes import unwrap_peft
from hf_autojudge.decoding.sources import DEFAULT_NUM_ASSISTANT_TOKENS
from hf_autojudge.evaluation.bootstrap import Bootstrap, Interval
from hf_autojudge.evaluation.metrics import load_metric
from hf_autojudge.files import read_json, replacing
from hf_autojudge.judges import ExactMatchRule, Judge
from hf_autojudge.judges.base import check_threshold
from hf_autojudge.labeling.tasks.task import Row, Task

if TYPE_CHECKING:
    from rich.table import Table
    from transformers import PreTrainedTokenizerBase

PLAIN = "plain greedy"
ASSISTED = "assisted (transformers)"
EXACT = "threshold 0"


@dataclass(frozen=True)
class Questions:
    """What one method did on each question, in the order of the rows.

    Attributes:
        correct (`list[int]`): 1 for a right outcome.
        new_tokens (`list[int]`): An end token included, nothing after it.
        target_calls (`list[int]`): Forward passes of the target, prefill's included.
        seconds (`list[float]`): Wall time of the whole `generate` call.
        capped (`list[int]`): 1 for an answer without an end token.
    """

    correct: list[int]
    new_tokens: list[int]
    target_calls: list[int]
    seconds: list[float]
    capped: list[int]


@dataclass(frozen=True)
class Point:
    """One method's figures. Intervals are 95% bootstrap intervals over questions.

    Attributes:
        name (`str`): For instance `"head, threshold 0.3"`; unique.
        judge (`str`): The judge's name; equal to `name` for baselines.
        threshold (`float`, *optional*): `None` for baselines and rules without one.
        n (`int`): Questions.
        accuracy (`float`): Share of right outcomes, in [0, 1].
        accepted (`float`): New tokens divided by target forward passes, prefill's included.
        tokens_per_second (`float`): New tokens divided by the wall time of the `generate` calls.
        mean_new_tokens (`float`): A question.
        length_inflation (`float`): New tokens divided by the reference's. The reference is plain greedy decoding or,
            without baselines, threshold 0.
        length_cap_hits (`int`): Answers without an end token.
        accuracy_difference (`float`): To the reference, in [-1, 1].
        accepted_ratio (`float`): `accepted` divided by that of threshold 0.
        accuracy_interval, accepted_interval, tokens_per_second_interval (`tuple[float, float]`)
        accuracy_difference_interval, accepted_ratio_interval (`tuple[float, float]`): Paired by question.
    """

    name: str
    judge: str
    threshold: float | None
    n: int
    accuracy: float
    accepted: float
    tokens_per_second: float
    mean_new_tokens: float
    length_inflation: float
    length_cap_hits: int
    accuracy_difference: float
    accepted_ratio: float
    accuracy_interval: Interval
    accepted_interval: Interval
    tokens_per_second_interval: Interval
    accuracy_difference_interval: Interval
    accepted_ratio_interval: Interval


@dataclass(frozen=True)
class Frontier:
    """The result of [`frontier`].

    Attributes:
        points (`list[Point]`): Baselines first, then each judge by rising threshold.
        questions (`dict[str, Questions]`): By the points' names.
        settings (`dict`): Models, task, number of rows, candidates a round, versions, device, dtype, command line.
    """

    points: list[Point]
    questions: dict[str, Questions]
    settings: dict[str, Any]

    def __getitem__(self, name: str) -> Point:
        """The point of this name."""
        return next(p for p in self.points if p.name == name)

    def to_json(self, path: str | os.PathLike) -> None:
        """Write everything, whole or not at all, on one line: the questions are long lists. Texts are not kept."""
        with replacing(path) as beside:
            beside.write_text(json.dumps(asdict(self), allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def from_json(cls, path: str | os.PathLike) -> Frontier:
        """Read what [`to_json`] wrote.

        Raises:
            ValueError: If the file is missing, not JSON, or something else.
        """
        value = read_json(path)
        try:
            points = [Point(**_with_tuples(row)) for row in value["points"]]
            return cls(points, {name: Questions(**q) for name, q in value["questions"].items()}, value["settings"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} holds no frontier ({error!r}); write it with Frontier.to_json.") from error

    def table(self) -> Table:
        """A table for the terminal, for `rich.print`."""
        from rich import box
        from rich.table import Table

        s = self.settings
        table = Table(
            title=f"{s['task']}, {s['n']} questions, {s['num_assistant_tokens']} candidates a round, "
            f"{s['device_name']}",
            caption="Below each figure its 95% bootstrap interval over questions. @: threshold. Accepted: tokens per "
            f"target call; ratio: to threshold 0. Difference and length: to {s['reference']}.",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        table.add_column("method", no_wrap=True)
        for column in ("accuracy %", "difference", "accepted", "ratio", "tokens/s", "length", "cap hits"):
            table.add_column(column, justify="right", no_wrap=True)
        for p in self.points:
            table.add_row(
                p.name if p.threshold is None else f"{p.judge} @ {p.threshold:.2g}",
                _spread(100 * p.accuracy, p.accuracy_interval, 100),
                _spread(100 * p.accuracy_difference, p.accuracy_difference_interval, 100, "+.1f"),
                _spread(p.accepted, p.accepted_interval, 1, ".2f"),
                _spread(p.accepted_ratio, p.accepted_ratio_interval, 1, ".2f"),
                _spread(p.tokens_per_second, p.tokens_per_second_interval, 1),
                f"{p.length_inflation:.3f}",
                str(p.length_cap_hits),
            )
        return table


def _with_tuples(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no tuples."""
    return {name: tuple(value) if name.endswith("_interval") else value for name, value in row.items()}


def _spread(value: float, interval: Interval, factor: float, form: str = ".1f") -> str:
    return f"{value:{form}}\n{factor * interval[0]:{form}}..{factor * interval[1]:{form}}"


@dataclass(frozen=True)
class _Method:
    """A way to decode: `run(ids, mask)` gives the new token ids and, if it knows it, the number of target calls."""

    name: str
    judge: str
    threshold: float | None
    run: Callable[[torch.Tensor, torch.Tensor], tuple[list[int], int]]


def frontier(
    target: PreTrainedModel,
    draft: PreTrainedModel,
    judges: Judge | Mapping[str, Judge],
    task: Task,
    thresholds: Sequence[float],
    *,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row] | None = None,
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
        rows (`Sequence[Row]`, *optional*): Questions; those of the task's `"test"` split by default.
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
    methods = _methods(target, draft, named, thresholds, k, length, baselines)

    ends = _end_tokens(target)
    measured: dict[str, dict[str, list]] = {m.name: {f.name: [] for f in fields(Questions)} for m in methods}
    outcomes: dict[str, list[str]] = {m.name: [] for m in methods}
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
            answer = tokenizer.decode(new, skip_special_tokens=True)
            outcomes[method.name].append(task.outcome(answer) or "")
            row_of = measured[method.name]
            row_of["new_tokens"].append(len(new))
            row_of["target_calls"].append(calls)
            row_of["seconds"].append(round(spent, 5))
            row_of["capped"].append(int(not new or new[-1] not in ends))

    references = [task.reference(row) for row in rows]
    for name, found in outcomes.items():
        measured[name]["correct"] = metric.compute(predictions=found, references=references)["correct"]
    questions = {name: Questions(**lists) for name, lists in measured.items()}
    bootstrap = Bootstrap(len(rows), seed)
    reference = PLAIN if baselines else EXACT
    points = [_point(m, questions[m.name], questions[reference], questions[EXACT], bootstrap) for m in methods]
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
        "versions": {m.__name__: m.__version__ for m in (hf_autojudge, transformers, torch)},
        "command": shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]]),
    }
    return Frontier(points, questions, settings)


def _name(judge: Judge) -> str:
    return type(judge).__name__ if isinstance(judge, torch.nn.Module) else repr(judge)


def _num_assistant_tokens(
    given: int | None, target: PreTrainedModel, draft: PreTrainedModel, judges: Mapping[str, Judge]
) -> int:
    configured = [model.generation_config.num_assistant_tokens for model in (target, draft)]
    wanted = [given, *configured, *(judge.window for judge in judges.values())]
    return next((int(n) for n in wanted if n is not None), DEFAULT_NUM_ASSISTANT_TOKENS)


def _methods(
    target: PreTrainedModel,
    draft: PreTrainedModel,
    judges: Mapping[str, Judge],
    thresholds: Sequence[float],
    k: int,
    max_new_tokens: int,
    baselines: bool,
) -> list[_Method]:
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

    methods = [_Method(PLAIN, PLAIN, None, plain), _Method(ASSISTED, ASSISTED, None, assisted)] if baselines else []
    methods.append(_Method(EXACT, EXACT, None, partial(judged, judge=ExactMatchRule(), threshold=None)))
    for name, judge in judges.items():
        if judge.threshold is None:
            methods.append(_Method(name, name, None, partial(judged, judge=judge, threshold=None)))
            continue
        if not thresholds:
            raise ValueError(f"The judge {name!r} needs at least one threshold in [0, 1]; `thresholds` is empty.")
        # four digits, unless two thresholds are closer than that
        labels = next(
            ls for d in range(4, 18) if len(set(ls := [f"{t:.{d}g}" for t in thresholds])) == len(set(thresholds))
        )
        for t, label in zip(thresholds, labels, strict=True):
            methods.append(_Method(f"{name}, threshold {label}", name, t, partial(judged, judge=judge, threshold=t)))
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


def _end_tokens(model: PreTrainedModel) -> frozenset[int]:
    ends = model.generation_config.eos_token_id
    return frozenset([ends] if isinstance(ends, int) else ends or [])


def _up_to_end(tokens: list[int], ends: frozenset[int]) -> list[int]:
    """Cut behind the first end token: transformers' assisted generation may write past it."""
    return next((tokens[: i + 1] for i, token in enumerate(tokens) if token in ends), tokens)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} {device.type}"


def _point(method: _Method, own: Questions, reference: Questions, exact: Questions, bootstrap: Bootstrap) -> Point:
    n = len(own.correct)
    new, calls, seconds = sum(own.new_tokens), sum(own.target_calls), math.fsum(own.seconds)
    accepted = new / calls
    new_of, calls_of = bootstrap.sums(np.array(own.new_tokens)), bootstrap.sums(np.array(own.target_calls))
    exact_of = bootstrap.sums(np.array(exact.new_tokens)) / bootstrap.sums(np.array(exact.target_calls))
    correct, reference_correct = np.array(own.correct), np.array(reference.correct)
    return Point(
        name=method.name,
        judge=method.judge,
        threshold=method.threshold,
        n=n,
        accuracy=float(correct.mean()),
        accepted=accepted,
        tokens_per_second=new / seconds,
        mean_new_tokens=new / n,
        length_inflation=new / sum(reference.new_tokens),
        length_cap_hits=sum(own.capped),
        accuracy_difference=float((correct - reference_correct).mean()),
        accepted_ratio=accepted / (sum(exact.new_tokens) / sum(exact.target_calls)),
        accuracy_interval=bootstrap.interval(bootstrap.sums(correct) / n),
        accepted_interval=bootstrap.interval(new_of / calls_of),
        tokens_per_second_interval=bootstrap.interval(new_of / bootstrap.sums(np.array(own.seconds))),
        accuracy_difference_interval=bootstrap.interval(bootstrap.sums(correct - reference_correct) / n),
        accepted_ratio_interval=bootstrap.interval(new_of / calls_of / exact_of),
    )
