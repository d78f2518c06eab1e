"""Calibrate judges: thresholds from the labels of validation mismatches, the choice of a setting by task accuracy."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_autojudge.evaluation import Frontier, measure_frontier
from hf_autojudge.evaluation.strategies import EXACT
from hf_autojudge.judges import AutoJudgeHead, ExactMatchRule, Judge, at_threshold
from hf_autojudge.tasks.base import Sample, Task
from hf_autojudge.training.choosing import ThresholdChoice, check_limits, choose_setting, choose_threshold

BELOW_ONE = 1 - 2**-24  # the largest float32 below 1
FEW_RIGHT, MANY_CUT_OFF = 0.1, 0.5  # shares of the target's answers: fewer right or more cut off draw a warning
RECALLS = (1.0, 0.998, 0.995, 0.99, 0.98, 0.97, 0.95, 0.92, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.3, 0.1)

logger = logging.getLogger(__name__)


def calibration_table(
    importance: torch.Tensor, important: torch.Tensor, recalls: Sequence[float] = RECALLS
) -> list[dict[str, float]]:
    """For each recall of important mismatches, the largest threshold that reaches it.

    Args:
        importance (`torch.FloatTensor` of shape `(N,)`): The head's importance of validation mismatches.
        important (`torch.BoolTensor` of shape `(N,)`): Their labels; both classes must occur.
        recalls (`Sequence[float]`, *optional*): Shares of the important mismatches to reject.

    Returns:
        Rows with `threshold`, `recall` (the share reached) and `accepted` (share of all mismatches accepted), in
        ascending order of threshold, without duplicates.

    Raises:
        ValueError: If all labels are of one class.
    """
    positives = importance[important.bool()].double().sort(descending=True).values
    if len(positives) in (0, len(important)):
        raise ValueError(
            f"Calibration needs important and unimportant mismatches; got {len(positives)} important of "
            f"{len(important)}."
        )
    rows: dict[float, dict[str, float]] = {}
    for recall in recalls:
        # A mismatch is accepted if its importance is below the threshold: the k-th largest rejects k
        threshold = float(positives[max(1, math.ceil(recall * len(positives) - 1e-9)) - 1])
        threshold = min(threshold, BELOW_ONE)  # importance can round to 1, and threshold 1 accepts every mismatch
        rows[threshold] = {
            "threshold": threshold,
            "recall": float((positives >= threshold).double().mean()),
            "accepted": float((importance.double() < threshold).double().mean()),
        }
    return [rows[threshold] for threshold in sorted(rows)]


def calibrate_threshold(
    target: PreTrainedModel,
    draft: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    samples: Sequence[Sample],
    head: AutoJudgeHead,
    max_accuracy_drop: float = 0.01,
    confidence: float = 0.9,
    thresholds: Sequence[float] | None = None,
    **frontier_options: Any,
) -> tuple[ThresholdChoice, Frontier]:
    """Measure task accuracy on validation samples at each threshold, and choose one: [`calibrate_judges`] for one head
    and its thresholds.

    Args:
        target, draft ([`PreTrainedModel`]): The models the head was fitted for.
        tokenizer ([`PreTrainedTokenizerBase`]): Of both models.
        task ([`Task`]): Makes prompts and checks outcomes.
        samples (`Sequence[Sample]`): Samples of the task's validation split.
        head ([`AutoJudgeHead`]): A fitted head.
        max_accuracy_drop, confidence: See [`choose_setting`].
        thresholds (`Sequence[float]`, *optional*): Thresholds to try; by default those of the head's calibration
            table.
        frontier_options: Further arguments of [`measure_frontier`](hf_autojudge.evaluation.benchmark).

    Returns:
        The choice, and the frontier it is based on.

    Raises:
        ValueError: If there are no thresholds to try, no samples, or a number is out of range.
    """
    check_limits(max_accuracy_drop, confidence)
    tried = sorted({row["threshold"] for row in head.config.thresholds} if thresholds is None else set(thresholds))
    if not tried:
        raise ValueError("The head has no calibration table; pass `thresholds`, for instance [0.05, 0.1, 0.2].")
    measured = measure_frontier(
        target,
        draft,
        tokenizer,
        task,
        samples,
        {"judge": head},
        tried,
        baselines=False,
        **frontier_options,
    )
    _warn_if_it_means_little(measured)
    correct = {p.threshold: measured.questions[p.name].correct for p in measured.points if p.threshold is not None}
    baseline = measured.questions[EXACT].correct
    return choose_threshold(correct, baseline, max_accuracy_drop, confidence), measured


def _warn_if_it_means_little(measured: Frontier) -> None:
    """Say so if the target has few right answers to lose, or rarely finishes an answer."""
    exact = measured.questions[EXACT]
    n, right, cut_off = len(exact.correct), sum(exact.correct), sum(exact.capped)
    if right < n * FEW_RIGHT or cut_off > n * MANY_CUT_OFF:
        logger.warning(
            "The target itself answers %d of %d validation prompts rightly, and %d of its answers were cut off at "
            "max_new_tokens = %d, so the choice means little; check the task and raise max_new_tokens.",
            *(right, n, cut_off, measured.settings["max_new_tokens"]),
        )


@dataclass(frozen=True)
class JudgeChoice:
    """What [`calibrate_judges`] chose of one grid.

    Attributes:
        setting (`str`, *optional*): Label of the chosen setting; `None` if the data support none.
        judge ([`Judge`]): The judge at that setting; exact matching (lossless) if the data support none.
        supported (`bool`): Whether the data support a setting.
        reason (`str`): One or two sentences with the figures behind the choice.
        rows (`list[dict]`): One row for each setting: `setting`, `accuracy_drop` (measured, against exact matching)
            and `upper_bound` (of the drop).
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
    grids: Mapping[str, Sequence[tuple[str, Judge]]],
    max_accuracy_drop: float = 0.01,
    confidence: float = 0.9,
    **frontier_options: Any,
) -> dict[str, JudgeChoice]:
    """Measure task accuracy on validation samples for each setting of each judge, in one run, and choose the loosest
    setting of each whose drop in accuracy stays within the limit. The confidence holds for each judge, not for all
    together.

    Args:
        target, draft ([`PreTrainedModel`]): Decoder-only models with the same tokens.
        tokenizer ([`PreTrainedTokenizerBase`]): Of both models.
        task ([`Task`]): Makes prompts and checks outcomes.
        samples (`Sequence[Sample]`): Samples of the task's validation split.
        grids (`Mapping[str, Sequence[tuple[str, Judge]]]`): For each name two settings or more, from the safest to the
            loosest: a label and the judge at that setting. A judge with a threshold is measured at its own.
        max_accuracy_drop, confidence: See [`choose_setting`].
        frontier_options: Further arguments of [`measure_frontier`](hf_autojudge.evaluation.benchmark).

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
    judges: dict[str, Judge] = {
        f"{name}, {label}": judge if judge.threshold is None else at_threshold(judge, judge.threshold)
        for name, grid in grids.items()
        for label, judge in grid
    }
    frontier = measure_frontier(target, draft, tokenizer, task, samples, judges, baselines=False, **frontier_options)
    _warn_if_it_means_little(frontier)
    measured = frontier.questions
    choices = {}
    for name, grid in grids.items():
        correct = {label: measured[f"{name}, {label}"].correct for label, _ in grid}
        setting, reason, rows = choose_setting(correct, measured[EXACT].correct, max_accuracy_drop, confidence)
        choices[name] = JudgeChoice(
            setting,
            ExactMatchRule() if setting is None else dict(grid)[setting],
            setting is not None,
            reason,
            [{"setting": label, **row} for label, row in zip(correct, rows, strict=True)],
            max_accuracy_drop,
            confidence,
        )
    return choices


def _check_grid(name: str, labels: Sequence[str]) -> None:
    if not labels:
        raise ValueError(f"The grid of {name!r} is empty; pass two settings or more.")
    if len(labels) == 1:
        raise ValueError(
            f"The grid of {name!r} has one setting ({labels[0]!r}), so there is nothing to choose; pass more."
        )
    if repeated := sorted({label for label in labels if labels.count(label) > 1}):
        raise ValueError(f"The grid of {name!r} has the settings {repeated} more than once; pass each once.")
