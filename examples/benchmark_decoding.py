"""Speed of judged decoding, in one process and alternating, with medians: plain and compiled greedy decoding,
transformers' assisted generation, ours eager, ours with static caches (compiled on a GPU).

python examples/benchmark_decoding.py                                     # random small pair, 2 CPU threads
python examples/benchmark_decoding.py --pair embedded --num-assistant-tokens 32   # trained pair, its real acceptance
python examples/benchmark_decoding.py --pair 8b-1b --num-assistant-tokens 24 --accepted 20 --dtype bfloat16  # a GPU

The random pairs accept exactly `--accepted` candidates in each round (scripted_pair.py). Speed is thus measured apart
from the models' quality, and every method must write the scripted tokens, which is checked.
"""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import torch
import transformers
from decoding_speed import PAD, Method, Prompts, Settings, add_bandwidth, copy_bandwidth, measure
from scripted_pair import LLAMA_1B, LLAMA_8B, TINY_DRAFT, TINY_TARGET, rejecting_head, scripted_pair
from transformers import AutoTokenizer, CompileConfig, PreTrainedModel

from hf_autojudge import AutoJudgeHead, ExactMatchRule, free_static_caches
from hf_autojudge.demo.embedded import PAIR, load_pair
from hf_autojudge.demo.problems import make_problems, prompt
from hf_autojudge.provenance import write_json

if TYPE_CHECKING:
    from rich.table import Table

SHAPES = {
    "tiny": (TINY_TARGET | {"num_hidden_layers": 1}, TINY_DRAFT),
    "small": (TINY_TARGET, TINY_DRAFT),
    "8b-1b": (LLAMA_8B, LLAMA_1B),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", choices=[*SHAPES, "embedded"], default="small")
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
    from rich.console import Console  # here, so that gpu_report.py needs no rich

    torch.set_num_threads(args.threads)
    console = Console(width=150)
    settings = Settings(**{f.name: getattr(args, f.name) for f in fields(Settings) if hasattr(args, f.name)})
    bandwidth = copy_bandwidth(args.device)
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, {args.threads} CPU threads"
    name = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    console.print(f"{name}, {versions}, {args.dtype}, copy bandwidth {bandwidth / 1e9:.1f} GB/s")
    report: dict[str, Any] = {"arguments": vars(args), "versions": versions, "bandwidth": bandwidth, "rows": []}
    target, draft, judge = make_models(settings)
    for batch in args.batch:
        methods = make_methods(settings, target, draft, judge, batch)
        rows = measure(settings, target, draft, methods, make_prompts(settings, batch))
        free_static_caches(target)
        free_static_caches(draft)
        add_bandwidth(rows, settings, target, draft, bandwidth)
        report["rows"] += rows
        console.print(table(settings, batch, rows))
    if args.out:
        write_json(args.out, report)


def make_models(settings: Settings) -> tuple[PreTrainedModel, PreTrainedModel, AutoJudgeHead]:
    """Target, draft and judge."""
    dtype = getattr(torch, settings.dtype)
    if settings.pair == "embedded":
        target, draft, _ = load_pair(settings.device, dtype)
        return target, draft, AutoJudgeHead.from_pretrained(settings.judge)
    target, draft = scripted_pair(*SHAPES[settings.pair], settings.accepted, settings.device, dtype)
    return target, draft, rejecting_head(target, draft).to(settings.device)


def make_prompts(settings: Settings, batch: int) -> Prompts:
    """The arguments of `generate` for a batch of prompts, padded on the left."""
    if settings.pair == "embedded":
        tokenizer = AutoTokenizer.from_pretrained(PAIR / "target", padding_side="left")
        questions = [prompt(p) for p in make_problems("validation", batch)]
        return tokenizer(questions, return_tensors="pt", padding=True).to(settings.device)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(settings.accepted + 2, 1000, (batch, settings.prompt_tokens), generator=generator)
    ids[:, -1] = 0  # where a round of the script starts
    return {"input_ids": ids.to(settings.device), "attention_mask": torch.ones_like(ids).to(settings.device)}


def make_methods(
    settings: Settings, target: PreTrainedModel, draft: PreTrainedModel, judge: AutoJudgeHead, batch: int
) -> dict[str, Method]:
    """Each method maps prompts to the outputs of its `generate` calls."""
    limit = {"max_new_tokens": settings.new_tokens, "do_sample": False, "return_dict_in_generate": True}
    limit["pad_token_id"] = PAD
    ours = {"assistant_model": draft, "num_assistant_tokens": settings.num_assistant_tokens}
    # transformers' assisted generation reads these from the draft and ignores them in the call
    draft.generation_config.num_assistant_tokens = settings.num_assistant_tokens
    draft.generation_config.num_assistant_tokens_schedule = "constant"
    draft.generation_config.assistant_confidence_threshold = 0.0
    static = static_arguments(settings)
    how = "compiled" if settings.compiles else "static"

    def one_by_one(prompts: Prompts, **call: Any) -> list[Any]:
        """Each prompt without its padding, for what takes a single prompt."""
        outputs = []
        for ids, mask in zip(prompts["input_ids"], prompts["attention_mask"], strict=True):
            one = ids[mask.bool()][None]
            outputs.append(target.generate(one, attention_mask=torch.ones_like(one), **limit, **call))
        return outputs

    methods: dict[str, Method] = {
        "plain greedy": lambda p: [target.generate(**p, **limit)],
        f"{how} greedy": lambda p: [target.generate(**p, **limit, **static)],
        "assisted (transformers)": lambda p: one_by_one(p, assistant_model=draft),
        "ours, exact match": lambda p: [target.generate(**p, **limit, **ours, judge=ExactMatchRule())],
        "ours, judge": lambda p: [target.generate(**p, **limit, **ours, judge=judge)],
        f"ours, judge, {how}": lambda p: [target.generate(**p, **limit, **ours, **static, judge=judge)],
    }
    if batch > 1:
        methods["ours, judge, one by one"] = lambda p: one_by_one(p, **ours, judge=judge)
    if settings.methods:
        methods = {n: m for n, m in methods.items() if any(n.startswith(wanted) for wanted in settings.methods)}
    return methods


def static_arguments(settings: Settings) -> dict[str, Any]:
    """Arguments of `generate` for static caches, compiled where the settings say so."""
    if not settings.compiles or (settings.device == "cuda" and settings.backend is None):
        return {"cache_implementation": "static"}  # which compiles on a GPU
    config = CompileConfig(backend=settings.backend or "inductor")
    config._compile_all_devices = True  # transformers' own switch for its compiled baseline
    return {"cache_implementation": "static", "compile_config": config}


def table(settings: Settings, batch: int, rows: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    title = f"{settings.pair} pair, batch {batch}, {settings.num_assistant_tokens} candidates"
    title += "" if settings.pair == "embedded" else f", {settings.accepted} accepted"
    out = Table(title=f"{title}; medians of {settings.runs} runs")
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
