"""`hf-autojudge import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_autojudge.cli.options import Group, with_options
from hf_autojudge.cli.output import console
from hf_autojudge.training import JudgeTrainingArguments


@with_options(
    args=Group(JudgeTrainingArguments, "output_dir", "labels_dir"),
)
def import_records(
    records: Annotated[
        Path, typer.Argument(help="Labels from the AutoJudge authors' scripts: JSON, JSON Lines, Arrow or Parquet.")
    ],
    args: JudgeTrainingArguments,
    target_model_name_or_path: Annotated[
        str, typer.Option(help="The target they were made with: Hub repository or folder. Default: none, required.")
    ],
    draft_model_name_or_path: Annotated[
        str, typer.Option(help="The draft they were made with: Hub repository or folder. Default: none, required.")
    ],
    task: Annotated[str, typer.Option(help="Name of the task that they were made for.")] = "gsm8k",
) -> None:
    """Import labels made by the AutoJudge authors' scripts, to fit a judge on them."""
    from hf_autojudge.labeling import import_labels

    store = import_labels(records, args.labels_folder, target_model_name_or_path, draft_model_name_or_path, task)
    console.print(f"{store.folder}: {len(store.done())} prompts.")
    console.print(f"Next: hf-autojudge fit --output-dir {args.output_dir}")
