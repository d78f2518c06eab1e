"""Compare a judge with every rule at matched accuracy, in one run, on the embedded pair or on any other.

    python examples/compare_judges.py --judge hub_cards/embedded-pair
    python examples/compare_judges.py --judge org/judge --target org/target --draft org/draft --dtype bfloat16 \\
        --task gsm8k --output-dir comparison --only "AutoJudge, threshold" "ratio >="

Each judge's setting is chosen on validation samples: the loosest whose drop in accuracy stays within the limit, with
the confidence asked for. The test samples are used once, for what was chosen. Writes `report.json` (every choice),
`frontier.json` and `frontier.png`, and for a judge in the output folder its card. Answers are kept in the folder of
`--answers`: a killed run goes on, and one with more judges or samples asks only for what is missing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_autojudge import (
    AutoJudgeHead,
    CascadeRule,
    CleanRunRule,
    DivergenceRule,
    EnsembleRule,
    Judge,
    KLRule,
    MarginRule,
    RatioRule,
    RegretBudgetRule,
    RelaxedTopNRule,
    RollbackRule,
    ThresholdsRule,
    TopKRule,
    TypicalRule,
    all_of,
    at_threshold,
    budget,
)
from hf_autojudge.demo.embedded import load_pair
from hf_autojudge.demo.task import word_problems_task
from hf_autojudge.evaluation import measure_frontier, plot_frontier
from hf_autojudge.hub import write_card
from hf_autojudge.provenance import write_json
from hf_autojudge.tasks import Task, gsm8k_task, math_task, mbpp_task
from hf_autojudge.training import JudgeChoice, calibrate_judges, check_disjoint

Grid = list[tuple[str, Judge]]


def grid(make: Callable[[float], Judge], values: Iterable[float]) -> Grid:
    return [(f"{value:.3g}", make(value)) for value in values]


def rules() -> dict[str, Grid]:
    """Each rule's settings, from the safest to the loosest."""
    return {
        "top-k": grid(lambda k: TopKRule(int(k)), (2, 3)),
        "KL <": grid(KLRule, (0.3, 1, 3)),
        "KL (at any certainty) <": grid(lambda t: KLRule(t, 1.0), (0.1, 0.3, 1)),
        "ratio >=": grid(RatioRule, (0.7, 0.5, 0.1)),
        "typical, epsilon": grid(lambda e: TypicalRule(e, e**0.5), (0.3, 0.09, 0.03)),
        "margin >": grid(MarginRule, (0.9, 0.8, 0.6)),
        "relaxed top-10, delta": grid(lambda d: RelaxedTopNRule(10, d), (0.3, 0.6, 0.9)),
        "JS <=": grid(DivergenceRule, (0.1, 0.26, 0.5)),
        "TV <=": grid(lambda t: DivergenceRule(t, "tv"), (0.3, 0.5, 0.8)),
        "clean run, entropy >=": grid(CleanRunRule, (1, 0.6, 0.3)),
        "rollback, loss <=": grid(RollbackRule, (1, 4, 8)),
        "regret budget": grid(RegretBudgetRule, (1, 2.06, 8)),
        "thresholds, single": grid(ThresholdsRule, (0.3, 0.1, 0.03)),
        "ensemble, weight": grid(EnsembleRule, (0.7, 0.5, 0.3)),
        "cascade (Chow), alpha": grid(CascadeRule, (0.05, 0.2, 0.4)),
    }


def heads(head: AutoJudgeHead) -> dict[str, Grid]:
    """The head alone and in compositions, from the safest threshold to the loosest."""
    thresholds = [row["threshold"] for row in head.config.thresholds if 0.95 <= row["recall"] <= 0.998]
    return {
        "AutoJudge, threshold": grid(lambda t: at_threshold(head, t), thresholds),
        "AutoJudge and top-3, threshold": grid(lambda t: all_of(at_threshold(head, t), TopKRule(3)), thresholds),
        "AutoJudge, budget": grid(lambda limit: at_threshold(budget(head, limit), 1), (0.01, 0.02, 0.04)),
    }


def choices_table(choices: dict[str, JudgeChoice], n: int) -> Table:
    first = next(iter(choices.values()))
    limit = f"{100 * first.max_accuracy_drop:.3g} points, {100 * first.confidence:.3g}% confidence"
    table = Table("judge", "chosen", "drop", "bound", "first that fails", title=f"{n} validation samples, {limit}")
    for name, choice in choices.items():
        rows = {row["setting"]: row for row in choice.rows}
        chosen, last = rows.get(choice.setting), choice.rows[-1]
        drops = ["-", "-"] if chosen is None else [f"{100 * chosen[k]:.2f}" for k in ("accuracy_drop", "upper_bound")]
        failed = "-" if last is chosen else f"{last['setting']} ({100 * last['accuracy_drop']:.2f} points)"
        table.add_row(name, choice.setting or "none", *drops, failed)
    return table


TASKS = {"gsm8k": gsm8k_task, "math": math_task, "mbpp": mbpp_task}


def load(args: argparse.Namespace) -> tuple[tuple, dict[str, Task]]:
    """The models with their tokenizer, and the task by split."""
    if args.target is None:
        return load_pair(), dict.fromkeys(("validation", "test"), word_problems_task())
    dtype = getattr(torch, args.dtype)
    models = [AutoModelForCausalLM.from_pretrained(name, dtype=dtype) for name in (args.target, args.draft)]
    target, draft = (model.to(args.device).eval() for model in models)
    options = {"allow_code_execution": True} if args.allow_code_execution else {}
    data = {"validation": args.validation_dataset, "test": args.test_dataset}
    tasks = {
        split: TASKS[args.task](**options | ({} if dataset is None else {"dataset": dataset}))
        for split, dataset in data.items()
    }
    return (target, draft, AutoTokenizer.from_pretrained(args.target)), tasks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", required=True, help="folder or Hub repository of the judge")
    parser.add_argument("--output-dir", help="folder of the report; by default the judge's")
    parser.add_argument("--answers", help="folder that keeps the answers")
    parser.add_argument("--target", help="with --draft; by default the embedded pair")
    parser.add_argument("--draft")
    parser.add_argument("--dtype", default="bfloat16", help="of named models")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="of named models")
    parser.add_argument("--task", choices=TASKS, default="gsm8k", help="of named models")
    parser.add_argument("--validation-dataset", help="Hub name or file; by default the task's")
    parser.add_argument("--test-dataset", help="Hub name or file; by default the task's")
    parser.add_argument("--allow-code-execution", action="store_true", help="run generated programs, in a sandbox")
    parser.add_argument("--only", nargs="+", help="names of the judges to compare; by default all")
    parser.add_argument("--validation", type=int, default=1000, help="samples to choose settings on")
    parser.add_argument("--test", type=int, default=500, help="samples to report on")
    parser.add_argument("--max-accuracy-drop", type=float, default=0.01)
    parser.add_argument("--confidence", type=float, default=0.9)
    parser.add_argument("--num-assistant-tokens", type=int, help="candidates per round; by default the judge's")
    parser.add_argument("--num-timed", type=int, default=16, help="test samples on which tokens/s are measured")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.output_dir is None and not Path(args.judge).is_dir():
        parser.error(f"{args.judge} is no folder; name one for the report with --output-dir")
    console, output_dir = Console(), Path(args.output_dir or args.judge)
    output_dir.mkdir(parents=True, exist_ok=True)
    pair, tasks = load(args)
    head = AutoJudgeHead.from_pretrained(args.judge)
    grids = heads(head) | rules()
    if unknown := set(args.only or ()) - grids.keys():
        parser.error(f"--only knows {', '.join(grids)}; got {', '.join(sorted(unknown))}")
    settings = {
        "num_assistant_tokens": args.num_assistant_tokens or head.num_assistant_tokens,
        "batch_size": args.batch_size,
    }
    samples = {split: task.load(split, getattr(args, split)) for split, task in tasks.items()}
    check_disjoint(samples["validation"], samples["test"], tasks["test"], pair[2])

    choices = calibrate_judges(
        *pair,
        tasks["validation"],
        samples["validation"],
        {name: grid for name, grid in grids.items() if name in (args.only or grids)},
        args.max_accuracy_drop,
        args.confidence,
        folder=args.answers and f"{args.answers}/validation",
        **settings,
    )
    write_json(output_dir / "report.json", {n: {"reason": c.reason, "rows": c.rows} for n, c in choices.items()})
    console.print(choices_table(choices, len(samples["validation"])))

    judges = {"AutoJudge": head} | {f"{n} {c.setting}": c.judge for n, c in choices.items() if c.supported}
    own = choices.get("AutoJudge, threshold")
    thresholds = {head.threshold}
    if own is not None and own.supported:  # the first settings of the head: a curve
        judges.pop(f"AutoJudge, threshold {own.setting}")
        thresholds |= {judge.at for _, judge in grids["AutoJudge, threshold"][: len(own.rows)]}
    frontier = measure_frontier(
        *pair,
        tasks["test"],
        samples["test"],
        judges,
        sorted(thresholds),
        num_timed=args.num_timed,
        folder=args.answers and f"{args.answers}/test",
        **settings,
    )
    frontier.to_json(output_dir / "frontier.json")
    plot_frontier(frontier, output_dir / "frontier.png", args.max_accuracy_drop)
    if (output_dir / "config.json").exists():
        write_card(output_dir)
    print(frontier)


if __name__ == "__main__":
    main()
