"""What the benchmark scripts of tasks with right answers share: a judge and rules on one task, with any pair."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_autojudge import AutoJudgeHead, Judge, parse_rule
from hf_autojudge.evaluation import measure_frontier, plot_frontier
from hf_autojudge.tasks import Task


def benchmark(
    description: str | None, make_task: Callable[..., Task], dataset: str, out: str, runs_programs: bool = False
) -> None:
    """Read the command line, measure, print the table and write the report.

    Args:
        description (`str`, *optional*): What `--help` says.
        make_task (`Callable`): Makes the task of a data set; with `runs_programs` it also takes
            `allow_code_execution`.
        dataset (`str`): Hub name of the task's data set.
        out (`str`): Name of the report's files.
        runs_programs (`bool`, *optional*, defaults to `False`): Whether answers are programs, which need consent.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", required=True, help="Hub name or folder, as for the draft and the judge")
    parser.add_argument("--draft", required=True)
    parser.add_argument("--judge")
    parser.add_argument("--thresholds", type=float, nargs="+", help="of the judge; default: its own")
    parser.add_argument("--rule", type=parse_rule, action="append", default=[], help="topk:2, kl:0.5, ...; repeatable")
    parser.add_argument("--dataset", default=dataset, help="Hub name or file")
    parser.add_argument("--max-samples", type=int, help="maximum number of test samples")
    if runs_programs:
        parser.add_argument("--allow-code-execution", action="store_true", help="run what models write")
    parser.add_argument("--batch-size", type=int, default=16, help="tokens/s are measured on 16 samples, one by one")
    parser.add_argument("--folder", help="keeps the answers; a killed run with the same settings goes on from there")
    parser.add_argument("--no-baselines", action="store_true", help="neither model alone, nor transformers' assisted")
    parser.add_argument("--num-assistant-tokens", type=int)
    parser.add_argument("--max-new-tokens", type=int)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads of torch")
    parser.add_argument("--out", default=out, help="writes <out>.json and <out>.png")
    args = parser.parse_args()
    torch.set_num_threads(args.threads or torch.get_num_threads())
    consent: dict[str, Any] = {"allow_code_execution": args.allow_code_execution} if runs_programs else {}
    task = make_task(args.dataset, **consent)
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
