"""`hf-autojudge demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_autojudge.cli.output import console


def demo(
    output_dir: Annotated[Path, typer.Option(help="Folder of everything the demo writes.")] = Path("autojudge-demo"),
    minutes: Annotated[
        float, typer.Option(min=0.2, help="Time budget, in minutes; a longer demo uses more problems.")
    ] = 4.5,
    num_assistant_tokens: Annotated[int, typer.Option(min=1, help="Number of candidate tokens in a round.")] = 32,
) -> None:
    """Run all four verbs on the embedded pair: label → fit → calibrate → evaluate, then one answer side by side."""
    import torch

    from hf_autojudge.demo.run import run_demo

    torch.set_num_threads(1)  # for models this small, threads wait for each other longer than they compute
    run_demo(output_dir, minutes * 60, num_assistant_tokens, console)
