"""The table's counts are right; judges are measured as one by one, and a grid must have something to choose from."""

from dataclasses import dataclass
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch

from hf_autojudge import ExactMatchRule, TopKRule
from hf_autojudge.evaluation import Frontier, Questions
from hf_autojudge.evaluation.strategies import EXACT
from hf_autojudge.training import (
    calibrate_judges,
    calibrate_threshold,
    calibration,
    calibration_table,
    choose_setting,
)


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


@dataclass(frozen=True)
class RoundBudget:
    """A stand-in for a budget: accepts mismatches while the sum of their importances in a round is within a limit."""

    head: object
    limit: float
    threshold = None
    num_assistant_tokens = 4

    @property
    def reads(self):
        return self.head.reads

    def accept(self, window, threshold=None):
        mismatch = window.draft_tokens != window.target_tokens
        return self.head.importance(window).where(mismatch, 0.0).cumsum(-1) <= self.limit

    def check_models(self, *sizes):
        self.head.check_models(*sizes)


@pytest.fixture(scope="module")
def samples(llama_pair, task, tokenizer):
    """Half of them get the greedy answer's outcome as the right one, so that judges lose answers and gain some."""
    made = []
    for i, sample in enumerate(task.load("validation", None)):
        new = llama_pair[0].generate(torch.tensor([sample["ids"]]), max_new_tokens=8, do_sample=False)[0, 4:]
        answer = tokenizer.decode(new, skip_special_tokens=True)
        made.append(sample | {"answer": answer if i % 2 == 0 and answer else "a b c none"})
    return made


def one_by_one(pair, task, tokenizer, samples, judge, threshold=None):
    """Which answers are right."""
    call = {"assistant_model": pair[1], "judge": judge, "judge_threshold": threshold, "do_sample": False}
    right = []
    for sample in samples:
        ids = torch.tensor([sample["ids"]])
        new = pair[0].generate(ids, **call, max_new_tokens=8, num_assistant_tokens=4)[0, 4:]
        right.append(task.is_correct(tokenizer.decode(new, skip_special_tokens=True), sample))
    return right


def test_judges_equal_measuring_them_one_by_one(llama_pair, task, tokenizer, head, samples):
    grids = {
        "top-k": [(f"k = {k}", TopKRule(k)) for k in (1, 2, 50)],
        "budget": [(f"limit {limit}", RoundBudget(head, limit)) for limit in (0.0, 0.4, 9.0)],
    }
    arguments = (*llama_pair, tokenizer, task, samples)
    choices = calibrate_judges(*arguments, grids, 0.6, 0.8, num_assistant_tokens=4, max_new_tokens=8, progress=False)
    exact = one_by_one(llama_pair, task, tokenizer, samples, ExactMatchRule())
    assert 0 < sum(exact) < len(samples)
    for name, grid in grids.items():
        correct = {label: one_by_one(llama_pair, task, tokenizer, samples, judge) for label, judge in grid}
        setting, reason, rows = choose_setting(correct, exact, 0.6, 0.8)
        choice = choices[name]
        assert (choice.setting, choice.supported, choice.reason) == (setting, setting is not None, reason)
        assert choice.rows == [{"setting": label, **row} for (label, _), row in zip(grid, rows, strict=True)]
        assert choice.judge == dict(grid)[setting]
    strict = calibrate_judges(*arguments, grids, 0.01, num_assistant_tokens=4, max_new_tokens=8, progress=False)[
        "top-k"
    ]
    assert (strict.setting, strict.judge, strict.supported) == (None, ExactMatchRule(), False)


def test_a_head_is_measured_at_its_own_threshold(llama_pair, task, tokenizer, head, samples):
    """And one head's thresholds are a special case."""

    def at(threshold):
        own = type(head)(head.config.__class__(**head.config.to_diff_dict() | {"threshold": threshold}))
        own.load_state_dict(head.state_dict())
        return own.eval()

    arguments = (*llama_pair, tokenizer, task, samples)
    options = {"num_assistant_tokens": 4, "max_new_tokens": 8, "progress": False}
    thresholds = [0.2, 0.5, 1.0]
    grid = [(f"threshold {t:.2g}", at(t)) for t in thresholds]
    choice = calibrate_judges(*arguments, {"head": grid}, 0.6, 0.8, **options)["head"]
    special, measured = calibrate_threshold(*arguments, head, 0.6, 0.8, thresholds, **options)
    assert [p.threshold for p in measured.points] == [None, *thresholds]
    drops = [{name: row[name] for name in ("accuracy_drop", "upper_bound")} for row in choice.rows]
    assert drops == [{name: row[name] for name in ("accuracy_drop", "upper_bound")} for row in special.rows]
    assert (choice.setting, choice.reason) == (f"threshold {special.threshold:.2g}", special.reason)
    assert choice.judge.threshold == special.threshold
    for t, row in zip(thresholds, choice.rows, strict=True):
        exact, judged = (one_by_one(llama_pair, task, tokenizer, samples, head, x) for x in (0.0, t))
        assert row["accuracy_drop"] == (sum(exact) - sum(judged)) / len(samples)


@pytest.mark.parametrize(
    ("grids", "settings", "message"),
    [
        ({}, {}, "no judges to calibrate"),
        ({"r": []}, {}, "The grid of 'r' is empty"),
        ({"r": [("k = 2", TopKRule(2))]}, {}, r"has one setting \('k = 2'\), so there is nothing to choose"),
        ({"r": [("a", TopKRule(2)), ("a", TopKRule(3))]}, {}, r"the settings \['a'\] more than once"),
        ({"r": [("a", TopKRule(2)), ("b", TopKRule(3))]}, {"max_accuracy_drop": 1}, "max_accuracy_drop must lie"),
        ({"r": [("a", TopKRule(2)), ("b", TopKRule(3))]}, {"confidence": 0.5}, "confidence in"),
    ],
)
def test_grids_that_are_refused(llama_pair, task, tokenizer, grids, settings, message):
    with pytest.raises(ValueError, match=message):
        calibrate_judges(*llama_pair, tokenizer, task, task.load("validation", 1), grids, **settings)


@pytest.mark.parametrize(
    ("right", "cut_off", "n", "warns"),
    [(1, 5, 10, False), (1, 0, 11, True), (0, 0, 1, True), (9, 5, 9, True), (9, 4, 9, False)],
)
def test_a_target_that_answers_badly_draws_a_warning(llama_pair, task, tokenizer, caplog, right, cut_off, n, warns):
    """In both functions, from the lossless answers."""
    exact = Questions([1] * right + [0] * (n - right), [8] * n, [4] * n, [], [1] * cut_off + [0] * (n - cut_off))
    better = Questions([1] * n, [8] * n, [4] * n, [], [0] * n)
    point = SimpleNamespace(name="judge", threshold=0.5)
    names = {EXACT: exact, "judge": better, "r, a": better, "r, b": better}
    measured = Frontier([point], names, {"max_new_tokens": 8})
    head = SimpleNamespace(config=SimpleNamespace(thresholds=[]))
    arguments = (*llama_pair, tokenizer, task, [])
    with patch.object(calibration, "measure_frontier", return_value=measured):
        calibrate_threshold(*arguments, head, thresholds=[0.5])
        calibrate_judges(*arguments, {"r": [("a", TopKRule(2)), ("b", TopKRule(3))]})
    figures = (
        f"{right} of {n} validation prompts rightly, and {cut_off} of its answers were cut off at max_new_tokens = 8"
    )
    assert [figures in record.getMessage() for record in caplog.records] == [True, True] * warns
