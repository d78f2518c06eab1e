"""Calibrate a head: thresholds from the labels of validation mismatches, the choice of one by task accuracy."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_autojudge.evaluation import Frontier, measure_frontier
from hf_autojudge.evaluation.strategies import EXACT
from hf_autojudge.judges import AutoJudgeHead
from hf_autojudge.tasks.base import Sample, Task
from hf_autojudge.training.choosing import ThresholdChoice, check_limits, choose_threshold

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
    """Measure task accuracy on validation samples at each threshold, and choose one. Unlike [`calibrate_judges`] it
    measures every threshold on every sample, for the report.

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
    warn_if_it_means_little(measured)
    correct = {p.threshold: measured.questions[p.name].correct for p in measured.points if p.threshold is not None}
    baseline = measured.questions[EXACT].correct
    return choose_threshold(correct, baseline, max_accuracy_drop, confidence), measured


def warn_if_it_means_little(measured: Frontier) -> None:
    """Say so if the target has few right answers to lose, or rarely finishes an answer."""
    exact = measured.questions[EXACT]
    n, right, cut_off = len(exact.correct), sum(exact.correct), sum(exact.capped)
    if right < n * FEW_RIGHT or cut_off > n * MANY_CUT_OFF:
        logger.warning(
            "The target itself answers %d of %d validation prompts rightly, and %d of its answers were cut off at "
            "max_new_tokens = %d, so the choice means little; check the task and raise max_new_tokens.",
            *(right, n, cut_off, measured.settings["max_new_tokens"]),
        )
