"""`hf-autojudge import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_autojudge.cli.output import console


def import_records(
    records: Annotated[
        Path, typer.Argument(help="Labels from the AutoJudge authors' scripts: JSON, JSON Lines, Arrow or Parquet.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder of the labels.")],
    target: Annotated[str, typer.Option(help="The target they were made with: Hub repository or folder.")],
    draft: Annotated[str, typer.Option(help="The draft they were made with: Hub repository or folder.")],
    task: Annotated[str, typer.Option(help="The task they were made for.")] = "gsm8k",
) -> None:
    """Import labels made by the AutoJudge authors' scripts, to fit a judge on them."""
    from hf_autojudge.labeling import import_labels

    store = import_labels(records, out, target, draft, task)
    console.print(f"{out}: {len(store.done())} prompts. Next: hf-autojudge fit {out}")
