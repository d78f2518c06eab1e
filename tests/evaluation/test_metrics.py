"""The metrics load without network access and count as they say."""

import threading

import pytest

from hf_autojudge.evaluation import ACCEPTED_PER_TARGET_CALL, OUTCOME_ACCURACY, load_metric


def test_outcome_accuracy():
    found = load_metric().compute(predictions=["7", "", "8", " 9 "], references=["7", "", "9", "9"])
    assert found == {"accuracy": 0.5, "correct": [1, 0, 0, 1]}


def test_outcomes_are_compared_in_threads():
    together = threading.Barrier(3, timeout=10)

    def is_correct(prediction, reference):
        together.wait()  # for the others
        return prediction == reference

    metric, texts = load_metric(OUTCOME_ACCURACY), ["a", "b", "c"]
    found = metric.compute(predictions=texts, references=["a", "x", "c"], is_correct=is_correct, threads=3)
    assert found["correct"] == [1, 0, 1]


def test_accepted_per_target_call():
    metric = load_metric(ACCEPTED_PER_TARGET_CALL)
    assert metric.compute(new_tokens=[30, 10], target_calls=[5, 5]) == {"accepted_per_target_call": 4.0}
    assert "sums" in metric.description and "target_calls" in metric.inputs_description
    with pytest.raises(ValueError, match="no forward pass of the target in 1 answers"):
        metric.compute(new_tokens=[3], target_calls=[0])
