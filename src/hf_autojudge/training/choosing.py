"""Choose a setting by task accuracy: a bound on the drop from paired outcomes, and settings tested in order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from hf_autojudge.evaluation.threshold_labels import threshold_labels
from hf_autojudge.judges.base import check_threshold

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class ThresholdChoice:
    """The outcome of [`choose_threshold`].

    Attributes:
        threshold (`float`): The chosen threshold; 0 (lossless) if the data support none.
        supported (`bool`): Whether the data support a threshold above 0.
        reason (`str`): One or two sentences with the figures behind the choice.
        rows (`list[dict]`): One row for each threshold tried: `threshold`, `prompts` (their number), `accuracy_drop`
            (measured) and `upper_bound` (of the drop).
        max_accuracy_drop, confidence (`float`): What was asked for.
    """

    threshold: float
    supported: bool
    reason: str
    rows: Rows
    max_accuracy_drop: float
    confidence: float


def paired_drop_bound(losses: int, gains: int, n: int, confidence: float) -> float:
    """Upper confidence bound of P(loss) - P(gain), from paired outcomes on n prompts. A loss is a correct answer in
    the baseline and a wrong one with the judge, a gain the reverse. `confidence` lies in (0.5, 1).

    The one-sided score interval of Tango (Statistics in Medicine 17, 1998), with a continuity correction: half a loss
    is added. Without the correction, few losses are taken for too much evidence: 163 prompts without a loss would
    support a drop of at most 1 point with 90% confidence, but if the drop is 1 point, they occur with probability
    0.99^163 = 19%, not 10%. With it, the bound of no loss in n prompts is never below the exact one for confidences
    from 0.85 on (at 0.8, 1.55 / n instead of 1.61 / n).
    """
    z = NormalDist().inv_cdf(confidence)

    def excess(delta: float) -> float:
        # The test statistic of a drop of delta, with P(gain) at its maximum likelihood under that hypothesis
        a = 2 * n
        b = -losses - gains + (2 * n - losses + gains) * delta
        c = -gains * delta * (1 - delta)
        q = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
        variance = n * (2 * q + delta * (1 - delta))
        return (n * delta - (losses - gains + 0.5)) - z * math.sqrt(max(variance, 0.0))

    low, high = (losses - gains) / n, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return high


def prompts_needed(max_accuracy_drop: float, confidence: float) -> int:
    """The smallest number of prompts that, without a single lost answer, supports the maximum drop."""
    z = NormalDist().inv_cdf(confidence) * math.sqrt(1 - max_accuracy_drop)
    # The bound solves x - 0.5 = z sqrt(x) with x = n * max_accuracy_drop
    return math.ceil(((z + math.sqrt(z * z + 2)) / 2) ** 2 / max_accuracy_drop)


def check_limits(max_accuracy_drop: float, confidence: float) -> None:
    """Check what is asked of a choice.

    Raises:
        ValueError: If the drop is not in (0, 1), or the confidence not in (0.5, 1).
    """
    if not 0 < max_accuracy_drop < 1 or not 0.5 < confidence < 1:
        raise ValueError(
            f"max_accuracy_drop must lie in (0, 1) and confidence in (0.5, 1); got {max_accuracy_drop} and "
            f"{confidence}."
        )


def choose_setting(
    correct: Mapping[str, Sequence[int]],
    baseline: Sequence[int],
    max_accuracy_drop: float = 0.01,
    confidence: float = 0.9,
) -> tuple[str | None, str, Rows]:
    """Choose the last setting whose drop in task accuracy stays, with the given confidence, within the maximum.

    Settings are tested in the given order until the first failure (fixed-sequence testing, as in Learn then Test,
    arXiv 2110.01052, section 2), so the confidence holds for the choice, not only for each test. The order must not
    depend on the outcomes.

    Args:
        correct (`Mapping[str, Sequence[int]]`): For each setting, from the safest to the loosest, 1 (or `True`) for
            every validation prompt that was answered correctly, 0 for the others. The measurement of a setting that
            fails may have stopped early: it then has answers to the first prompts only.
        baseline (`Sequence[int]`): The same without a judge (plain greedy decoding, or threshold 0), for the same
            prompts in the same order.
        max_accuracy_drop (`float`, *optional*, defaults to `0.01`): Maximum drop in accuracy, as a share: 0.01 is one
            percentage point.
        confidence (`float`, *optional*, defaults to `0.9`): Of the one-sided bound on the drop.

    Returns:
        The setting, `None` if the data support none; one or two sentences with the figures behind the choice; and for
        each setting a row with `prompts` (their number), `accuracy_drop` (measured) and `upper_bound` (of the drop).

    Raises:
        ValueError: If there are no settings or prompts, the lists have different lengths, or a number is out of range.
    """
    n = len(baseline)
    if not correct or n == 0:
        raise ValueError(f"Choosing needs measured settings and prompts; got {len(correct)} and {n}.")
    check_limits(max_accuracy_drop, confidence)
    rows = [_drop(answers, baseline, confidence) for answers in correct.values()]
    for setting, answers in correct.items():
        stopped = len(answers) < n and cannot_pass(answers, baseline, max_accuracy_drop, confidence)
        if len(answers) != n and not stopped:
            raise ValueError(
                f"The setting {setting!r} has {len(answers)} answers, the baseline {n}; measure the same prompts."
            )
    passed = 0
    while passed < len(rows) and rows[passed]["upper_bound"] <= max_accuracy_drop:
        passed += 1
    percent = f"{100 * confidence:.3g}% confidence"
    settings = list(correct)
    if passed:
        row = rows[passed - 1]
        reason = (
            f"Chosen: {settings[passed - 1]}, with a measured drop of {100 * row['accuracy_drop']:.2f} points on {n} "
            f"prompts, at most {100 * row['upper_bound']:.2f} points with {percent}."
        )
        return settings[passed - 1], reason, rows
    reason = (
        f"The data do not support a drop of at most {100 * max_accuracy_drop:.2f} points with {percent}: "
        f"{settings[0]} measured {100 * rows[0]['accuracy_drop']:.2f} points on {rows[0]['prompts']} prompts, with an "
        f"upper bound of {100 * rows[0]['upper_bound']:.2f}."
    )
    needed = prompts_needed(max_accuracy_drop, confidence)
    if n < needed:
        reason += f" Even without a single lost answer this takes {needed} prompts."
    return None, reason, rows


def cannot_pass(answers: Sequence[int], baseline: Sequence[int], max_accuracy_drop: float, confidence: float) -> bool:
    """Whether a setting fails even if all its answers that are missing are right."""
    pairs = list(zip(answers, baseline, strict=False))
    losses = sum(b and not a for a, b in pairs)
    gains = sum(a and not b for a, b in pairs) + sum(not b for b in baseline[len(answers) :])
    return paired_drop_bound(losses, gains, len(baseline), confidence) > max_accuracy_drop


def _drop(answers: Sequence[int], baseline: Sequence[int], confidence: float) -> dict[str, Any]:
    """The measured drop of a setting and its upper bound, on the prompts that it has answered."""
    pairs = list(zip(answers, baseline, strict=False))
    losses = sum(b and not a for a, b in pairs)
    gains = sum(a and not b for a, b in pairs)
    n = len(pairs)
    if n == 0:
        return {"prompts": 0, "accuracy_drop": 0.0, "upper_bound": 1.0}
    bound = paired_drop_bound(losses, gains, n, confidence)
    return {"prompts": n, "accuracy_drop": (losses - gains) / n, "upper_bound": bound}


def choose_threshold(
    correct: Mapping[float, Sequence[int]],
    baseline: Sequence[int],
    max_accuracy_drop: float = 0.01,
    confidence: float = 0.9,
) -> ThresholdChoice:
    """Choose the largest threshold whose drop in task accuracy stays, with the given confidence, within the maximum:
    [`choose_setting`] for thresholds, in ascending order. Threshold 0 accepts nothing, so it is not tested.

    Args:
        correct (`Mapping[float, Sequence[int]]`): For each threshold, 1 (or `True`) for every validation prompt that
            was answered correctly, 0 for the others.
        baseline, max_accuracy_drop, confidence: See [`choose_setting`].

    Returns:
        [`ThresholdChoice`]

    Raises:
        ValueError: If there are no prompts, the lists have different lengths, or a number is out of range.
    """
    thresholds = sorted(t for t in map(check_threshold, correct) if t > 0)
    if not thresholds and correct:
        check_limits(max_accuracy_drop, confidence)
        return ThresholdChoice(0.0, False, "No threshold above 0 was tried.", [], max_accuracy_drop, confidence)
    labels = {f"threshold {label}": t for label, t in zip(threshold_labels(thresholds), thresholds, strict=True)}
    outcomes = {label: correct[threshold] for label, threshold in labels.items()}
    setting, reason, measured = choose_setting(outcomes, baseline, max_accuracy_drop, confidence)
    rows = [{"threshold": t, **row} for t, row in zip(thresholds, measured, strict=True)]
    threshold = 0.0 if setting is None else labels[setting]
    return ThresholdChoice(threshold, setting is not None, reason, rows, max_accuracy_drop, confidence)
