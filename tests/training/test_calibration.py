"""The table's counts are right, and a target that is almost always wrong draws a warning."""

from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch

from hf_autojudge.evaluation import Frontier, Questions
from hf_autojudge.evaluation.strategies import EXACT
from hf_autojudge.training import calibrate_threshold, calibration, calibration_table


def test_the_table_counts():
    generator = torch.Generator().manual_seed(0)
    important = torch.rand(400, generator=generator) < 0.25
    importance = (torch.rand(400, generator=generator) + important * 0.4).clamp(max=1).round(decimals=2)
    rows = calibration_table(importance, important)
    assert [r["threshold"] for r in rows] == sorted({r["threshold"] for r in rows})
    for row in rows:
        accepted = importance < row["threshold"]
        assert row["accepted"] == pytest.approx(accepted.double().mean().item())
        assert row["recall"] == pytest.approx((~accepted)[important].double().mean().item())
    assert rows[0]["recall"] == 1.0
    top = max(r["threshold"] for r in rows if r["recall"] >= 0.9)
    just_above = importance[important & (importance > top)].min()
    assert (importance >= just_above)[important].double().mean() < 0.9


def test_importances_that_round_to_one():
    (row,) = calibration_table(torch.tensor([1.0, 1.0, 0.2, 0.1]), torch.tensor([1, 1, 0, 0]).bool(), recalls=[0.5])
    assert row["threshold"] < 1.0 and (row["recall"], row["accepted"]) == (1.0, 0.5)


def test_the_table_needs_both_classes():
    with pytest.raises(ValueError, match="0 important of 5"):
        calibration_table(torch.rand(5), torch.zeros(5, dtype=torch.bool))


@pytest.mark.parametrize(
    ("right", "cut_off", "n", "warns"),
    [(1, 5, 10, False), (1, 0, 11, True), (0, 0, 1, True), (9, 5, 9, True), (9, 4, 9, False)],
)
def test_a_target_that_answers_badly_draws_a_warning(llama_pair, task, tokenizer, caplog, right, cut_off, n, warns):
    """From the lossless answers."""
    exact = Questions([1] * right + [0] * (n - right), [8] * n, [4] * n, [], [1] * cut_off + [0] * (n - cut_off))
    better = Questions([1] * n, [8] * n, [4] * n, [], [0] * n)
    point = SimpleNamespace(name="judge", threshold=0.5)
    measured = Frontier([point], {EXACT: exact, "judge": better}, {"max_new_tokens": 8})
    head = SimpleNamespace(config=SimpleNamespace(thresholds=[]))
    arguments = (*llama_pair, tokenizer, task, [])
    with patch.object(calibration, "measure_frontier", return_value=measured):
        calibrate_threshold(*arguments, head, thresholds=[0.5])
    figures = (
        f"{right} of {n} validation prompts rightly, and {cut_off} of its answers were cut off at max_new_tokens = 8"
    )
    assert [figures in record.getMessage() for record in caplog.records] == [True] * warns
