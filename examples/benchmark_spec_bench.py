"""Measure acceptance, speed and length on the categories of Spec-Bench, with any pair of models. Its prompts have no
right answers: `equal` is the share of texts equal to the target's own. Only first turns are asked.

python examples/benchmark_spec_bench.py --target org/large --draft org/small --rule topk:2 --dataset question.jsonl
"""

import argparse
import itertools
from collections import defaultdict

import pandas as pd
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_autojudge import AutoJudgeHead, parse_rule
from hf_autojudge.evaluation import ACCEPTED_PER_TARGET_CALL, load_metric, measure_frontier, read_answers
from hf_autojudge.tasks import Task
from hf_autojudge.tasks.data import load_samples
from hf_autojudge.tasks.prompts import prompt_ids

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
for name in ("--target", "--draft", "--dataset"):
    parser.add_argument(name, required=True, help="Hub name, folder or (data set) file with `turns` and `category`")
parser.add_argument("--judge", help="Hub name or folder; measured at its own threshold")
parser.add_argument("--rule", type=parse_rule, action="append", default=[], help="topk:2, kl:0.5, ...; repeatable")
parser.add_argument("--max-samples", type=int, help="maximum number of prompts, spread over the categories")
for name, default in (("--batch-size", 16), ("--num-assistant-tokens", None), ("--max-new-tokens", 512)):
    parser.add_argument(name, type=int, default=default)
parser.add_argument("--dtype", default="bfloat16")
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
parser.add_argument("--out", default="spec_bench", help="writes <out>.json and <out>.png")
parser.add_argument("--folder", help="keeps the answers, so that a killed run goes on; default: <out>-answers")
args = parser.parse_args()
folder, rank = args.folder or f"{args.out}-answers", defaultdict(itertools.count)
samples = load_samples(args.dataset, "test", columns=("turns", "category"))
samples = sorted(samples, key=lambda sample: next(rank[sample["category"]]))[: args.max_samples]  # categories in turn
task = Task("spec_bench", lambda s, tok: prompt_ids(tok, *s["turns"][:1] * 2), None, None, correct=lambda *_: False)
models = (AutoModelForCausalLM.from_pretrained(m, dtype=getattr(torch, args.dtype)) for m in (args.target, args.draft))
pair = (model.to(args.device).eval() for model in models)
judges = {repr(rule): rule for rule in args.rule}
judges |= {"AutoJudge": AutoJudgeHead.from_pretrained(args.judge)} if args.judge else {}
options = {name: getattr(args, name) for name in ("batch_size", "num_assistant_tokens", "max_new_tokens")}
options |= {"thresholds": [judge.threshold for judge in judges.values() if judge.threshold is not None]}
measure_frontier(*pair, AutoTokenizer.from_pretrained(args.target), task, samples, judges, folder=folder, **options)
metric, rows = load_metric(ACCEPTED_PER_TARGET_CALL), []
answers = pd.DataFrame(vars(answer) for answer in read_answers(folder) if answer.question < len(samples))
own = answers[answers.judge == "plain greedy"].set_index("question").text
by_category = answers.groupby([answers.question.map(lambda question: samples[question]["category"]), "judge"])
for (category, judge), group in (*by_category, *answers.assign(all="all").groupby(["all", "judge"])):
    calls, timed = group[["new_tokens", "target_calls"]].to_dict("list"), group.dropna(subset="seconds")
    row = {"category": category, "judge": judge, "n": len(group), "length": group.new_tokens.mean()}
    row |= metric.compute(**calls) if any(calls["target_calls"]) else {}  # the draft alone calls no target
    equal = (group.text == group.question.map(own)).mean()
    rows.append(row | {"tokens_per_second": timed.new_tokens.sum() / timed.seconds.sum(), "equal": equal})
table = pd.DataFrame(rows)
table.to_json(f"{args.out}.json", orient="records", indent=1)
accepted = table.pivot(index="category", columns="judge", values="accepted_per_target_call").dropna(axis=1)
accepted.plot.barh(figsize=(8, 9), xlabel="tokens per target call").figure.savefig(f"{args.out}.png")
print(table.to_string(index=False, float_format="{:.2f}".format, na_rep="-"))
