"""The third verb: which threshold. First what it does to validation mismatches, then what it does to task accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel

from hf_autojudge.judges import AutoJudgeHead
from hf_autojudge.judges.base import check_threshold
from hf_autojudge.tasks.base import Sample, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_autojudge.evaluation.report import Frontier

BELOW_ONE = 1 - 2**-24  # the largest float32 below 1
RECALLS = (1.0, 0.998, 0.995, 0.99, 0.98, 0.97, 0.95, 0.92, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.3, 0.1)


def calibration_table(
    importance: torch.Tensor, important: torch.Tensor, recalls: Sequence[float] = RECALLS
) -> list[dict[str, float]]:
    """For each recall of important mismatches, the largest threshold that reaches it.

    Args:
        importance (`torch.FloatTensor` of shape `(N,)`): The head's, of validation mismatches.
        important (`torch.BoolTensor` of shape `(N,)`): Their labels; both kinds must occur.
        recalls (`Sequence[float]`, *optional*): Wanted shares of important mismatches that are still rejected.

    Returns:
        Rows `threshold`, `recall` (reached), `accepted` (share of all mismatches accepted), by rising threshold,
        without repeats.

    Raises:
        ValueError: If labels of one class are missing.
    """
    positives = importance[important.bool()].double().sort(descending=True).values
    if len(positives) in (0, len(important)):
        raise ValueError(
            f"Calibration needs important and unimportant mismatches; got {len(positives)} important of "
            f"{len(important)}."
        )
    rows: dict[float, dict[str, float]] = {}
    for recall in recalls:
        # A mismatch is accepted if its importance is below the threshold: the k-th largest keeps k rejected
        threshold = float(positives[max(1, math.ceil(recall * len(positives) - 1e-9)) - 1])
        threshold = min(threshold, BELOW_ONE)  # an importance can round to 1, but threshold 1 accepts everything
        rows[threshold] = {
            "threshold": threshold,
            "recall": float((positives >= threshold).double().mean()),
            "accepted": float((importance.double() < threshold).double().mean()),
        }
    return [rows[threshold] for threshold in sorted(rows)]


def calibrate_threshold(
    head: AutoJudgeHead,
    target: PreTrainedModel,
    draft: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    rows: Sequence[Sample],
    max_accuracy_drop: float = 0.01,
    confidence: float = 0.9,
    thresholds: Sequence[float] | None = None,
    **frontier_options: Any,
) -> tuple[ThresholdChoice, Frontier]:
    """Measure task accuracy over validation rows at each threshold, and choose one.

    Args:
        head ([`AutoJudgeHead`]): A fitted head.
        target, draft ([`PreTrainedModel`]): The pair.
        tokenizer ([`PreTrainedTokenizerBase`]): The target's.
        task ([`Task`]): Makes prompts and checks outcomes.
        rows (sequence of rows): Of the validation split.
        max_accuracy_drop, confidence: See [`choose_threshold`].
        thresholds (`Sequence[float]`, *optional*): Thresholds to try; those of the head's calibration table by
            default.
        frontier_options: Further arguments of [`frontier`](hf_autojudge.evaluation.benchmark).

    Returns:
        The choice, and everything measured.

    Raises:
        ValueError: If there are no thresholds to try, or no rows.
    """
    from hf_autojudge.evaluation import measure_frontier  # needs the extra `eval`

    tried = sorted({row["threshold"] for row in head.config.thresholds} if thresholds is None else set(thresholds))
    if not tried:
        raise ValueError("The head has no calibration table; pass `thresholds`, for instance [0.05, 0.1, 0.2].")
    measured = measure_frontier(
        target,
        draft,
        {"judge": head},
        task,
        tried,
        tokenizer=tokenizer,
        rows=rows,
        baselines=False,
        **frontier_options,
    )
    correct = {
        p.threshold: [bool(c) for c in measured.questions[p.name].correct]
        for p in measured.points
        if p.threshold is not None
    }
    baseline = [bool(c) for c in measured.questions["threshold 0"].correct]
    return choose_threshold(correct, baseline, max_accuracy_drop, confidence), measured


@dataclass(frozen=True)
class ThresholdChoice:
    """The outcome of [`choose_threshold`].

    Attributes:
        threshold (`float`): The chosen threshold; 0 (lossless) if the data support none.
        supported (`bool`): Whether the data support a threshold above 0.
        reason (`str`): In one or two sentences.
        rows (`list[dict]`): For each threshold tried: `threshold`, `accuracy_drop` (measured), `upper_bound` (of the
            drop).
    """

    threshold: float
    supported: bool
    reason: str
    rows: list[dict[str, float]]


def paired_drop_bound(losses: int, gains: int, n: int, confidence: float) -> float:
    """Upper confidence bound of P(loss) - P(gain), two outcomes measured on the same n prompts.

    The score interval of Tango (Statistics in Medicine 17, 1998), one-sided. Unlike a bootstrap it is not fooled by
    small counts: with no loss in n prompts it is about z^2 / (n + z^2), not 0.

    Args:
        losses (`int`): Prompts that were right and are now wrong.
        gains (`int`): Prompts that were wrong and are now right.
        n (`int`): All prompts.
        confidence (`float`): In (0.5, 1).
    """
    z = NormalDist().inv_cdf(confidence)

    def excess(delta: float) -> float:
        # statistic of the hypothesis that the drop is delta, with P(gain) at its restricted maximum likelihood
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
    correct: Mapping[float, Sequence[bool]],
    baseline: Sequence[bool],
    max_accuracy_drop: float = 0.01,
    confidence: float = 0.9,
) -> ThresholdChoice:
    """The largest threshold whose drop in task accuracy is, with the given confidence, within the limit.

    Thresholds are tested from the smallest up and the first failure ends the testing (fixed-sequence testing, as in
    Learn then Test, arXiv 2110.01052, section 2), so the confidence holds for the choice, not only for each test.

    Args:
        correct (`Mapping[float, Sequence[bool]]`): For each threshold, whether each validation prompt was answered
            rightly.
        baseline (`Sequence[bool]`): The same without the judge (plain greedy, or threshold 0), same prompts, same
            order.
        max_accuracy_drop (`float`, *optional*, defaults to `0.01`): Largest drop in accuracy, as a share: 0.01 is one
            point.
        confidence (`float`, *optional*, defaults to `0.9`): One-sided.

    Raises:
        ValueError: For no prompts, lists of different lengths, or numbers out of range.
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
    chosen, failed = 0.0, None
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
        if failed is None and bound <= max_accuracy_drop:
            chosen = threshold
        elif failed is None:
            failed = rows[-1]
    supported = chosen > 0
    if supported:
        row = next(r for r in rows if r["threshold"] == chosen)
        reason = (
            f"Threshold {chosen:.4g}: measured drop {100 * row['accuracy_drop']:.2f} points on {n} prompts, at most "
            f"{100 * row['upper_bound']:.2f} points with {100 * confidence:.0f}% confidence."
        )
    else:
        z2 = NormalDist().inv_cdf(confidence) ** 2
        needed = math.ceil(z2 * (1 - max_accuracy_drop) / max_accuracy_drop)
        if failed is None:
            return ThresholdChoice(chosen, supported, "No threshold above 0 was tried.", rows)
        reason = (
            f"The data do not support a drop of at most {100 * max_accuracy_drop:.2f} points with "
            f"{100 * confidence:.0f}% confidence: "
            f"threshold {failed['threshold']:.4g} measured {100 * failed['accuracy_drop']:.2f} points on {n} "
            f"prompts, with an upper bound of {100 * failed['upper_bound']:.2f}."
        )
        if n < needed:
            reason += f" Even without a single lost answer this takes {needed} prompts."
    return ThresholdChoice(chosen, supported, reason, rows)
