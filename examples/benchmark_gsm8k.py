"""Measure a judge, or training-free rules, on GSM8K with any pair of models.

python examples/benchmark_gsm8k.py --target org/large --draft org/small --judge org/judge --max-samples 200
"""

from __future__ import annotations

import argparse

import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_autojudge import AutoJudgeHead, Judge, parse_rule
from hf_autojudge.evaluation import measure_frontier, plot_frontier
from hf_autojudge.tasks import gsm8k_task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", required=True)
    parser.add_argument("--draft", required=True)
    parser.add_argument("--judge", help="Hub name or folder")
    parser.add_argument(
        "--rule", type=parse_rule, action="append", default=[], help="topk:<k> or kl:<tau>; repeatable"
    )
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.05, 0.1, 0.2, 0.3, 0.5])
    parser.add_argument("--dataset", default="openai/gsm8k", help="Hub name or a file of test samples")
    parser.add_argument("--max-samples", type=int, help="maximum number of test samples")
    parser.add_argument("--no-baselines", action="store_true", help="without plain greedy and transformers' assisted")
    parser.add_argument("--num-assistant-tokens", type=int)
    parser.add_argument("--max-new-tokens", type=int, default=400)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads of torch")
    parser.add_argument("--out", default="frontier", help="writes <out>.json and <out>.png")
    args = parser.parse_args()
    torch.set_num_threads(args.threads or torch.get_num_threads())
    dtype = getattr(torch, args.dtype)
    models = (AutoModelForCausalLM.from_pretrained(name, dtype=dtype) for name in (args.target, args.draft))
    target, draft = (model.to(args.device).eval() for model in models)
    judges: dict[str, Judge] = {repr(r): r for r in args.rule}
    if args.judge:
        judges["AutoJudge"] = AutoJudgeHead.from_pretrained(args.judge)
    settings = {"num_assistant_tokens": args.num_assistant_tokens, "max_new_tokens": args.max_new_tokens}
    settings |= {"baselines": not args.no_baselines}
    tokenizer, task = AutoTokenizer.from_pretrained(args.target), gsm8k_task(args.dataset)
    samples = task.load("test", args.max_samples)
    frontier = measure_frontier(target, draft, tokenizer, task, samples, judges, args.thresholds, **settings)
    frontier.to_json(f"{args.out}.json")
    plot_frontier(frontier, f"{args.out}.png")
    Console(width=140).print(frontier.table())


if __name__ == "__main__":
    main()
