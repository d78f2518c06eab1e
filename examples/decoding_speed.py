"""Measures how fast methods decode: times, tokens, passes, host-device synchronizations, share of the bandwidth."""

from __future__ import annotations

import math
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from scripted_pair import scripted_tokens
from transformers import PreTrainedModel

PAD = 0
Prompts = dict[str, torch.Tensor]
Method = Callable[[Prompts], list[Any]]


@dataclass(frozen=True)
class Settings:
    """What a benchmark runs.

    Attributes:
        pair (`str`): `"embedded"` or the name of a random pair.
        num_assistant_tokens (`int`): Candidates of each round.
        accepted (`int`): How many of them are accepted, in random pairs.
        prompt_tokens, new_tokens (`int`): Lengths; prompts of the embedded pair have their own.
        runs (`int`): Timed runs of each method, after one that warms up.
        methods (`list[str]`, *optional*): Names as printed, or their beginnings; all by default.
        judge (`str`): Judge of the embedded pair.
        dtype, device (`str`)
        compile (`bool`): Compile on a CPU too.
        backend (`str`, *optional*): Compiles with another backend of `torch.compile` than the default.
    """

    pair: str = "small"
    num_assistant_tokens: int = 5
    accepted: int = 3
    prompt_tokens: int = 64
    new_tokens: int = 128
    runs: int = 5
    methods: list[str] | None = None
    judge: str = "hub_cards/embedded-pair"
    dtype: str = "float32"
    device: str = "cpu"
    compile: bool = False
    backend: str | None = None

    @property
    def compiles(self) -> bool:
        return self.device == "cuda" or self.compile


@dataclass
class Run:
    """One run of one method.

    Attributes:
        seconds, target, draft (`float`): In all, and inside each model's forward calls; where those are compiled, in
            the parts that `JudgeStats` tells apart.
        new_tokens (`int`)
        passes (`float`): Target passes one after another: the rounds that take time. Of a compiled batch, whose
            passes cannot be hooked, the mean over its sequences: too few if some end early.
        sequence_passes (`float`): The same, each counted once for every sequence in it.
    """

    seconds: float
    target: float
    draft: float
    new_tokens: int
    passes: float
    sequence_passes: float


def measure(
    settings: Settings,
    target: PreTrainedModel,
    draft: PreTrainedModel,
    methods: dict[str, Method],
    prompts: Prompts,
) -> list[dict[str, Any]]:
    """Run the methods alternately and take medians: one dict for each method.

    Raises:
        AssertionError: If a method writes other tokens than the script of a random pair.
    """
    runs: dict[str, list[Run]] = {name: [] for name in methods}
    parts: dict[str, Run] = {}
    syncs: dict[str, float] = {}
    first: dict[str, float] = {}
    models = (target, draft, settings.device)
    on_cpu = settings.device != "cuda"
    for number in range(settings.runs + 1):
        for name, method in methods.items():
            run, tokens = one_run(name, method, prompts, *models, split=on_cpu)
            if settings.pair != "embedded":
                check_script(name, settings, tokens)
            if number:  # the first warms up, and compiles
                runs[name].append(run)
            else:
                first[name] = run.seconds
    for name, method in methods.items():  # on a GPU, telling the parts apart slows everything: runs of their own
        if not on_cpu:
            parts[name], _ = one_run(name, method, prompts, *models, split=True)
            syncs[name] = synchronizations(method, prompts).total() / parts[name].passes
    rows = []
    for name, timed in runs.items():
        m = Run(**{field: statistics.median(getattr(s, field) for s in timed) for field in asdict(timed[0])})
        split = parts.get(name, m)
        m.passes, m.sequence_passes = split.passes, split.sequence_passes
        rows.append(
            {
                "batch": len(prompts["input_ids"]),
                "method": name,
                "tokens_per_second": m.new_tokens / m.seconds,
                "round_ms": m.seconds / m.passes * 1e3,
                "target_ms": split.target / m.passes * 1e3,
                "draft_ms": split.draft / m.passes * 1e3,
                "elsewhere_ms": (split.seconds - split.target - split.draft) / m.passes * 1e3,
                "accepted_per_target_call": m.new_tokens / m.sequence_passes,
                "synchronizations_with_prefill": syncs.get(name),  # per round
                "first_seconds": first[name],
                "seconds": [s.seconds for s in timed],
            }
        )
    return rows


def check_script(name: str, settings: Settings, tokens: list[list[int]]) -> None:
    """Raise `AssertionError` if a sequence of new tokens is not the random pair's script."""
    script = scripted_tokens(settings.accepted, settings.new_tokens)
    for index, found in enumerate(tokens):
        if found != script:
            shared = min(len(found), len(script))
            place = next((i for i in range(shared) if found[i] != script[i]), shared)
            raise AssertionError(
                f"{name} left the script in sequence {index} at new token {place}: {found[place : place + 8]} in "
                f"place of {script[place : place + 8]}."
            )


def one_run(
    name: str,
    method: Method,
    prompts: Prompts,
    target: PreTrainedModel,
    draft: PreTrainedModel,
    device: str,
    split: bool,
) -> tuple[Run, list[list[int]]]:
    """Run a method once; with `split` also time the models' passes. Returns the run and each prompt's new tokens."""
    compiled = "compiled" in name  # hooks would end up in the graphs
    hooked = split and not compiled
    with forward_seconds(target, device, hooked) as in_target, forward_seconds(draft, device, hooked) as in_draft:
        start = now(device)
        outputs = method(prompts)
        seconds = now(device) - start
    batch, width = prompts["input_ids"].shape
    if len(outputs) == 1:
        tokens = [sequence[width:].tolist() for sequence in outputs[0].sequences]
    else:
        starts = prompts["attention_mask"].sum(-1).tolist()
        tokens = [o.sequences[0, start:].tolist() for o, start in zip(outputs, starts, strict=True)]
    ends = target.generation_config.eos_token_id is not None
    new = sum(len([t for t in sequence if not ends or t != PAD]) for sequence in tokens)
    stats = [output.judge_stats for output in outputs if hasattr(output, "judge_stats")]
    if stats:
        sequence_passes = sum(s.target_calls for s in stats)
        passes = len(in_target) or sequence_passes * len(outputs) / batch
    elif name.startswith("assisted"):
        passes = sequence_passes = len(in_target) or math.nan
    else:
        passes, sequence_passes = len(in_target) or len(tokens[0]), new  # one pass a token
    parts = (sum(in_target), sum(in_draft))
    if compiled and stats:
        parts = (sum(s.target_seconds for s in stats), sum(s.draft_seconds for s in stats))
    return Run(seconds, *parts, new, passes, sequence_passes), tokens


@contextmanager
def forward_seconds(model: PreTrainedModel, device: str, hooked: bool) -> Iterator[list[float]]:
    """Seconds of each forward call; on a GPU each is waited for."""
    seconds: list[float] = []
    if not hooked:
        yield seconds
        return
    started: list[float] = []
    handles = [
        model.register_forward_pre_hook(lambda *_: started.append(now(device))),
        model.register_forward_hook(lambda *_: seconds.append(now(device) - started.pop())),
    ]
    try:
        yield seconds
    finally:
        for handle in handles:
            handle.remove()


def now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def synchronizations(method: Method, prompts: Prompts) -> Counter[str]:
    """How often one run of a method waits for the GPU, prefill and set-up included, by the line that waits."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            method(prompts)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    # torch's words; another warning of it, that the mode is a prototype, speaks of "synchronizing" too
    waits = [w for w in caught if "called a synchronizing" in str(w.message)]
    return Counter(f"{'/'.join(Path(w.filename).parts[-2:])}:{w.lineno}" for w in waits)


def weight_bytes(model: PreTrainedModel) -> int:
    """Bytes of weights that one pass reads: all but the embedding table, of which it takes a few rows."""
    table = model.get_input_embeddings().weight
    tied = table is model.get_output_embeddings().weight
    return sum(p.numel() * p.element_size() for p in model.parameters() if tied or p is not table)


def copy_bandwidth(device: str) -> float:
    """Bytes read and written per second by a large copy; the best of several."""
    source = torch.empty(2**30 if device == "cuda" else 2**28, dtype=torch.uint8, device=device)
    copy, best = torch.empty_like(source), 0.0
    copies = 8 if device == "cuda" else 1  # one takes less than a millisecond there
    for _ in range(10):
        start = now(device)
        for _ in range(copies):
            copy.copy_(source)
        best = max(best, 2 * copies * source.numel() / (now(device) - start))
    return best


def add_bandwidth(
    rows: list[dict[str, Any]], settings: Settings, target: PreTrainedModel, draft: PreTrainedModel, bandwidth: float
) -> None:
    """Add the weights read in a round, and the share of the bandwidth that reading them took."""
    alone = weight_bytes(target)
    together = alone + settings.num_assistant_tokens * weight_bytes(draft)
    for row in rows:
        read = alone if row["method"].endswith("greedy") else together
        row |= {"bytes_a_round": read, "bandwidth_share": read / (row["round_ms"] / 1e3) / bandwidth}


@torch.no_grad()
def first_difference(
    target: PreTrainedModel, prompts: Prompts, found: list[list[int]], expected: list[list[int]]
) -> str:
    """Where new tokens of a batch first differ, and how far the target's two best logits lie apart there: where these
    are nearly equal, rounding alone may choose."""
    i = next(i for i in range(len(found)) if found[i] != expected[i])
    shared = min(len(found[i]), len(expected[i]))
    n = next((n for n in range(shared) if found[i][n] != expected[i][n]), shared)
    before = prompts["input_ids"][i][prompts["attention_mask"][i].bool()].tolist() + found[i][:n]
    best = target(torch.tensor([before], device=target.device)).logits[0, -1].float().topk(2).values.tolist()
    return (
        f"in prompt {i} from new token {n} on (the target's two best logits there lie {best[0] - best[1]:.2g} apart)"
    )
