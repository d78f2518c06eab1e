"""`hf-autojudge calibrate`."""

from __future__ import annotations

from typing import Annotated

import typer

from hf_autojudge.cli.arguments import ModelArguments, TaskArguments
from hf_autojudge.cli.loading import load_trainer
from hf_autojudge.cli.options import Group, with_options
from hf_autojudge.cli.output import console
from hf_autojudge.evaluation.threshold_labels import threshold_labels
from hf_autojudge.training import JudgeTrainingArguments


@with_options(
    models=Group(ModelArguments),
    task=Group(TaskArguments),
    args=Group(
        JudgeTrainingArguments,
        *("output_dir", "max_accuracy_drop", "confidence", "max_new_tokens", "num_assistant_tokens"),
        *("tune_draft_length", "seed", "report_to", "run_name", "push_to_hub", "hub_model_id", "hub_private_repo"),
        max_samples="max_validation_samples",
        batch_size="eval_batch_size",
        threshold="thresholds",
    ),
)
def calibrate(
    args: JudgeTrainingArguments,
    models: ModelArguments,
    task: TaskArguments,
    judge: Annotated[
        str | None, typer.Option(help="Folder or Hub repository of the judge. Default: the output folder.")
    ] = None,
) -> None:
    """Choose the judge's threshold by task accuracy on validation samples, and write it into the judge.

    Answers are kept in `answers` in the output folder: a killed run with the same settings goes on from there.
    """
    trainer = load_trainer(args, models, task, judge)
    choice = trainer.calibrate()
    console.print(choice.reason)
    thresholds = [0.0, *(row["threshold"] for row in choice.rows)]
    label = dict(zip(thresholds, threshold_labels(thresholds), strict=True))[choice.threshold]
    console.print(f"{args.output_dir}: threshold {label} written.")
    if args.tune_draft_length:
        config = trainer.judge.config
        console.print(
            f"Draft length written: {config.num_candidate_tokens} candidate tokens, confidence threshold "
            f"{config.confidence_threshold:g}."
        )
    console.print(f"Next: hf-autojudge evaluate --output-dir {args.output_dir}")
