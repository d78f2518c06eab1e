"""The decoding strategies that a frontier compares: baselines, and judges at thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from hf_autojudge.evaluation.threshold_labels import threshold_labels
from hf_autojudge.judges import Judge
from hf_autojudge.judges.base import check_threshold

PLAIN = "plain greedy"
DRAFT = "draft alone"
ASSISTED = "assisted (transformers)"
EXACT = "threshold 0"
BASELINES = (PLAIN, DRAFT, ASSISTED, EXACT)


@dataclass(frozen=True)
class DecodingStrategy:
    """A baseline, or a judge at a threshold.

    Attributes:
        name (`str`): Unique within a frontier.
        judge (`str`): The judge's name; equal to `name` for baselines.
        threshold (`float`, *optional*): `None` for baselines and for judges without a threshold.
    """

    name: str
    judge: str
    threshold: float | None = None

    @property
    def takes_batches(self) -> bool:
        """Whether it answers several prompts at once. transformers' assisted generation refuses to."""
        return self.name != ASSISTED


def name_judges(judges: Judge | Mapping[str, Judge]) -> dict[str, Judge]:
    """Judges by name; a single one gets the name of its class or, if it is a rule, its `repr`."""
    if isinstance(judges, Mapping):
        return dict(judges)
    return {type(judges).__name__ if isinstance(judges, torch.nn.Module) else repr(judges): judges}


def decoding_strategies(
    judges: Mapping[str, Judge], thresholds: Sequence[float], baselines: bool
) -> list[DecodingStrategy]:
    """All strategies of a frontier, in the order of its report; see [`measure_frontier`] for the arguments.

    Raises:
        ValueError: If a threshold is not in [0, 1], a judge needs a threshold and there is none, or a name occurs
            twice.
    """
    thresholds = sorted(check_threshold(t) for t in thresholds)
    strategies = [DecodingStrategy(name, name) for name in BASELINES if baselines or name == EXACT]
    for name, judge in judges.items():
        if judge.threshold is None:
            strategies.append(DecodingStrategy(name, name))
            continue
        if not thresholds:
            raise ValueError(f"The judge {name!r} needs at least one threshold in [0, 1]; `thresholds` is empty.")
        strategies += [
            DecodingStrategy(f"{name}, threshold {label}", name, threshold)
            for threshold, label in zip(thresholds, threshold_labels(thresholds, 4), strict=True)
        ]
    names = [*BASELINES, *judges, *(s.name for s in strategies if s.threshold is not None)]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"Names occur twice: {repeated}; give each judge its own name and each threshold once.")
    return strategies
