"""Calibrate any judges: the loosest setting of each judge's grid that keeps the task's accuracy."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_autojudge.decoding.candidates import DraftLength
from hf_autojudge.evaluation import Frontier, measure_frontier
from hf_autojudge.evaluation.strategies import EXACT
from hf_autojudge.judges import ExactMatchRule, Judge, at_threshold
from hf_autojudge.tasks.base import Sample, Task
from hf_autojudge.training.calibration import warn_if_it_means_little
from hf_autojudge.training.choosing import cannot_pass, check_limits, choose_setting

Grid = Sequence[tuple[str, Judge]]


@dataclass(frozen=True)
class JudgeChoice:
    """What [`calibrate_judges`] chose of one grid.

    Attributes:
        setting (`str`, *optional*): Label of the chosen setting; `None` if the data support none.
        judge ([`Judge`]): The judge at that setting; exact matching (lossless) if the data support none.
        supported (`bool`): Whether the data support a setting.
        reason (`str`): One or two sentences with the figures behind the choice.
        rows (`list[dict]`): One row for each setting that was measured: `setting`, `prompts`, `accuracy_drop`
            (measured on these prompts, against exact matching) and `upper_bound` (of the drop).
        max_accuracy_drop, confidence (`float`): What was asked for.
    """

    setting: str | None
    judge: Judge
    supported: bool
    reason: str
    rows: list[dict[str, Any]]
    max_accuracy_drop: float
    confidence: float


def calibrate_judges(
    target: PreTrainedModel,
    draft: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    samples: Sequence[Sample],
    grids: Mapping[str, Grid],
    max_accuracy_drop: float = 0.01,
    confidence: float = 0.9,
    *,
    max_new_tokens: int | None = None,
    num_assistant_tokens: int | None = None,
    assistant_confidence_threshold: float | None = None,
    batch_size: int = 16,
    folder: str | os.PathLike | None = None,
    progress: bool = True,
) -> dict[str, JudgeChoice]:
    """Choose the loosest setting of each judge whose drop in task accuracy stays within the limit, on validation
    samples. The confidence holds for each judge, not for all together.

    Settings are tested in order until the first failure, so those after it are not measured; and a setting's
    measurement stops once it would fail even if all remaining answers were right. Neither changes a choice.

    Args:
        target, draft ([`PreTrainedModel`]): Decoder-only models with the same tokens.
        tokenizer ([`PreTrainedTokenizerBase`]): Of both models.
        task ([`Task`]): Makes prompts and checks outcomes.
        samples (`Sequence[Sample]`): Samples of the task's validation split.
        grids (`Mapping[str, Sequence[tuple[str, Judge]]]`): For each name two settings or more, from the safest to the
            loosest: a label and the judge at that setting. A judge with a threshold is measured at its own.
        max_accuracy_drop, confidence: See [`choose_setting`].
        max_new_tokens, num_assistant_tokens, assistant_confidence_threshold, folder, progress: See
            [`measure_frontier`](hf_autojudge.evaluation.benchmark).
        batch_size (`int`, *optional*, defaults to `16`): Questions answered at the same time.

    Returns:
        For each name its [`JudgeChoice`].

    Raises:
        ValueError: If there are no samples or grids, a grid has fewer than two settings or a setting twice, or a
            number is out of range.

    Example:

        grids = {"top-k": [(f"k = {k}", TopKRule(k)) for k in (2, 3, 4, 8)]}
        choice = calibrate_judges(target, draft, tokenizer, task, task.load("validation", 500), grids)["top-k"]
        target.generate(**inputs, assistant_model=draft, judge=choice.judge)
    """
    check_limits(max_accuracy_drop, confidence)
    if not grids:
        raise ValueError("There are no judges to calibrate; pass `grids`, settings by the judges' names.")
    for name, grid in grids.items():
        _check_grid(name, [label for label, _ in grid])
    # One draft length for every measurement, whichever judges are in it
    length = DraftLength.resolve(
        target,
        draft,
        [judge for grid in grids.values() for _, judge in grid],
        num_assistant_tokens=num_assistant_tokens,
        confidence_threshold=assistant_confidence_threshold,
    )

    with TemporaryDirectory() as temporary:

        def measure(judges: Mapping[str, Judge], n: int) -> Frontier:
            return measure_frontier(
                target,
                draft,
                tokenizer,
                task,
                samples[:n],
                judges,
                max_new_tokens=max_new_tokens,
                num_assistant_tokens=length.num_assistant_tokens,
                assistant_confidence_threshold=length.confidence_threshold,
                baselines=False,
                batch_size=batch_size,
                num_timed=1,
                folder=temporary if folder is None else folder,
                progress=progress,
            )

        exact = measure({}, len(samples))
        warn_if_it_means_little(exact)
        baseline = exact.questions[EXACT].correct
        correct: dict[str, dict[str, list[int]]] = {name: {} for name in grids}
        testing = {name: grid[0] for name, grid in grids.items()}
        while testing:
            labels = {f"{name}, {label}": (name, label) for name, (label, _) in testing.items()}
            undecided = {f"{name}, {label}": _at_its_own(judge) for name, (label, judge) in testing.items()}
            size = batch_size
            while undecided:
                size = min(2 * size, len(samples))
                answers = measure(undecided, size).questions
                for key in list(undecided):
                    name, label = labels[key]
                    correct[name][label] = answers[key].correct
                    failed = cannot_pass(answers[key].correct, baseline, max_accuracy_drop, confidence)
                    if not failed and size < len(samples):
                        continue
                    del undecided[key]
                    following = grids[name][len(correct[name]) :]
                    if failed or not following:
                        del testing[name]
                    else:
                        testing[name] = following[0]

    choices = {}
    for name, grid in grids.items():
        setting, reason, rows = choose_setting(correct[name], baseline, max_accuracy_drop, confidence)
        choices[name] = JudgeChoice(
            setting,
            ExactMatchRule() if setting is None else dict(grid)[setting],
            setting is not None,
            reason,
            [{"setting": label, **row} for label, row in zip(correct[name], rows, strict=True)],
            max_accuracy_drop,
            confidence,
        )
    return choices


def _at_its_own(judge: Judge) -> Judge:
    return judge if judge.threshold is None else at_threshold(judge, judge.threshold)


def _check_grid(name: str, labels: Sequence[str]) -> None:
    if not labels:
        raise ValueError(f"The grid of {name!r} is empty; pass two settings or more.")
    if len(labels) == 1:
        raise ValueError(
            f"The grid of {name!r} has one setting ({labels[0]!r}), so there is nothing to choose; pass more."
        )
    if repeated := sorted({label for label in labels if labels.count(label) > 1}):
        raise ValueError(f"The grid of {name!r} has the settings {repeated} more than once; pass each once.")
