"""Figures against sums by hand, intervals against the normal approximation."""

import warnings
from dataclasses import fields, replace

import numpy as np
import pytest

from hf_autojudge.evaluation.answers import Answer
from hf_autojudge.evaluation.figures import make_point
from hf_autojudge.evaluation.report import Questions
from hf_autojudge.evaluation.strategies import EXACT, PLAIN, DecodingStrategy
from hf_autojudge.evaluation.table import figure

OWN = DecodingStrategy("own", "own")


def make_questions(n, seed=0):
    random = np.random.default_rng(seed)
    columns = [random.integers(2, size=n), random.integers(20, 200, size=n), random.integers(5, 20, size=n)]
    return Questions(*(column.tolist() for column in columns), seconds=random.random(n).tolist(), capped=[0] * n)


def figures(own, exact=None, plain=None, seed=0, answers=()):
    """The point of a strategy; exact matching and plain decoding did the same unless given."""
    questions = {"own": own, EXACT: exact or own, PLAIN: plain or own}
    return make_point(OWN, questions, answers, seed)


def intervals(point):
    return {f.name: getattr(point, f.name) for f in fields(point) if f.name.endswith("_interval")}


def test_bootstrap_is_deterministic_and_paired():
    own, other = make_questions(30), replace(make_questions(30), correct=[1, 0] * 15)
    point = figures(own, seed=3)
    assert intervals(figures(own, seed=3)) == intervals(point)
    assert point.accuracy_difference_interval == point.lost_share_interval == (0, 0)
    assert point.accepted_ratio_interval == point.speed_ratio_to_target_interval == (1, 1)
    against_other = figures(own, plain=other, seed=3)
    assert against_other.accuracy_difference_interval != (0, 0)
    assert against_other.accuracy_interval == point.accuracy_interval  # the same resamples
    other_seed = figures(own, seed=4)
    for name in ("accuracy_interval", "accepted_interval", "tokens_per_second_interval"):
        assert getattr(point, name) != getattr(other_seed, name)


def test_intervals_are_as_wide_as_the_normal_approximation():
    n = 2000
    own, plain = make_questions(n), make_questions(n, 1)
    point = figures(own, plain=plain)
    width = 2 * 1.96 * np.sqrt(point.accuracy * (1 - point.accuracy) / n)
    assert np.diff(point.accuracy_interval) == pytest.approx(width, rel=0.1)

    def ratio_width(numerators, denominators, ratio):  # the delta method for a ratio of sums
        numerators, denominators = np.array(numerators), np.array(denominators)
        residuals = (numerators - ratio * denominators) / denominators.mean()
        return 2 * 1.96 * residuals.std() / np.sqrt(n)

    expected = ratio_width(own.new_tokens, own.target_calls, point.accepted)
    assert np.diff(point.accepted_interval) == pytest.approx(expected, rel=0.1)
    lost = [int(p and not o) for p, o in zip(plain.correct, own.correct, strict=True)]
    expected = ratio_width(lost, plain.correct, point.lost_share)
    assert np.diff(point.lost_share_interval) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("n", [1, 2, 30])
def test_degenerate_questions_have_intervals_of_width_0(n):
    own = Questions([1] * n, [40] * n, [16] * n, [0.5] * n, [0] * n)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        point = figures(own)
    assert point.accuracy_interval == (1, 1) and point.accuracy_difference_interval == (0, 0)
    assert point.accepted_interval == (2.5, 2.5) and point.accepted_ratio_interval == (1, 1)
    assert point.tokens_per_second_interval == (80, 80) and point.speed_ratio_to_lossless_interval == (1, 1)


def test_figures_by_hand():
    plain = Questions([1, 1, 1, 0, 1], [10, 20, 30, 40, 50], [10, 20, 30, 40, 50], [1.0, 4.0], [0, 0, 0, 1, 1])
    exact = Questions([1, 1, 1, 0, 1], [10, 20, 30, 40, 50], [5, 5, 5, 5, 10], [0.5, 2.0], [0, 0, 0, 1, 1])
    own = Questions([1, 0, 0, 1, 1], [12, 18, 36, 40, 44], [3, 3, 3, 3, 3], [0.3, 0.9], [0, 0, 0, 1, 0])
    point = figures(own, exact, plain)
    assert point.accuracy == 0.6 and point.accuracy_difference == pytest.approx(-0.2)
    assert point.lost_share == 0.5  # two of the reference's four right answers
    assert point.accepted == 10 and point.accepted_ratio == pytest.approx(10 / 5)
    assert point.tokens_per_second == pytest.approx(30 / 1.2)  # of the two timed questions
    assert point.speed_ratio_to_target == pytest.approx(25 / 6)
    assert point.speed_ratio_to_lossless == pytest.approx(25 / 12)
    assert point.length_inflation == 1 and point.mean_new_tokens == 30 and point.length_cap_hits == 1
    without = make_point(OWN, {"own": own, EXACT: exact})
    assert without.speed_ratio_to_target is None and without.lost_share == 0.5


def test_a_strategy_with_fewer_questions_is_compared_on_these():
    plain = Questions([1, 1, 0, 0], [10, 20, 30, 40], [10, 20, 30, 40], [1.0, 2.0], [0] * 4)
    own = Questions([1, 0], [10, 40], [5, 5], [0.5, 1.0], [0] * 2)
    point = figures(own, plain, plain)
    assert point.n == 2 and point.accuracy == 0.5 and point.accuracy_difference == -0.5 and point.lost_share == 0.5
    assert point.accepted_ratio == 5 and point.length_inflation == pytest.approx(50 / 30)


def test_what_does_not_apply_is_none():
    own = Questions([0, 0], [10, 20], [0, 0], [0.5, 1.0], [0, 0])
    point = figures(own, exact=make_questions(2), plain=replace(make_questions(2), correct=[0, 0]))
    for name in ("accepted", "accepted_ratio", "lost_share"):
        assert getattr(point, name) is None and getattr(point, f"{name}_interval") is None
        assert figure(point, name) == ("-", "")
    assert figure(point, "accuracy") == ("0.0", "0.0..0.0")
    assert point.acceptance_by_position is None


def test_acceptance_by_position_is_a_count_of_rounds():
    random = np.random.default_rng(0)
    rounds = [random.integers(0, 6, size=9).tolist() for _ in range(4)]  # emitted candidates of each answer's rounds
    answers = [Answer("own", None, i, "", 1, 30, 9, 0, np.bincount(r).tolist(), None) for i, r in enumerate(rounds)]
    shares = figures(make_questions(4), answers=answers).acceptance_by_position
    everyone = [emitted for answer in rounds for emitted in answer]
    assert shares == [sum(emitted >= i for emitted in everyone) / len(everyone) for i in range(1, max(everyone) + 1)]
