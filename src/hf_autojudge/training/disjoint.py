"""Validation and test samples must not share prompts: a judge looks better on the prompts it was calibrated on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase
from transformers.utils import cached_file

from hf_autojudge.judges import AutoJudgeHead
from hf_autojudge.provenance import digest, read_json
from hf_autojudge.tasks.base import Sample, Task


def prompt_digests(samples: Sequence[Sample], task: Task, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """For each sample, 16 hexadecimal digits that stand for its prompt's token ids."""
    prompts = (",".join(map(str, task.prompt(sample, tokenizer))) for sample in samples)
    return [digest(prompt.encode()) for prompt in prompts]


def calibrated_on(folder: str | os.PathLike, judge: AutoJudgeHead) -> list[str]:
    """Digests of the prompts that a judge was calibrated on, as recorded in a folder and where the judge was loaded
    from; none if nothing is recorded, or the Hub cannot be reached."""
    reports, source = [Path(folder) / "calibration.json"], judge.name_or_path
    if source and not Path(source).is_dir():
        silent = {f"_raise_exceptions_for_{what}": False for what in ("missing_entries", "connection_errors")}
        cached = cached_file(source, "calibration.json", revision=judge.config._commit_hash, **silent)
        reports += [Path(cached)] if cached else []
    elif source:
        reports.append(Path(source) / "calibration.json")
    found = [read_json(path) for path in reports if path.exists()]
    return [prompt for report in found for prompt in report.get("validation_prompts", [])]


def check_digests(validation: Iterable[str], test: Sequence[str]) -> None:
    """As [`check_disjoint`], from what [`prompt_digests`] returns."""
    known = set(validation)
    if shared := sum(prompt in known for prompt in test):
        raise ValueError(
            f"{shared} of {len(test)} test prompts are also validation prompts, which the judge was calibrated on; "
            "evaluate it on other samples."
        )


def check_disjoint(
    validation: Sequence[Sample], test: Sequence[Sample], task: Task, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Check that no test sample has the prompt of a validation sample. Prompts are compared by their token ids.

    Args:
        validation (`Sequence[Sample]`): What judges are calibrated on.
        test (`Sequence[Sample]`): What they are evaluated on.
        task ([`Task`]): Makes the prompts.
        tokenizer ([`PreTrainedTokenizerBase`]): Of the target.

    Raises:
        ValueError: If any does; the message says how many.
    """
    check_digests(prompt_digests(validation, task, tokenizer), prompt_digests(test, task, tokenizer))
