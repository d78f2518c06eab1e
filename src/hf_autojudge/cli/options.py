"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_autojudge.cli.loading import TASKS

Target = Annotated[str, typer.Option(help="The target model: Hub repository or folder.")]
Draft = Annotated[str, typer.Option(help="The draft model: Hub repository or folder.")]
TaskName = Annotated[
    str | None,
    typer.Option("--task", help=", ".join(TASKS) + ". Default: gsm8k; word_problems for the embedded pair."),
]
AllowCode = Annotated[
    bool, typer.Option(help="Run programs that the models write (mbpp, humaneval), each in a sandbox.")
]
Dataset = Annotated[str | None, typer.Option(help="Samples: a Hub data set or a .jsonl/.json/.parquet/.csv file.")]
MaxSamples = Annotated[int | None, typer.Option(min=1, help="Maximum number of samples.")]
MaxNewTokens = Annotated[int | None, typer.Option(min=1, help="Maximum length of an answer. Default: the task's.")]
NumAssistantTokens = Annotated[int | None, typer.Option(min=1, help="Candidate tokens in a round.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, ...; auto takes a GPU if there is one.")]
DeviceMap = Annotated[str | None, typer.Option(help="auto spreads the target over several GPUs (needs accelerate).")]
Dtype = Annotated[str, typer.Option(help="auto (as stored), float32, bfloat16 or float16.")]
JudgeFolder = Annotated[Path, typer.Argument(help="Folder of the judge.")]
