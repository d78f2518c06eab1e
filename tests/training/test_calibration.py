"""The table's counts are right."""

import pytest
import torch

from hf_autojudge.training import calibration_table


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
