"""Speed of judged decoding, in one process and alternating, with medians: plain and compiled greedy decoding,
transformers' assisted generation, ours eager, ours with static caches (compiled on a GPU).

python examples/benchmark_decoding.py                                     # random small pair, 2 CPU threads
python examples/benchmark_decoding.py --pair embedded --num-assistant-tokens 32   # trained pair, its real acceptance
python examples/benchmark_decoding.py --pair 8b-1b --num-assistant-tokens 24 --accepted 20 --dtype bfloat16  # a GPU

The random pairs accept exactly `--accepted` of the candidates a round (scripted_pair.py), so speed is measured apart
from the models' quality, and every method writes the same text, which is checked.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.table import Table
from scripted_pair import LLAMA_1B, LLAMA_8B, TINY_DRAFT, TINY_TARGET, rejecting_head, scripted_pair
from transformers import CompileConfig, PreTrainedModel

from hf_autojudge import AutoJudgeHead, ExactMatchRule
from hf_autojudge import free_static_caches
from hf_autojudge.demo.embedded import load_pair
from hf_autojudge.demo.problems import make_problems, prompt
from hf_autojudge.evaluation.baselines import generation_settings

PAD = 0
SHAPES = {"small": (TINY_TARGET, TINY_DRAFT), "8b-1b": (LLAMA_8B, LLAMA_1B)}


@dataclass
class Sample:
    """One run of one method.

    Attributes:
        seconds, target, draft (`float`): All, and inside each model's forward calls; where those are compiled, in the
            parts that `JudgeStats` tells apart.
        new_tokens (`int`)
        passes (`float`): Target passes one after another: the rounds a clock sees.
        row_passes (`float`): The same, each counted for every row it served.
    """

    seconds: float
    target: float
    draft: float
    new_tokens: int
    passes: float
    row_passes: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", choices=["small", "embedded", "8b-1b"], default="small")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--num-assistant-tokens", type=int, default=5)
    parser.add_argument("--accepted", type=int, default=3, help="of each round's candidates, in random pairs")
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--methods", nargs="+", help="names as printed, or their beginnings; default: all")
    parser.add_argument("--judge", default="hub_cards/embedded-pair", help="of the embedded pair")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of torch")
    parser.add_argument("--compile", action="store_true", help="compile on a CPU too")
    parser.add_argument("--out", help="a JSON file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    console = Console(width=150)
    bandwidth = copy_bandwidth(args.device)
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, {args.threads} CPU threads"
    name = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    console.print(f"{name}, {versions}, {args.dtype}, copy bandwidth {bandwidth / 1e9:.1f} GB/s")
    report: dict[str, Any] = {"arguments": vars(args), "versions": versions, "bandwidth": bandwidth, "rows": []}
    target, draft, judge = make_models(args)
    moved = {"target": weight_bytes(target), "draft": weight_bytes(draft)}
    for batch in args.batch:
        rows = measure(args, target, draft, judge, batch)
        round_bytes = moved["target"] + args.num_assistant_tokens * moved["draft"]
        for row in rows:
            read = moved["target"] if row["method"].endswith("greedy") else round_bytes
            row |= {"bytes_a_round": read, "bandwidth_share": read / (row["round_ms"] / 1e3) / bandwidth}
        report["rows"] += rows
        console.print(table(args, batch, rows))
    if args.out:
        with open(args.out, "w") as file:
            json.dump(report, file, indent=1)


def make_models(args: argparse.Namespace) -> tuple[PreTrainedModel, PreTrainedModel, AutoJudgeHead]:
    if args.pair == "embedded":
        target, draft, _ = load_pair(args.device, getattr(torch, args.dtype))
        return target, draft, AutoJudgeHead.from_pretrained(args.judge)
    shapes = SHAPES[args.pair]
    target, draft = scripted_pair(*shapes, args.accepted, args.device, getattr(torch, args.dtype))
    return target, draft, rejecting_head(target, draft).to(args.device)


def make_prompts(args: argparse.Namespace, batch: int) -> dict[str, torch.Tensor]:
    if args.pair == "embedded":
        _, _, tokenizer = load_pair()
        tokenizer.padding_side = "left"
        questions = [prompt(p) for p in make_problems("validation", batch)]
        return tokenizer(questions, return_tensors="pt", padding=True).to(args.device)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(args.accepted + 2, 1000, (batch, args.prompt_tokens), generator=generator)
    ids[:, -1] = 0  # where a round of the script starts
    return {"input_ids": ids.to(args.device), "attention_mask": torch.ones_like(ids).to(args.device)}


def make_methods(
    args: argparse.Namespace, target: PreTrainedModel, draft: PreTrainedModel, judge: AutoJudgeHead, batch: int
) -> dict[str, Callable[[dict[str, torch.Tensor]], list[Any]]]:
    """Each method maps prompts to the outputs of its `generate` calls."""
    limit = {"max_new_tokens": args.new_tokens, "do_sample": False, "return_dict_in_generate": True}
    limit["pad_token_id"] = PAD
    ours = {"assistant_model": draft, "num_assistant_tokens": args.num_assistant_tokens}
    static: dict[str, Any] = {"cache_implementation": "static"}
    compiles = args.device == "cuda" or args.compile
    if compiles and args.device != "cuda":
        static["compile_config"] = CompileConfig()
        static["compile_config"]._compile_all_devices = True  # transformers' own switch for its compiled baseline
    how = "compiled" if compiles else "static"

    def each(prompts: dict[str, torch.Tensor], **call: Any) -> list[Any]:
        """Row by row, its padding cut off: what takes one prompt only."""
        outputs = []
        for ids, mask in zip(prompts["input_ids"], prompts["attention_mask"], strict=True):
            one = ids[mask.bool()][None]
            outputs.append(target.generate(one, attention_mask=torch.ones_like(one), **limit, **call))
        return outputs

    def assisted(prompts: dict[str, torch.Tensor]) -> list[Any]:
        settings = {"num_assistant_tokens": args.num_assistant_tokens, "num_assistant_tokens_schedule": "constant"}
        with generation_settings(draft, settings | {"assistant_confidence_threshold": 0.0}):
            return each(prompts, assistant_model=draft)

    methods = {
        "plain greedy": lambda p: [target.generate(**p, **limit)],
        f"{how} greedy": lambda p: [target.generate(**p, **limit, **static)],
        "assisted (transformers)": assisted,
        "ours, exact match": lambda p: [target.generate(**p, **limit, **ours, judge=ExactMatchRule())],
        "ours, judge": lambda p: [target.generate(**p, **limit, **ours, judge=judge)],
        f"ours, judge, {how}": lambda p: [target.generate(**p, **limit, **ours, **static, judge=judge)],
    }
    if batch > 1:
        methods["ours, judge, row by row"] = lambda p: each(p, **ours, judge=judge)
    if args.methods:
        methods = {n: m for n, m in methods.items() if any(n.startswith(wanted) for wanted in args.methods)}
    return methods


def measure(
    args: argparse.Namespace, target: PreTrainedModel, draft: PreTrainedModel, judge: AutoJudgeHead, batch: int
) -> list[dict[str, Any]]:
    """Medians over the runs: one dict a method."""
    methods, prompts = make_methods(args, target, draft, judge, batch), make_prompts(args, batch)
    samples: dict[str, list[Sample]] = {name: [] for name in methods}
    parts: dict[str, Sample] = {}
    syncs: dict[str, float] = {}
    texts: dict[str, list[list[int]]] = {}
    models = (target, draft, args.device)
    on_cpu = args.device != "cuda"
    for run in range(args.runs + 1):
        for name, method in methods.items():
            sample, texts[name] = one_run(name, method, prompts, *models, split=on_cpu)
            if run:  # the first warms up, and compiles
                samples[name].append(sample)
    for name, method in methods.items():  # on a GPU, telling the parts apart slows everything: runs of their own
        if not on_cpu:
            parts[name], _ = one_run(name, method, prompts, *models, split=True)
            syncs[name] = synchronisations(method, prompts) / parts[name].passes
    free_static_caches(target)
    free_static_caches(draft)
    if args.pair != "embedded":
        wrong = [name for name, text in texts.items() if text != next(iter(texts.values()))]
        assert not wrong, f"other tokens than {next(iter(texts))}: {wrong}"
    rows = []
    for name, runs in samples.items():
        m = Sample(**{field: statistics.median(getattr(s, field) for s in runs) for field in asdict(runs[0])})
        split = parts.get(name, m)
        m.passes, m.row_passes = split.passes, split.row_passes
        rows.append(
            {
                "batch": batch,
                "method": name,
                "tokens_per_second": m.new_tokens / m.seconds,
                "round_ms": m.seconds / m.passes * 1e3,
                "target_ms": split.target / m.passes * 1e3,
                "draft_ms": split.draft / m.passes * 1e3,
                "elsewhere_ms": (split.seconds - split.target - split.draft) / m.passes * 1e3,
                "accepted_per_target_call": m.new_tokens / m.row_passes,
                "synchronisations_a_round": syncs.get(name),
                "seconds": [s.seconds for s in runs],
            }
        )
    return rows


def one_run(
    name: str,
    method: Callable[[dict[str, torch.Tensor]], list[Any]],
    prompts: dict[str, torch.Tensor],
    target: PreTrainedModel,
    draft: PreTrainedModel,
    device: str,
    split: bool,
) -> tuple[Sample, list[list[int]]]:
    compiled = "compiled" in name  # hooks would end up in the graphs
    hooked = split and not compiled
    with forward_seconds(target, device, hooked) as in_target, forward_seconds(draft, device, hooked) as in_draft:
        start = now(device)
        outputs = method(prompts)
        seconds = now(device) - start
    batch, width = prompts["input_ids"].shape
    if len(outputs) == 1:
        texts = [row[width:].tolist() for row in outputs[0].sequences]
    else:
        starts = prompts["attention_mask"].sum(-1).tolist()
        texts = [o.sequences[0, start:].tolist() for o, start in zip(outputs, starts, strict=True)]
    ends = target.generation_config.eos_token_id is not None
    new = sum(len([t for t in text if not ends or t != PAD]) for text in texts)
    stats = [output.judge_stats for output in outputs if hasattr(output, "judge_stats")]
    if stats:
        row_passes = sum(s.target_calls for s in stats)
        passes = len(in_target) or row_passes * len(outputs) / batch
    elif name.startswith("assisted"):
        passes = row_passes = len(in_target) or math.nan
    else:
        passes, row_passes = len(in_target) or len(texts[0]), new  # one pass a token
    parts = (sum(in_target), sum(in_draft))
    if compiled and stats:
        parts = (sum(s.target_seconds for s in stats), sum(s.draft_seconds for s in stats))
    return Sample(seconds, *parts, new, passes, row_passes), texts


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


def synchronisations(method: Callable[[dict[str, torch.Tensor]], list[Any]], prompts: dict[str, torch.Tensor]) -> int:
    """How often a run waits for the GPU, prefill and set-up included."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            method(prompts)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(w.message) for w in caught)


def weight_bytes(model: PreTrainedModel) -> int:
    """What one pass reads of the weights: all but the table of embeddings, of which it takes a few rows."""
    table = model.get_input_embeddings().weight
    tied = table is model.get_output_embeddings().weight
    return sum(p.numel() * p.element_size() for p in model.parameters() if tied or p is not table)


def copy_bandwidth(device: str) -> float:
    """Bytes read and written a second by a large copy; the best of several."""
    source = torch.empty(2**30 if device == "cuda" else 2**28, dtype=torch.uint8, device=device)
    copy, best = torch.empty_like(source), 0.0
    for _ in range(10):
        start = now(device)
        copy.copy_(source)
        best = max(best, 2 * source.numel() / (now(device) - start))
    return best


def table(args: argparse.Namespace, batch: int, rows: list[dict[str, Any]]) -> Table:
    title = f"{args.pair} pair, batch {batch}, {args.num_assistant_tokens} candidates"
    title += "" if args.pair == "embedded" else f", {args.accepted} accepted"
    out = Table(title=f"{title}; medians of {args.runs} runs")
    names = ["method", "tokens/s", "ms/round", "target", "draft", "elsewhere", "GB/round", "of bandwidth", "accepted"]
    for column in names:
        out.add_column(column, justify="left" if column == "method" else "right")
    for r in rows:
        ms = [f"{r[k]:.2f}" for k in ("round_ms", "target_ms", "draft_ms", "elsewhere_ms")]
        share = [f"{r['bytes_a_round'] / 1e9:.3f}", f"{r['bandwidth_share']:.0%}"]
        accepted = f"{r['accepted_per_target_call']:.2f}"
        out.add_row(r["method"], f"{r['tokens_per_second']:.0f}", *ms, *share, accepted)
    return out


if __name__ == "__main__":
    main()
