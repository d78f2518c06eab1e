"""Thresholds: the table's counts are right, and the choice says what the data cannot support."""

import pytest
import torch

from hf_autojudge.training import calibration_table, choose_threshold
from hf_autojudge.training.calibration import paired_drop_bound


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


def test_only_threshold_zero():
    choice = choose_threshold({0.0: [True] * 500}, [True] * 500)
    assert not choice.supported and "No threshold above 0" in choice.reason
    with pytest.raises(ValueError, match="1.5"):
        choose_threshold({1.5: [True]}, [True])


def test_the_table_needs_both_classes():
    with pytest.raises(ValueError, match="0 important of 5"):
        calibration_table(torch.rand(5), torch.zeros(5, dtype=torch.bool))


def test_paired_bound_against_known_values():
    # without discordant pairs: z^2 / (n + z^2)
    z2 = 1.6448536**2
    assert paired_drop_bound(0, 0, 100, 0.95) == pytest.approx(z2 / (100 + z2), abs=1e-6)
    assert paired_drop_bound(0, 0, 100, 0.9) < paired_drop_bound(1, 0, 100, 0.9) < paired_drop_bound(1, 0, 50, 0.9)


@pytest.mark.parametrize(("losses", "gains", "n"), [(12, 2, 54), (3, 0, 80), (5, 9, 200)])
def test_paired_bound_inverts_the_score_test(losses, gains, n):
    """At the bound, the statistic equals -z; its constrained likelihood is maximized by brute force."""
    delta = paired_drop_bound(losses, gains, n, 0.9)
    q = torch.linspace(1e-9, (1 - delta) / 2, 400_001, dtype=torch.float64)  # P(gain); P(loss) is q + delta
    likelihood = losses * (q + delta).log() + gains * q.log() + (n - losses - gains) * (1 - 2 * q - delta).log()
    q = float(q[likelihood.nan_to_num(-torch.inf).argmax()])
    statistic = (losses - gains - n * delta) / (n * (2 * q + delta * (1 - delta))) ** 0.5
    assert statistic == pytest.approx(-1.2815516, abs=1e-3)


def test_the_bound_covers():
    """In a simulation, the bound is below the true drop at most about as often as its confidence allows."""
    generator = torch.Generator().manual_seed(0)
    misses, trials = 0, 600
    for _ in range(trials):
        u = torch.rand(150, generator=generator)
        losses, gains = int((u < 0.06).sum()), int((u > 0.97).sum())
        misses += paired_drop_bound(losses, gains, 150, 0.9) < 0.03
    assert misses / trials < 0.13


def test_chooses_the_largest_supported_threshold():
    n = 1000
    baseline = [True] * 900 + [False] * 100
    correct = {0.1: baseline, 0.2: [False] * 3 + baseline[3:], 0.5: [False] * 90 + baseline[90:]}
    choice = choose_threshold(correct, baseline, max_accuracy_drop=0.02, confidence=0.9)
    assert choice.supported and choice.threshold == 0.2
    assert [r["accuracy_drop"] for r in choice.rows] == [0.0, 0.003, 0.09]
    assert f"{n} prompts" in choice.reason
    # after a failure, a larger threshold that happens to pass does not count
    correct[0.9] = baseline
    assert choose_threshold(correct, baseline, max_accuracy_drop=0.02).threshold == 0.2


def test_says_when_the_data_cannot_support_it():
    baseline = [True] * 30
    choice = choose_threshold({0.3: baseline}, baseline, max_accuracy_drop=0.01, confidence=0.9)
    assert not choice.supported and choice.threshold == 0.0
    assert "do not support" in choice.reason and "163 prompts" in choice.reason


@pytest.mark.parametrize(
    ("correct", "baseline", "settings", "message"),
    [
        ({}, [True], {}, "got 0"),
        ({0.1: [True]}, [True, False], {}, "1 answers"),
        ({0.1: [True]}, [True], {"max_accuracy_drop": 0.0}, "max_accuracy_drop"),
        ({0.1: [True]}, [True], {"confidence": 1.0}, "confidence"),
    ],
)
def test_bad_input(correct, baseline, settings, message):
    with pytest.raises(ValueError, match=message):
        choose_threshold(correct, baseline, **settings)
