"""Compare the embedded pair's judge with every rule at matched accuracy, in one run.

    python examples/report_embedded_pair.py --judge hub_cards/embedded-pair

Each judge's setting is chosen on validation problems: the loosest whose drop in accuracy stays within the limit, with
the confidence asked for. The test problems are used once, for what was chosen. Writes `report.json` (every choice),
`frontier.json`, `frontier.png` and the card into the judge's folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

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
from hf_autojudge.training import JudgeChoice, calibrate_judges

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
    table = Table("judge", "chosen", "drop", "bound", "first that fails", title=f"{n} validation problems, {limit}")
    for name, choice in choices.items():
        rows = {row["setting"]: row for row in choice.rows}
        chosen, last = rows.get(choice.setting), choice.rows[-1]
        drops = ["-", "-"] if chosen is None else [f"{100 * chosen[k]:.2f}" for k in ("accuracy_drop", "upper_bound")]
        failed = "-" if last is chosen else f"{last['setting']} ({100 * last['accuracy_drop']:.2f} points)"
        table.add_row(name, choice.setting or "none", *drops, failed)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", required=True, help="folder of the judge and of the report")
    parser.add_argument("--validation", type=int, default=1000, help="problems to choose settings on")
    parser.add_argument("--test", type=int, default=500, help="problems to report on")
    parser.add_argument("--max-accuracy-drop", type=float, default=0.01)
    parser.add_argument("--confidence", type=float, default=0.9)
    parser.add_argument("--num-timed", type=int, default=16, help="test problems on which tokens/s are measured")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--answers", help="folder that keeps the answers, to go on after an interruption")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    console, task, pair = Console(), word_problems_task(), load_pair()
    head = AutoJudgeHead.from_pretrained(args.judge)
    settings = {"num_assistant_tokens": head.num_assistant_tokens, "batch_size": args.batch_size}
    folders = {split: args.answers and f"{args.answers}/{split}" for split in ("validation", "test")}

    choices = calibrate_judges(
        *pair,
        task,
        task.load("validation", args.validation),
        heads(head) | rules(),
        args.max_accuracy_drop,
        args.confidence,
        folder=folders["validation"],
        **settings,
    )
    write_json(Path(args.judge) / "report.json", {name: c.rows for name, c in choices.items()})
    console.print(choices_table(choices, args.validation))

    judges = {"AutoJudge": head} | {f"{n} {c.setting}": c.judge for n, c in choices.items() if c.supported}
    judges |= {"top-2": TopKRule(2), "KL < 1": KLRule(1.0)}
    own = choices["AutoJudge, threshold"]
    judges.pop(f"AutoJudge, threshold {own.setting}", None)  # among the thresholds
    thresholds = sorted({head.threshold, *(judge.at for _, judge in heads(head)["AutoJudge, threshold"])})
    frontier = measure_frontier(
        *pair,
        task,
        task.load("test", args.test),
        judges,
        thresholds,
        num_timed=args.num_timed,
        folder=folders["test"],
        **settings,
    )
    frontier.to_json(Path(args.judge) / "frontier.json")
    plot_frontier(frontier, Path(args.judge) / "frontier.png", args.max_accuracy_drop)
    write_card(args.judge)
    console.print(frontier.table())


if __name__ == "__main__":
    main()
