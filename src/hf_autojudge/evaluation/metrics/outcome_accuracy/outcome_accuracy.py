"""The share of answers with the right outcome, as a module of `evaluate`. Imports nothing of hf_autojudge: `evaluate`
copies it."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

DESCRIPTION = "Share of answers whose outcome (for instance the final number), already normalised, is the right one."
INPUTS = """
Args:
    predictions (`list[str]`): Normalised outcomes of the answers; "" where an answer has none, which never counts as
        right.
    references (`list[str]`): The right outcomes.

Returns:
    `accuracy` (`float`): In [0, 1].
    `correct` (`list[int]`): 1 for each right answer, 0 for the others.
"""


class OutcomeAccuracy(evaluate.Metric):
    """Compares outcomes as strings, without leading and trailing spaces."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, Any]:
        pairs = [(p.strip(), r.strip()) for p, r in zip(predictions, references, strict=True)]
        correct = [int(p != "" and p == r) for p, r in pairs]
        return {"accuracy": sum(correct) / len(correct), "correct": correct}
