"""What gpu_report.py measures of decoding: tokens, host-device synchronizations, speed.

Each part is a list of measurements: a name, and a function that gives records. A record is a dict of JSON values, of
which the report's table shows `setting`, `method`, `tokens_per_second`, `round_ms`, `bandwidth_share`,
`accepted_per_target_call`, `synchronizations_per_round`, `note` (a few words) and `error` (it failed).
"""

from __future__ import annotations

import gc
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch
from benchmark_decoding import make_methods, make_models, make_prompts, static_arguments
from decoding_speed import PAD, Settings, add_bandwidth, first_difference, measure, one_run, synchronizations
from torch._dynamo.utils import counters
from transformers import PreTrainedModel

from hf_autojudge import AutoJudgeHead, KLRule, free_static_caches

Record = dict[str, Any]
Measurement = tuple[str, Callable[[], list[Record]]]
Models = tuple[PreTrainedModel, PreTrainedModel, AutoJudgeHead]
PLAIN, ASSISTED, EXACT = "plain greedy", "assisted (transformers)", "ours, exact match"
OURS, COMPILED_GREEDY, COMPILED = "ours, judge", "compiled greedy", "ours, judge, compiled"


@dataclass(frozen=True)
class Sizes:
    """How much the report measures."""

    device: str = "cuda"
    dtype: str = "bfloat16"  # of the speed, and of the random pair's labels
    random_pair: str = "8b-1b"
    rounds: tuple[tuple[int, int], ...] = ((8, 6), (24, 20))  # the random pair's candidates, and how many are accepted
    candidates: int = 16  # of the embedded pair
    batch: int = 8  # prompts at the same time, beside 1
    new_tokens: int = 168  # a multiple of `accepted + 1` makes all of the random pair's rounds whole
    runs: int = 3
    judges: tuple[str, ...] = ("threshold 0", "judge", "KL rule")  # whose tokens are compared
    compile_embedded: bool = True  # in the parts about speed
    label_prompts: int = 200  # of the embedded pair
    label_tokens: int = 240
    label_batches: tuple[int, ...] = (16, 64)
    label_reference: int = 12  # prompts of the plain search
    random_label_prompts: int = 32
    random_label_tokens: int = 126
    fit_mismatches: int = 150_000
    fit_features: int = 6_144
    backend: str | None = None  # of `torch.compile`

    def settings(self, pair: str, candidates: int, accepted: int = 3) -> Settings:
        """Settings of one pair, for the speed."""
        return Settings(
            pair=pair,
            num_assistant_tokens=candidates,
            accepted=accepted,
            new_tokens=self.new_tokens,
            runs=self.runs,
            dtype=self.dtype,
            device=self.device,
            compile=True,
            backend=self.backend,
        )

    def embedded(self) -> Settings:
        """Settings of the embedded pair."""
        return self.settings("embedded", self.candidates)

    def random(self) -> list[Settings]:
        """Settings of the random pair, one for each number of candidates."""
        return [self.settings(self.random_pair, *numbers) for numbers in self.rounds]


TINY = Sizes(
    device="cpu",
    dtype="float32",
    random_pair="tiny",
    rounds=((4, 2),),
    candidates=4,
    batch=2,
    new_tokens=12,
    runs=1,
    judges=("threshold 0", "judge"),
    compile_embedded=False,
    label_prompts=2,
    label_tokens=30,
    label_batches=(2,),
    label_reference=1,
    random_label_prompts=2,
    random_label_tokens=12,
    fit_mismatches=600,
    fit_features=16,
    backend="eager",
)
"""Stand-ins that run the whole path on a CPU."""


class Pairs:
    """Keeps the last pair and its compiled graphs. A second large target might not fit beside the first."""

    def __init__(self) -> None:
        self._key: tuple[str, ...] | None = None
        self._models: Models | None = None

    def get(self, settings: Settings) -> Models:
        """Target, draft and judge."""
        key = (settings.pair, str(settings.accepted), settings.dtype, settings.device)
        if key != self._key or self._models is None:
            self.free()
            self._models, self._key = make_models(settings), key
        return self._models

    def free(self) -> None:
        """Free the pair's memory and its graphs'."""
        if self._models is not None:
            for model in self._models[:2]:
                free_static_caches(model)
        self._models = None
        torch._dynamo.reset()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def token_measurements(sizes: Sizes, pairs: Pairs) -> list[Measurement]:
    """Part `tokens`: in float32 equal to the target's own at threshold 0 and to the CPU's; synchronizations."""
    found: list[Measurement] = []
    on_cpu = cache(partial(cpu_tokens, sizes))
    for batch in (1, sizes.batch):
        for judge in sizes.judges:
            for how in ("eager", "compiled"):
                compare = partial(compare_tokens, sizes, pairs, on_cpu, judge, batch, how)
                found.append((f"embedded, batch {batch}, {judge}, {how}", compare))
        for method in [PLAIN, *([ASSISTED] if batch == 1 else []), OURS, COMPILED]:
            count = partial(count_synchronizations, sizes, pairs, method, batch)
            found.append((f"synchronizations, batch {batch}, {method}", count))
    return found


def judge_arguments(name: str, judge: AutoJudgeHead) -> dict[str, Any]:
    """Arguments of `generate` for a judge of the report: `"threshold 0"`, `"judge"` or `"KL rule"`."""
    if name == "KL rule":
        return {"judge": KLRule(0.2)}
    return {"judge": judge, **({"judge_threshold": 0.0} if name == "threshold 0" else {})}


def generate(settings: Settings, models: Models, batch: int, judge: str | None, **call: Any) -> tuple[list, Any]:
    """New tokens of each prompt, without padding, and the statistics. Plain greedy decoding if `judge` is `None`."""
    target, draft, head = models
    if judge is not None:
        call |= {"assistant_model": draft, "num_assistant_tokens": settings.num_assistant_tokens}
        call |= judge_arguments(judge, head)
    prompts = make_prompts(settings, batch)
    limit = {"max_new_tokens": settings.new_tokens, "do_sample": False, "pad_token_id": PAD}
    output = target.generate(**prompts, **limit, return_dict_in_generate=True, **call)
    sequences = output.sequences[:, prompts["input_ids"].shape[1] :].tolist()
    for tokens in sequences:
        while tokens and tokens[-1] == PAD:
            tokens.pop()
    return sequences, getattr(output, "judge_stats", None)


def cpu_tokens(sizes: Sizes, judge: str | None, batch: int) -> list[list[int]]:
    """What the CPU writes in float32."""
    settings = replace(sizes.embedded(), dtype="float32", device="cpu")
    return generate(settings, make_models(settings), batch, judge)[0]


def compare_tokens(sizes: Sizes, pairs: Pairs, on_cpu: Callable, judge: str, batch: int, how: str) -> list[Record]:
    """One record; a difference is an error."""
    settings = replace(sizes.embedded(), dtype="float32")
    models = pairs.get(settings)
    found, stats = generate(
        settings, models, batch, judge, **(static_arguments(settings) if how == "compiled" else {})
    )
    expected = {"the CPU's": on_cpu(judge, batch)}
    if judge == "threshold 0":
        expected |= {"plain greedy": generate(settings, models, batch, None)[0]}
        expected |= {"the CPU's plain greedy": on_cpu(None, batch)}
    equal = [name for name, tokens in expected.items() if tokens == found]
    record: Record = {
        "setting": f"embedded, {settings.num_assistant_tokens} candidates, batch {batch}, float32",
        "method": f"ours, {judge}, {how}",
        "accepted_per_target_call": stats.accepted_per_target_call,
        "note": f"{sum(map(len, found))} tokens, {stats.accepted_by_judge} accepted by the judge; equal to "
        f"{', '.join(equal) or 'none'}",
        "stats": stats.to_dict(),
    }
    if len(equal) < len(expected):
        others = {name: tokens for name, tokens in expected.items() if name not in equal}
        record["error"] = "; ".join(
            f"differs from {name} {first_difference(models[0], make_prompts(settings, batch), found, tokens)}"
            for name, tokens in others.items()
        )
    return [record]


def count_synchronizations(sizes: Sizes, pairs: Pairs, method: str, batch: int) -> list[Record]:
    """Those of the rounds by which a longer answer exceeds a shorter one: prefill and set-up cancel out. CUDA only."""
    counts: list[Counter[str]] = []
    passes = []
    long = min(60, sizes.new_tokens // 2)  # no answer has ended there
    for new_tokens in (long, long // 3):
        settings = replace(sizes.embedded(), dtype="float32", new_tokens=new_tokens)
        models = pairs.get(settings)
        methods, prompts = make_methods(settings, *models, batch), make_prompts(settings, batch)
        eager = OURS if method == COMPILED else method  # the same rounds, and its passes can be counted
        passes.append(one_run(eager, methods[eager], prompts, *models[:2], settings.device, split=True)[0].passes)
        methods[method](prompts)  # warms up, and compiles
        counts.append(synchronizations(methods[method], prompts) if settings.device == "cuda" else Counter())
    rounds = passes[0] - passes[1]
    per_round = {place: count / rounds for place, count in (counts[0] - counts[1]).most_common(12)}
    total = (counts[0].total() - counts[1].total()) / rounds
    return [
        {
            "setting": f"embedded, {sizes.candidates} candidates, batch {batch}, float32",
            "method": method,
            "synchronizations_per_round": total if sizes.device == "cuda" else None,
            "synchronizations_outside_rounds": counts[1].total() - total * passes[1],
            "rounds_compared": rounds,
            "at": per_round,
            "note": ", ".join(f"{count:.2g} at {place}" for place, count in list(per_round.items())[:4]),
        }
    ]


def speed_measurements(sizes: Sizes, pairs: Pairs, bandwidth: float) -> list[Measurement]:
    """Part `speed`: one prompt, nothing compiled."""
    found = []
    for number, settings in enumerate(sizes.random()):
        methods = [*([PLAIN] if number == 0 else []), ASSISTED, EXACT, OURS]
        found += [decoding(pairs, settings, 1, method, bandwidth) for method in methods]
    return found + [decoding(pairs, sizes.embedded(), 1, m, bandwidth) for m in (PLAIN, ASSISTED, EXACT, OURS)]


def compile_measurements(sizes: Sizes, pairs: Pairs, bandwidth: float) -> list[Measurement]:
    """Part `compile`: one prompt, compiled. The target alone takes as long with every number of candidates."""
    wanted = [(settings, COMPILED) for settings in sizes.random()]
    wanted += [(sizes.random()[-1], COMPILED_GREEDY)]
    if sizes.compile_embedded:
        wanted += [(sizes.embedded(), COMPILED), (sizes.embedded(), COMPILED_GREEDY)]
    return [decoding(pairs, settings, 1, method, bandwidth) for settings, method in wanted]


def batch_measurements(sizes: Sizes, pairs: Pairs, bandwidth: float) -> list[Measurement]:
    """Part `batch`: several prompts. Assisted generation takes one at a time, so it comes last."""
    first, *others = sizes.random()
    embedded = sizes.embedded()
    wanted = [(first, m) for m in (PLAIN, OURS, COMPILED)]
    wanted += [(s, m) for s in others for m in (OURS, COMPILED)]
    wanted += [(sizes.random()[-1], COMPILED_GREEDY)]
    wanted += [(embedded, m) for m in (PLAIN, OURS, *((COMPILED, COMPILED_GREEDY) if sizes.compile_embedded else ()))]
    wanted += [(embedded, ASSISTED), (replace(first, runs=1), ASSISTED)]
    return [decoding(pairs, s, sizes.batch, m, bandwidth) for s, m in wanted]


def decoding(pairs: Pairs, settings: Settings, batch: int, method: str, bandwidth: float) -> Measurement:
    """A measurement of one method's speed."""
    numbers = f"{settings.num_assistant_tokens} candidates"
    if settings.pair != "embedded":
        numbers += f", {settings.accepted} accepted"
    setting = f"{settings.pair}, {numbers}, batch {batch}, {settings.dtype}"

    def run() -> list[Record]:
        target, draft, judge = pairs.get(settings)
        counters.clear()
        methods = make_methods(settings, target, draft, judge, batch)
        rows = measure(settings, target, draft, {method: methods[method]}, make_prompts(settings, batch))
        add_bandwidth(rows, settings, target, draft, bandwidth)
        for row in rows:
            row |= {"setting": setting, "pair": settings.pair}
            if "compiled" in method:
                row["graphs"] = counters["stats"]["unique_graphs"]
                row["graph_breaks"] = sum(counters["graph_break"].values())
                row["recompilations"] = sum(counters["recompiles"].values())
                row["cudagraph_skips"] = counters["inductor"]["cudagraph_skips"]
                names = ("graphs", "graph_breaks", "recompilations", "cudagraph_skips")
                numbers = ", ".join(f"{row[name]} {name.replace('_', ' ')}" for name in names)
                row["note"] = f"first run {row['first_seconds']:.0f} s; {numbers}"
            if row["round_ms"] is None or math.isnan(row["round_ms"]):
                row["error"] = "the target's passes were not counted"
        return rows

    return f"{setting}, {method}", run
