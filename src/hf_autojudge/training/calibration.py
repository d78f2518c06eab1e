"""Choose a judge's threshold: candidates from the labels of validation mismatches, the choice by task accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_autojudge.evaluation import Frontier, measure_frontier
from hf_autojudge.judges import AutoJudgeHead
from hf_autojudge.judges.base import check_threshold
from hf_autojudge.tasks.base import Sample, Task

BELOW_ONE = 1 - 2**-24  # the largest float32 below 1
RECALLS = (1.0, 0.998, 0.995, 0.99, 0.98, 0.97, 0.95, 0.92, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.3, 0.1)


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
    """Measure task accuracy on validation samples at each threshold, and choose one.

    Args:
        target, draft ([`PreTrainedModel`]): The models the head was fitted for.
        tokenizer ([`PreTrainedTokenizerBase`]): Of both models.
        task ([`Task`]): Makes prompts and checks outcomes.
        samples (`Sequence[Sample]`): Samples of the task's validation split.
        head ([`AutoJudgeHead`]): A fitted head.
        max_accuracy_drop, confidence: See [`choose_threshold`].
        thresholds (`Sequence[float]`, *optional*): Thresholds to try; by default those of the head's calibration
            table.
        frontier_options: Further arguments of [`measure_frontier`](hf_autojudge.evaluation.benchmark).

    Returns:
        The choice, and the frontier it is based on.

    Raises:
        ValueError: If there are no thresholds to try, or no samples.
    """
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
    correct = {p.threshold: measured.questions[p.name].correct for p in measured.points if p.threshold is not None}
    baseline = measured.questions["threshold 0"].correct
    return choose_threshold(correct, baseline, max_accuracy_drop, confidence), measured


@dataclass(frozen=True)
class ThresholdChoice:
    """The outcome of [`choose_threshold`].

    Attributes:
        threshold (`float`): The chosen threshold; 0 (lossless) if the data support none.
        supported (`bool`): Whether the data support a threshold above 0.
        reason (`str`): One or two sentences with the figures behind the choice.
        rows (`list[dict]`): One row for each threshold tried: `threshold`, `accuracy_drop` (measured) and
            `upper_bound` (of the drop).
        max_accuracy_drop, confidence (`float`): What was asked for.
    """

    threshold: float
    supported: bool
    reason: str
    rows: list[dict[str, float]]
    max_accuracy_drop: float
    confidence: float


def paired_drop_bound(losses: int, gains: int, n: int, confidence: float) -> float:
    """Upper confidence bound of P(loss) - P(gain), from paired outcomes on n prompts. A loss is a correct answer in
    the baseline and a wrong one with the judge, a gain the reverse. `confidence` lies in (0.5, 1).

    The one-sided score interval of Tango (Statistics in Medicine 17, 1998). Unlike a bootstrap it holds for small
    counts: without a loss in n prompts it is about z^2 / (n + z^2), not 0.
    """
    z = NormalDist().inv_cdf(confidence)

    def excess(delta: float) -> float:
        # The test statistic of a drop of delta, with P(gain) at its maximum likelihood under that hypothesis
        a = 2 * n
        b = -losses - gains + (2 * n - losses + gains) * delta
        c = -gains * delta * (1 - delta)
        q = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
        variance = n * (2 * q + delta * (1 - delta))
        return (n * delta - (losses - gains)) - z * math.sqrt(max(variance, 0.0))

    low, high = (losses - gains) / n, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return high


def choose_threshold(
    correct: Mapping[float, Sequence[int]],
    baseline: Sequence[int],
    max_accuracy_drop: float = 0.01,
    confidence: float = 0.9,
) -> ThresholdChoice:
    """Choose the largest threshold whose drop in task accuracy stays, with the given confidence, within the maximum.

    Thresholds are tested in ascending order until the first failure (fixed-sequence testing, as in Learn then Test,
    arXiv 2110.01052, section 2), so the confidence holds for the choice, not only for each test.

    Args:
        correct (`Mapping[float, Sequence[int]]`): For each threshold, 1 (or `True`) for every validation prompt that
            was answered correctly, 0 for the others.
        baseline (`Sequence[int]`): The same without the judge (plain greedy decoding, or threshold 0), for the same
            prompts in the same order.
        max_accuracy_drop (`float`, *optional*, defaults to `0.01`): Maximum drop in accuracy, as a share: 0.01 is one
            percentage point.
        confidence (`float`, *optional*, defaults to `0.9`): Of the one-sided bound on the drop.

    Returns:
        [`ThresholdChoice`]

    Raises:
        ValueError: If there are no prompts, the lists have different lengths, or a number is out of range.
    """
    n = len(baseline)
    if not correct or n == 0:
        raise ValueError(f"Choosing a threshold needs measured thresholds and prompts; got {len(correct)} and {n}.")
    if not 0 < max_accuracy_drop < 1 or not 0.5 < confidence < 1:
        raise ValueError(
            f"max_accuracy_drop must lie in (0, 1) and confidence in (0.5, 1); got {max_accuracy_drop} and "
            f"{confidence}."
        )
    rows: list[dict[str, float]] = []
    chosen: dict[str, float] | None = None
    failed: dict[str, float] | None = None
    for threshold in sorted(check_threshold(t) for t in correct):
        answers = correct[threshold]
        if len(answers) != n:
            raise ValueError(
                f"Threshold {threshold} has {len(answers)} answers, the baseline {n}; measure the same prompts."
            )
        losses = sum(b and not a for a, b in zip(answers, baseline, strict=True))
        gains = sum(a and not b for a, b in zip(answers, baseline, strict=True))
        bound = paired_drop_bound(losses, gains, n, confidence)
        rows.append({"threshold": threshold, "accuracy_drop": (losses - gains) / n, "upper_bound": bound})
        if failed is None and bound > max_accuracy_drop:
            failed = rows[-1]
        elif failed is None and threshold > 0:
            chosen = rows[-1]
    percent = f"{100 * confidence:.0f}% confidence"
    if chosen is not None:
        reason = (
            f"Threshold {chosen['threshold']:.4g}: measured drop {100 * chosen['accuracy_drop']:.2f} points on {n} "
            f"prompts, at most {100 * chosen['upper_bound']:.2f} points with {percent}."
        )
        return ThresholdChoice(chosen["threshold"], True, reason, rows, max_accuracy_drop, confidence)
    if failed is None:
        return ThresholdChoice(0.0, False, "No threshold above 0 was tried.", rows, max_accuracy_drop, confidence)
    reason = (
        f"The data do not support a drop of at most {100 * max_accuracy_drop:.2f} points with {percent}: threshold "
        f"{failed['threshold']:.4g} measured {100 * failed['accuracy_drop']:.2f} points on {n} prompts, with an upper "
        f"bound of {100 * failed['upper_bound']:.2f}."
    )
    z2 = NormalDist().inv_cdf(confidence) ** 2
    needed = math.ceil(z2 * (1 - max_accuracy_drop) / max_accuracy_drop)
    if n < needed:
        reason += f" Even without a single lost answer this takes {needed} prompts."
    return ThresholdChoice(0.0, False, reason, rows, max_accuracy_drop, confidence)
