"""What a run measures: everything that a process needs besides the models."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_autojudge.decoding.candidates import DraftLength
from hf_autojudge.evaluation.decoder import batch_problem
from hf_autojudge.judges import Judge
from hf_autojudge.provenance import command_line, model_names, versions
from hf_autojudge.runners.base import unwrap_peft
from hf_autojudge.tasks.base import Sample, Task


@dataclass(frozen=True)
class Run:
    """The questions, the judges and the settings of a run.

    Attributes:
        task ([`Task`])
        samples (`Sequence[Sample]`)
        judges (`Mapping[str, Judge]`): By name.
        prompts (`list[list[int]]`): Token ids of each sample's prompt.
        draft_length ([`DraftLength`]): Of every strategy that drafts.
        max_new_tokens (`int`): Maximum length of an answer.
        models (`dict`): Names, revisions and dtype of the models.
        machine (`dict`): What ran, and on what.
        batch_problem (`str`, *optional*): Why the models take only one prompt at a time.
    """

    task: Task
    samples: Sequence[Sample]
    judges: Mapping[str, Judge]
    prompts: list[list[int]]
    draft_length: DraftLength
    max_new_tokens: int
    models: dict[str, Any]
    machine: dict[str, Any]
    batch_problem: str | None

    @property
    def settings(self) -> dict[str, Any]:
        """What answers depend on besides judge and prompt, ready for JSON."""
        return self.models | {
            "task": self.task.name,
            "num_assistant_tokens": self.draft_length.num_assistant_tokens,
            "assistant_confidence_threshold": self.draft_length.confidence_threshold,
            "max_new_tokens": self.max_new_tokens,
        }

    def possible_batch_size(self, batch_size: int) -> int:
        """The batch size; 1, with a warning, for models that take only one prompt at a time."""
        if batch_size > 1 and self.batch_problem is not None:
            warnings.warn(f"Questions are answered one at a time. {self.batch_problem}", stacklevel=3)
            return 1
        return batch_size


def describe_run(
    target: PreTrainedModel,
    draft: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    samples: Sequence[Sample],
    judges: Mapping[str, Judge],
    max_new_tokens: int | None,
    num_assistant_tokens: int | None,
    assistant_confidence_threshold: float | None,
) -> Run:
    """Resolve a run's settings; see [`measure_frontier`] for the arguments.

    Raises:
        ValueError: If there are no samples, or a number is out of range.
    """
    target, draft = unwrap_peft(target), unwrap_peft(draft)
    if not samples:
        raise ValueError(f"There are no samples to measure {task.name} on; pass one or more.")
    max_new_tokens = task.max_new_tokens if max_new_tokens is None else max_new_tokens
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1; got {max_new_tokens}.")
    length = DraftLength.resolve(
        target,
        draft,
        judges.values(),
        num_assistant_tokens=num_assistant_tokens,
        confidence_threshold=assistant_confidence_threshold,
    )
    prompts = [list(task.prompt(sample, tokenizer)) for sample in samples]
    device = target.device
    machine = {
        "device": str(device),
        "device_name": (
            torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} {device.type}"
        ),
        "threads": torch.get_num_threads(),
        "versions": versions("transformers", "torch"),
        "command": command_line(),
    }
    return Run(
        task,
        samples,
        judges,
        prompts,
        DraftLength(length.num_assistant_tokens, "constant", length.confidence_threshold),
        max_new_tokens,
        model_names(target, draft) | {"dtype": str(target.dtype).removeprefix("torch.")},
        machine,
        batch_problem(target, draft, max(map(len, prompts)) + max_new_tokens),
    )
