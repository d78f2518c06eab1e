"""`hf-autojudge evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_autojudge.cli.arguments import ModelArguments, TaskArguments
from hf_autojudge.cli.loading import load_trainer
from hf_autojudge.cli.options import Group, with_options
from hf_autojudge.cli.output import console
from hf_autojudge.hub.folder import PLOTS
from hf_autojudge.judges import parse_rule
from hf_autojudge.training import JudgeTrainingArguments


@with_options(
    models=Group(ModelArguments),
    task=Group(TaskArguments),
    args=Group(
        JudgeTrainingArguments,
        *("output_dir", "max_new_tokens", "num_assistant_tokens", "seed", "report_to", "run_name"),
        *("push_to_hub", "hub_model_id", "hub_private_repo"),
        max_samples="max_test_samples",
        batch_size="eval_batch_size",
        threshold="thresholds",
    ),
)
def evaluate(
    args: JudgeTrainingArguments,
    models: ModelArguments,
    task: TaskArguments,
    judge: Annotated[
        str | None, typer.Option(help="Folder or Hub repository of the judge. Default: the output folder.")
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(help="Also measure a rule: topk:4, kl:0.5, typical, ... Repeatable. Default: none."),
    ] = None,
) -> None:
    """Measure accuracy against speed on the test samples: both models alone, assisted generation, the judge, rules.

    Answers are kept in `answers` in the output folder: a killed run with the same settings goes on from there, and
    further rules are added. Delete it to measure again.
    """
    rules = {name: parse_rule(name) for name in rule or []}
    frontier = load_trainer(args, models, task, judge).evaluate(rules)
    console.print(frontier.table())
    written = [name for name in ("frontier.json", *PLOTS, "README.md") if (Path(args.output_dir) / name).exists()]
    console.print(f"Written to {args.output_dir}: {', '.join(written)}")
