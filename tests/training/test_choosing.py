"""The choice keeps its stated rate, takes settings in order, and says what the data cannot support."""

import math

import pytest
import torch
from examples.simulate_calibration import simulate
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multinomial

from hf_autojudge.training import choose_setting, choose_threshold
from hf_autojudge.training.choosing import cannot_pass, paired_drop_bound, prompts_needed


def test_only_threshold_zero():
    choice = choose_threshold({0.0: [True] * 500}, [True] * 500)
    assert not choice.supported and "No threshold above 0" in choice.reason
    with pytest.raises(ValueError, match="1.5"):
        choose_threshold({1.5: [True]}, [True])


@pytest.mark.parametrize("n", [10, 100, 1000])
def test_paired_bound_against_known_values(n):
    """Without a loss the statistic is (n delta - 0.5) / sqrt(n delta (1 - delta)), and the exact bound is known."""
    for confidence, z in ((0.9, 1.2815516), (0.95, 1.6448536)):
        delta = paired_drop_bound(0, 0, n, confidence)
        assert (n * delta - 0.5) / math.sqrt(n * delta * (1 - delta)) == pytest.approx(z, abs=1e-6)
        assert delta > 1 - (1 - confidence) ** (1 / n)
    assert paired_drop_bound(0, 0, n, 0.9) < paired_drop_bound(1, 0, n, 0.9) < paired_drop_bound(1, 0, n // 2, 0.9)


@pytest.mark.parametrize(("losses", "gains", "n"), [(12, 2, 54), (3, 0, 80), (5, 9, 200)])
def test_paired_bound_inverts_the_score_test(losses, gains, n):
    """At the bound, the statistic equals -z; its constrained likelihood is maximized by brute force."""
    delta = paired_drop_bound(losses, gains, n, 0.9)
    q = torch.linspace(1e-9, (1 - delta) / 2, 400_001, dtype=torch.float64)  # P(gain); P(loss) is q + delta
    likelihood = losses * (q + delta).log() + gains * q.log() + (n - losses - gains) * (1 - 2 * q - delta).log()
    q = float(q[likelihood.nan_to_num(-torch.inf).argmax()])
    statistic = (losses + 0.5 - gains - n * delta) / (n * (2 * q + delta * (1 - delta))) ** 0.5
    assert statistic == pytest.approx(-1.2815516, abs=1e-3)


@pytest.mark.parametrize("n", [60, 163, 300])
@pytest.mark.parametrize("drop", [0.01, 0.03])
@pytest.mark.parametrize("gain", [0.0, 0.01])
def test_the_bound_covers(n, drop, gain):
    """The probability that the bound is at most the true drop, summed over all outcomes. It is highest with the
    smallest bounds, so outcomes far above the limit need no look."""
    counts = [(losses, gains) for gains in range(25) for losses in range(40)]
    probability = multinomial.pmf([(x, y, n - x - y) for x, y in counts], n, [drop + gain, gain, 1 - drop - 2 * gain])
    assert probability.sum() > 0.999
    for confidence, tolerance in ((0.8, 0.003), (0.9, 0.0), (0.95, 0.0)):
        wrong = [paired_drop_bound(x, y, n, confidence) <= drop for x, y in counts]
        assert probability[wrong].sum() <= 1 - confidence + tolerance


@pytest.mark.slow
@pytest.mark.parametrize("step", [True, False])
@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95])
@pytest.mark.parametrize(
    ("n", "limit", "settings"), [(100, 0.05, 5), (200, 0.03, 8), (300, 0.03, 16), (500, 0.01, 12)]
)
def test_500_calibrations_keep_the_stated_rate(n, limit, settings, confidence, step):
    """The true drop of the chosen setting is above the limit in at most 1 - confidence of 500 calibrations, plus two
    standard errors of that share."""
    wrong, supported = simulate(n, confidence, limit, settings, step)
    assert wrong <= 1 - confidence + 2 * math.sqrt(confidence * (1 - confidence) / 500)
    assert supported > 0.5


def test_chooses_the_largest_supported_threshold():
    n = 1000
    baseline = [True] * 900 + [False] * 100
    correct = {0.1: baseline, 0.2: [False] * 3 + baseline[3:], 0.5: [False] * 90 + baseline[90:]}
    choice = choose_threshold(correct, baseline, max_accuracy_drop=0.02, confidence=0.9)
    assert choice.supported and choice.threshold == 0.2
    assert [r["accuracy_drop"] for r in choice.rows] == [0.0, 0.003, 0.09]
    assert f"threshold 0.2, with a measured drop of 0.30 points on {n} prompts" in choice.reason
    # after a failure, a larger threshold that happens to pass does not count
    correct[0.9] = baseline
    assert choose_threshold(correct, baseline, max_accuracy_drop=0.02).threshold == 0.2


def test_settings_are_tested_in_the_given_order():
    baseline = [True] * 1000
    bad = [False] * 90 + baseline[90:]
    correct = {"b": baseline, "a": [False] * 3 + baseline[3:], "d": bad, "c": baseline}
    setting, reason, rows = choose_setting(correct, baseline, 0.02)
    assert setting == "a" and reason.startswith("Chosen: a, with") and len(rows) == 4
    assert choose_setting({"d": bad, "b": baseline}, baseline, 0.02)[0] is None


def test_thresholds_that_look_alike():
    """The reason tells them apart."""
    baseline = [True] * 1000
    correct = {0.76511: baseline, 0.76512: [False] * 90 + baseline[90:]}
    choice = choose_threshold(correct, baseline, 0.02)
    assert choice.threshold == 0.76511 and "threshold 0.76511, with" in choice.reason


def test_says_when_the_data_cannot_support_it():
    baseline = [True] * 30
    choice = choose_threshold({0.3: baseline}, baseline, max_accuracy_drop=0.01, confidence=0.9)
    assert not choice.supported and choice.threshold == 0.0
    assert "do not support" in choice.reason and "253 prompts" in choice.reason


@pytest.mark.parametrize(("limit", "confidence"), [(0.01, 0.9), (0.05, 0.8), (0.3, 0.99)])
def test_prompts_needed(limit, confidence):
    n = next(n for n in range(1, 1000) if paired_drop_bound(0, 0, n, confidence) <= limit)
    assert prompts_needed(limit, confidence) == n


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60), st.integers(0, 60), st.data())
def test_what_cannot_pass_does_not(pairs, seen, data):
    limit, confidence = data.draw(st.floats(0.05, 0.5)), data.draw(st.floats(0.55, 0.95))
    answers, baseline = zip(*pairs, strict=True)
    setting, _, _ = choose_setting({"a": answers}, baseline, limit, confidence)
    stopped = answers[:seen]
    if cannot_pass(stopped, baseline, limit, confidence):
        assert setting is None
        assert choose_setting({"a": stopped}, baseline, limit, confidence)[0] is None
    assert cannot_pass(answers, baseline, limit, confidence) == (setting is None)


@pytest.mark.parametrize(
    ("correct", "baseline", "settings", "message"),
    [
        ({}, [True], {}, "got 0"),
        ({0.1: [True] * 299}, [True] * 300, {}, "'threshold 0.1' has 299 answers"),
        ({0.1: [False, True]}, [True], {}, "'threshold 0.1' has 2 answers"),
        ({0.1: [True]}, [True], {"max_accuracy_drop": 0.0}, "max_accuracy_drop"),
        ({0.0: [True]}, [True], {"max_accuracy_drop": 0.0}, "max_accuracy_drop"),
        ({0.1: [True]}, [True], {"confidence": 1.0}, "confidence"),
    ],
)
def test_bad_input(correct, baseline, settings, message):
    with pytest.raises(ValueError, match=message):
        choose_threshold(correct, baseline, **settings)
