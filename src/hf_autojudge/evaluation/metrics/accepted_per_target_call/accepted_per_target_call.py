"""New tokens per forward pass of the target, as a metric of `evaluate`. It cannot import hf_autojudge, because
`evaluate` copies this file."""

from __future__ import annotations

import datasets
import evaluate

DESCRIPTION = """
How many tokens each forward pass of the target yields: the new tokens of all answers divided by the forward passes of
the target, prefill's included. Plain decoding yields 1; speculative decoding without a judge yields more at the same
answers, and a judge that accepts mismatches more still. Answers weigh by their length: the ratio is that of the sums.
"""
INPUTS = """
Args:
    new_tokens (`list[int]`): New tokens of each answer, the end token included (`judge_stats.new_tokens`).
    target_calls (`list[int]`): Forward passes of the target for each answer (`judge_stats.target_calls`).

Returns:
    `accepted_per_target_call` (`float`): At least 1.

Raises:
    ValueError: If there is no forward pass.
"""


class AcceptedPerTargetCall(evaluate.Metric):
    """The ratio of two sums over answers."""

    def _info(self) -> evaluate.MetricInfo:
        number = datasets.Value("int64")
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features({"new_tokens": number, "target_calls": number}),
        )

    def _compute(self, new_tokens: list[int], target_calls: list[int]) -> dict[str, float]:
        if not sum(target_calls):
            raise ValueError(f"There is no forward pass of the target in {len(target_calls)} answers.")
        return {"accepted_per_target_call": sum(new_tokens) / sum(target_calls)}
