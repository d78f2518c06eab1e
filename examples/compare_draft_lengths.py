"""How many candidate tokens to draft: a constant number, the heuristic schedule, or stopping after a candidate of low
probability. On the embedded pair; alternating runs, medians.

python examples/compare_draft_lengths.py --judge hub_cards/embedded-pair
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from hf_autojudge import AutoJudgeHead, ExactMatchRule, Judge, JudgeStats
from hf_autojudge.demo.embedded import load_pair
from hf_autojudge.demo.problems import make_problems, prompt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", help="folder or Hub name; default: exact match, lossless")
    parser.add_argument("--problems", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1, help="of the validation problems")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", help="a JSON file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    target, draft, tokenizer = load_pair()
    judge: Judge = AutoJudgeHead.from_pretrained(args.judge) if args.judge else ExactMatchRule()
    made = make_problems("validation", args.problems, seed=args.seed)
    prompts = [tokenizer(prompt(p), return_tensors="pt").input_ids for p in made]

    policies: dict[str, dict[str, Any]] = {f"constant {k}": {"num_assistant_tokens": k} for k in (8, 12, 16, 20, 32)}
    heuristic = {"num_assistant_tokens": 20, "num_assistant_tokens_schedule": "heuristic"}
    policies["heuristic, from 20"] = heuristic
    for confidence in (0.4, 0.6, 0.8):
        policy = {"num_assistant_tokens": 40, "assistant_confidence_threshold": confidence}
        policies[f"confidence {confidence}, at most 40"] = policy

    speeds: dict[str, list[float]] = {name: [] for name in policies}
    stats: dict[str, JudgeStats] = {}
    for _ in range(args.runs):
        for name, policy in policies.items():
            total, start = JudgeStats(), time.perf_counter()
            for ids in prompts:
                call = {"max_new_tokens": 240, "do_sample": False, "return_dict_in_generate": True, **policy}
                total += target.generate(ids, assistant_model=draft, judge=judge, **call).judge_stats
            speeds[name].append(total.new_tokens / (time.perf_counter() - start))
            stats[name] = total
    title = f"{args.judge or 'exact match'}, {args.problems} validation problems, medians of {args.runs} runs"
    table = Table("policy", "tokens/s", "accepted per target call", "candidates per round", title=title)
    results = []
    for name, total in stats.items():
        result = {"policy": name, "tokens_per_second": statistics.median(speeds[name]), **total.to_dict()}
        results.append(result)
        drafted = f"{total.drafted / total.rounds:.1f}"
        table.add_row(name, f"{result['tokens_per_second']:.0f}", f"{total.accepted_per_target_call:.2f}", drafted)
    Console(width=100).print(table)
    if args.out:
        with open(args.out, "w") as file:
            json.dump({"arguments": vars(args), "rows": results}, file, indent=1)


if __name__ == "__main__":
    main()
