"""The share of answers with the right outcome, as a metric of `evaluate`. It cannot import hf_autojudge, because
`evaluate` copies this file."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import datasets
import evaluate

DESCRIPTION = "Share of answers whose outcome (for instance the final number) is the right one."
INPUTS = """
Args:
    predictions (`list[str]`): Answers, or their outcomes; "" never counts as right.
    references (`list[str]`): The right answers or outcomes.
    is_correct (`Callable[[str, str], bool]`, *optional*): Whether a prediction is right, given its reference. By
        default: whether the two are equal without leading and trailing spaces.
    threads (`int`, *optional*, defaults to 0): Number of threads that call it, for functions that wait, such as one
        that runs a program. 0 calls it in the caller's thread.

Returns:
    `accuracy` (`float`): In [0, 1].
    `correct` (`list[int]`): 1 for each right answer, 0 for the others.
"""


class OutcomeAccuracy(evaluate.Metric):
    """Compares answers with a function of the task."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        is_correct: Callable[[str, str], bool] | None = None,
        threads: int = 0,
    ) -> dict[str, Any]:
        is_right = is_correct or (lambda prediction, reference: prediction.strip() == reference.strip())

        def score(prediction: str, reference: str) -> int:
            return int(prediction.strip() != "" and is_right(prediction, reference))

        if threads:
            with ThreadPoolExecutor(threads) as pool:
                correct = list(pool.map(score, predictions, references))
        else:
            correct = list(map(score, predictions, references))
        return {"accuracy": sum(correct) / len(correct), "correct": correct}
