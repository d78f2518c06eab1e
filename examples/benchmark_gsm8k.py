"""Measure a judge and training-free rules on GSM8K with any pair of models.

python examples/benchmark_gsm8k.py --target org/large --draft org/small --judge org/judge --rule topk:2
"""

from __future__ import annotations

import argparse

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_autojudge import AutoJudgeHead, Judge, parse_rule
from hf_autojudge.evaluation import measure_frontier, plot_frontier
from hf_autojudge.tasks import gsm8k_task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", required=True, help="Hub name or folder, as for the draft and the judge")
    parser.add_argument("--draft", required=True)
    parser.add_argument("--judge")
    parser.add_argument("--thresholds", type=float, nargs="+", help="of the judge; default: its own")
    parser.add_argument("--rule", type=parse_rule, action="append", default=[], help="topk:2, kl:0.5, ...; repeatable")
    parser.add_argument("--dataset", default="openai/gsm8k", help="Hub name or file")
    parser.add_argument("--max-samples", type=int, help="maximum number of test samples")
    parser.add_argument("--batch-size", type=int, default=16, help="tokens/s are measured on 16 samples, one by one")
    parser.add_argument("--folder", help="keeps the answers; a killed run with the same settings goes on from there")
    parser.add_argument("--no-baselines", action="store_true", help="neither model alone, nor transformers' assisted")
    parser.add_argument("--num-assistant-tokens", type=int)
    parser.add_argument("--max-new-tokens", type=int)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads of torch")
    parser.add_argument("--out", default="gsm8k", help="writes <out>.json and <out>.png")
    args = parser.parse_args()
    torch.set_num_threads(args.threads or torch.get_num_threads())
    task = gsm8k_task(args.dataset)
    samples, dtype = task.load("test", args.max_samples), getattr(torch, args.dtype)
    models = (AutoModelForCausalLM.from_pretrained(name, dtype=dtype) for name in (args.target, args.draft))
    pair = (model.to(args.device).eval() for model in models)
    judges: dict[str, Judge] = {repr(rule): rule for rule in args.rule}
    if args.judge:
        judges["AutoJudge"] = head = AutoJudgeHead.from_pretrained(args.judge)
        args.thresholds = args.thresholds or [head.threshold]
    names = ("batch_size", "folder", "num_assistant_tokens", "max_new_tokens")
    settings = {name: getattr(args, name) for name in names} | {"baselines": not args.no_baselines}
    tokenizer = AutoTokenizer.from_pretrained(args.target)
    frontier = measure_frontier(*pair, tokenizer, task, samples, judges, args.thresholds or (), **settings)
    frontier.to_json(f"{args.out}.json")
    plot_frontier(frontier, f"{args.out}.png")
    print(frontier)


if __name__ == "__main__":
    main()
