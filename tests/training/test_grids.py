"""Judges are measured as one by one, what cannot change a choice is not measured, and grids must leave a choice."""

import json
from collections import Counter
from dataclasses import dataclass

import pytest
import torch

from hf_autojudge import ExactMatchRule, TopKRule
from hf_autojudge.training import calibrate_judges, calibrate_threshold, choose_setting


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
def right_samples(llama_pair, task, tokenizer):
    """The greedy answer's outcome is the right one."""
    made = []
    for sample in task.load("validation", None):
        new = llama_pair[0].generate(torch.tensor([sample["ids"]]), max_new_tokens=8, do_sample=False)[0, 4:]
        made.append(sample | {"answer": tokenizer.decode(new, skip_special_tokens=True)})
    return made


@pytest.fixture(scope="module")
def samples(right_samples):
    """For half of them the greedy answer's outcome is the right one, so that judges lose answers and gain some."""
    return [s if i % 2 == 0 and s["answer"] else s | {"answer": "a b c none"} for i, s in enumerate(right_samples)]


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


def test_what_cannot_change_a_choice_is_not_measured(llama_pair, task, tokenizer, right_samples, tmp_path, caplog):
    """The loosest setting answers the first two batches only, and nothing after a failure is measured."""
    grids = {"top-k": [(f"k = {k}", TopKRule(k)) for k in (1, 50, 60)]}
    arguments = (*llama_pair, tokenizer, task, right_samples)
    options = {"num_assistant_tokens": 4, "max_new_tokens": 8, "progress": False, "folder": tmp_path, "batch_size": 2}
    choice = calibrate_judges(*arguments, grids, 0.4, 0.8, **options)["top-k"]
    exact, loose = (
        one_by_one(llama_pair, task, tokenizer, right_samples, j) for j in (ExactMatchRule(), TopKRule(50))
    )
    first = [b - a for a, b in zip(loose[:4], exact[:4], strict=True)]
    assert choice.setting == choose_setting({"k = 1": exact, "k = 50": loose}, exact, 0.4, 0.8)[0] == "k = 1"
    assert [(row["setting"], row["prompts"]) for row in choice.rows] == [("k = 1", len(right_samples)), ("k = 50", 4)]
    assert choice.rows[1]["accuracy_drop"] == sum(first) / 4
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    asked = Counter(line["judge"] for line in lines)
    assert "5 of 6 validation prompts rightly, and 5 of its answers were cut off at max_new_tokens = 8" in caplog.text
    assert asked == {"threshold 0": len(right_samples), "top-k, k = 1": len(right_samples), "top-k, k = 50": 4}


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
