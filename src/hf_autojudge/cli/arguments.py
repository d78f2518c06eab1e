"""Options of several commands that are not settings of the trainer: which models, which task."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

EMBEDDED = "embedded"
TASKS = ("gsm8k", "math", "mbpp", "humaneval", "multiple_choice", "word_problems", "annotated_answers")
DTYPES = ("auto", "float32", "bfloat16", "float16")


def _field(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass
class ModelArguments:
    """The pair, and where it runs."""

    target_model_name_or_path: str | None = _field(
        None,
        "The target model: Hub repository, folder, or embedded for the small pair that ships with the package. "
        "Default: the one that the labels or the judge name; for new labels the embedded one.",
    )
    draft_model_name_or_path: str | None = _field(
        None, "The draft model: Hub repository, folder or embedded. Default: as for the target."
    )
    revision: str | None = _field(
        None, "Branch, tag or commit of the target. Default: the recorded one; for new labels main."
    )
    draft_revision: str | None = _field(None, "Branch, tag or commit of the draft. Default: as for the target.")
    trust_remote_code: bool = _field(False, "Run code from the models' repositories.")
    dtype: str = _field("auto", "Data type of the weights: auto (as stored), float32, bfloat16 or float16.")
    device: str = _field("auto", "Device of the models: cpu, cuda, cuda:1, ...; auto takes a GPU if there is one.")
    device_map: str | None = _field(None, "auto spreads the target over several GPUs. Default: all on one device.")


@dataclass
class TaskArguments:
    """The task and its samples."""

    task: str | None = _field(
        None,
        f"Name of the task: {', '.join(TASKS)}. Default: the one of the labels or the judge; for new labels gsm8k, "
        "with the embedded pair word_problems.",
    )
    dataset: str | None = _field(
        None, "Samples: a Hub data set or a .jsonl, .json, .parquet or .csv file. Default: the task's data set."
    )
    allow_code_execution: bool = _field(
        False, "Run programs that the models write, each in a sandbox (mbpp, humaneval)."
    )
