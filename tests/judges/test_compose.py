"""Judges made of judges, against numbers worked out by hand and a plain Python loop over random windows."""

import math
import random
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_autojudge import (
    BlockVerification,
    CascadeRule,
    EnsembleRule,
    ExactMatchRule,
    KLRule,
    LenienceRule,
    RegretBudgetRule,
    ThresholdsRule,
    TopKRule,
    Window,
    after,
    all_of,
    any_of,
    budget,
    inside,
)
from hf_autojudge.judges.base import Judge, Spender, num_budgets
from tests.plain_rules import PlainAfter, PlainGroup, PlainHead, PlainInside, PlainWindow, plain
from tests.utils import DEFAULT, random_head

V = 5
TABLE = (0.0, 0.125, 0.25, 0.5, 0.875)  # importance of each token; their sums are exact


@dataclass(frozen=True)
class TableHead:
    """A head whose importance depends on the candidate alone."""

    threshold: float = 0.6
    reads: ClassVar[frozenset] = frozenset()
    num_assistant_tokens: int | None = None

    def importance(self, window):
        return torch.tensor(TABLE)[window.draft_tokens]

    def accept(self, window, threshold=None):
        return self.importance(window) < (self.threshold if threshold is None else threshold)

    def check_models(self, target_hidden_size, draft_hidden_size, vocab_size):
        if vocab_size != V:
            raise ValueError(f"made for {V} tokens")


def importance(ids, token):
    return TABLE[token]


def window_of(tokens, context=(), num_new=0, spent=None, logits=None):
    """All candidates are mismatches."""
    tokens = torch.tensor([tokens])
    return Window(
        tokens,
        tokens,
        passed=torch.zeros_like(tokens, dtype=torch.bool),
        tokens=torch.tensor([list(context)], dtype=torch.long),
        num_new_tokens=torch.tensor([[num_new]]),
        spent=None if spent is None else torch.tensor([spent]),
        target_logits=logits,
    )


def accepted(judge, *window, **more):
    return [i for i, yes in enumerate(judge.accept(window_of(*window, **more))[0].tolist()) if yes]


def test_any_and_all():
    low, high = TableHead(0.2), TableHead(0.6)
    tokens = [0, 1, 2, 3, 4]
    assert accepted(any_of(low, high), tokens) == [0, 1, 2, 3]
    assert accepted(all_of(low, high), tokens) == [0, 1]
    assert accepted(any_of(ExactMatchRule()), tokens) == []
    assert accepted(all_of(high, ExactMatchRule()), tokens) == []


@pytest.mark.parametrize(
    ("context", "candidates", "expected"),
    [
        ([0, 1, 0], [3, 2, 3], [0, 1]),  # the end mark itself is still inside
        ([0, 0], [1, 3, 2, 3, 1, 3], [1, 2, 5]),  # the start mark itself is not
        ([2, 1], [3, 3], [0, 1]),
        ([1, 2], [3, 3], []),
        ([1, 1, 2], [3], []),  # a second start mark changes nothing
        ([1, 2, 2, 1], [3], [0]),
        ([2, 2], [3], []),
        ([0], [3, 1, 3], [2]),
        ([-1, -1, 1], [3], [0]),  # padding in front
    ],
)
def test_inside_by_hand(context, candidates, expected):
    assert accepted(inside([1], [2], TableHead(1)), candidates, context) == expected


@pytest.mark.parametrize(
    ("context", "candidates", "expected"),
    [
        ([1], [1, 2, 3], [2]),  # 1 1 2 starts
        ([0, 1], [2, 3, 1, 1, 2, 3], [5]),
        ([1, 1], [2, 3, 2, 2, 3], [1, 2, 3]),  # 2 2 ends
        ([1, 1, 2], [2, 3], [0]),  # marks may overlap
        ([1, 1, 2, 0, 2, 2], [3], []),
        ([-1, 1, 2], [3], []),  # padding is no part of a mark
    ],
)
def test_marks_of_several_tokens(context, candidates, expected):
    assert accepted(inside([1, 1, 2], [2, 2], TableHead(1)), candidates, context) == expected


def test_marks_that_end_together():
    """The longer one holds the other: <think> as [1, 2] and an end mark of [2], and the other way round."""
    assert accepted(inside([1, 2], [2], TableHead(1)), [3], [1, 2]) == [0]
    assert accepted(inside([2], [1, 2], TableHead(1)), [3], [2, 0, 1, 2]) == []


def test_after_by_hand():
    assert accepted(after(3, TableHead(1)), [0] * 5) == [3, 4]
    assert accepted(after(3, TableHead(1)), [0] * 5, num_new=2) == [1, 2, 3, 4]
    assert accepted(after(3, TableHead(1)), [0] * 2, num_new=9) == [0, 1]
    assert accepted(after(0, TableHead(1)), [0] * 2) == [0, 1]


def test_budget_by_hand():
    tokens = [3, 1, 2, 4, 1]  # .5, .625, .875, (1.75), 1.875
    assert accepted(budget(TableHead(1), 2), tokens, spent=[0.0]) == [0, 1, 2, 3, 4]
    assert accepted(budget(TableHead(1), 1.75), tokens, spent=[0.0]) == [0, 1, 2, 3]
    assert accepted(budget(TableHead(0.5), 0.875), tokens, spent=[0.0]) == [1, 2]  # the run has ended before
    assert accepted(budget(TableHead(1), 0.875), tokens, spent=[0.25]) == [0, 1]
    assert accepted(budget(TableHead(1), math.inf), tokens, spent=[1e6]) == [0, 1, 2, 3, 4]
    assert accepted(budget(TableHead(1), 0), [0, 0], spent=[0.0]) == []  # though they cost nothing
    window = window_of([3, 1, 2], spent=[0.0])
    matches = Window(window.draft_tokens, window.draft_tokens, passed=~window.passed, spent=window.spent)
    assert budget(TableHead(1), 0.5).accept(matches).all()  # matches are free


@pytest.mark.parametrize(("number", "limit"), [(math.nan, 0.5), (math.nan, math.inf), (math.inf, 0.5)])
def test_an_unknown_importance_is_never_spent(number, limit):
    class Unknown(TableHead):
        def importance(self, window):
            return torch.full(window.draft_tokens.shape, number)

        def accept(self, window, threshold=None):
            return torch.ones_like(window.draft_tokens, dtype=torch.bool)  # as a head at threshold 1

    assert accepted(budget(Unknown(), limit), [0, 1], spent=[0.0]) == []


def test_each_judge_has_its_own_budget():
    a, b = budget(TableHead(1), 0.25), budget(TableHead(1), 1.0)
    both = any_of(a, TopKRule(1), b)
    logits = torch.zeros(1, 4, V)
    logits[0, :, 4] = 1.0
    assert (both.num_budgets, num_budgets(both), num_budgets(TopKRule(1))) == (2, 2, 0)
    assert accepted(both, [2, 2, 4], spent=[0.0, 0.0], logits=logits) == [0, 1, 2]
    assert accepted(all_of(a, b), [2, 2], spent=[0.0, 0.0]) == [0]
    assert accepted(all_of(a, b), [2, 2], spent=[0.0, 0.9]) == []
    window = window_of([2, 3, 4], spent=[0.0, 0.0], logits=logits)
    assert both.costs(window)[0].tolist() == [[0.25, 0.25], [0.5, 0.5], [0.875, 0.875]]
    nested = inside([1], [2], after(1, both))
    assert (
        nested.num_budgets == 2
        and isinstance(nested, Spender)
        and torch.equal(nested.costs(window), both.costs(window))
    )
    assert any_of(RegretBudgetRule(), a).costs(window)[0].tolist() == [[1, 0.25], [1, 0.5], [0, 0.875]]


LEAVES = st.one_of(
    st.integers(1, V).map(lambda k: (TopKRule(k), lambda: plain(TopKRule(k)))),
    st.sampled_from(TABLE).map(lambda t: (TableHead(t), lambda: PlainHead(importance, t))),
    st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0]), st.sampled_from([0.3, 1.0])).map(
        lambda x: (budget(TableHead(x[1]), x[0]), lambda: PlainHead(importance, x[1], x[0]))
    ),
)
MARKS = st.lists(st.integers(0, 2), min_size=1, max_size=3).map(tuple)


def wrapped(children):
    several = st.lists(children, min_size=1, max_size=3)
    return st.one_of(
        several.map(lambda c: (any_of(*(j for j, _ in c)), lambda: PlainGroup(any, *(p() for _, p in c)))),
        several.map(lambda c: (all_of(*(j for j, _ in c)), lambda: PlainGroup(all, *(p() for _, p in c)))),
        st.tuples(st.integers(0, 6), children).map(
            lambda x: (after(x[0], x[1][0]), lambda: PlainAfter(x[0], x[1][1]()))
        ),
        st.tuples(MARKS, MARKS, children)
        .filter(lambda x: x[0] != x[1])
        .map(lambda x: (inside(x[0], x[1], x[2][0]), lambda: PlainInside(x[0], x[1], x[2][1]()))),
    )


@settings(max_examples=600, deadline=None, derandomize=True)
@given(pair=st.recursive(LEAVES, wrapped, max_leaves=5), seed=st.integers(0, 2**32))
def test_equals_a_plain_loop(pair, seed):
    """Any composite, nested ones too, on batches of sequences of different lengths."""
    judge, make_plain = pair
    rng = random.Random(seed)
    b, k = rng.randint(1, 3), rng.randint(1, 7)
    contexts = [[rng.randrange(3) for _ in range(rng.randint(1, 9))] for _ in range(b)]
    longest = max(map(len, contexts))
    tokens = [[rng.randrange(V) for _ in range(k)] for _ in range(b)]
    passed = [[rng.random() < 0.4 for _ in range(k)] for _ in range(b)]
    target = torch.tensor([[[rng.gauss(0, 1) for _ in range(V)] for _ in range(k + 1)] for _ in range(b)])
    counts = [rng.randint(1, k) for _ in range(b)]
    new = [rng.randint(0, len(context)) for context in contexts]
    window = Window(
        torch.tensor(tokens),
        torch.tensor(tokens),
        target_logits=target,
        passed=torch.tensor(passed),
        num_candidates=torch.tensor(counts)[:, None],
        tokens=torch.tensor([[-1] * (longest - len(c)) + c for c in contexts]),
        num_new_tokens=torch.tensor(new)[:, None],
        spent=torch.zeros(b, num_budgets(judge)),
    )
    found = judge.accept(window)
    assert found.dtype == torch.bool and found.shape == (b, k)
    for i, row in enumerate(found.tolist()):
        n, reference = counts[i], make_plain()
        w = PlainWindow(tokens[i][:n], passed[i][:n], target[i, :n].tolist(), [], contexts[i], new[i])
        for place in range(n):
            if w.passed[place]:
                continue
            expected = reference.accepts(w, place)
            assert row[place] == expected
            if not expected:
                break
            reference.emitted(w, place)


def test_what_they_tell_of_their_judges():
    head = random_head(DEFAULT, seed=0)[1]
    judge = inside([1], [2], after(3, any_of(TopKRule(2), budget(head, 1.0), KLRule(1.0))))
    assert isinstance(judge, Judge) and isinstance(judge, Spender)
    assert judge.reads == {*head.reads, "target_logits", "draft_logits", "tokens", "num_new_tokens", "spent"}
    assert judge.threshold == head.threshold and judge.num_assistant_tokens == head.num_assistant_tokens
    assert any_of(TableHead(0.25, 7), TableHead(0.5, 9)).num_assistant_tokens == 7
    assert all_of(TopKRule(2), KLRule(1.0)).threshold is None
    assert all_of(TopKRule(2), TopKRule(3)) == all_of(TopKRule(2), TopKRule(3)) != any_of(TopKRule(2), TopKRule(3))
    assert repr(after(3, TopKRule(2))) == "After(judges=(TopKRule(k=2),), n=3)"
    with pytest.raises(ValueError, match="made for 5 tokens"):
        inside([1], [2], any_of(TopKRule(2), TableHead())).check_models(32, 32, 48)


def test_a_threshold_reaches_every_head_and_no_rule():
    class Strict(TopKRule):
        def accept(self, window, threshold=None):
            assert threshold is None
            return super().accept(window)

    judge = any_of(all_of(budget(TableHead(0.1), 9.0), TableHead(0.2)), Strict(1))
    window = window_of([0, 1, 2, 3, 4], spent=[0.0], logits=torch.zeros(1, 6, V) + torch.arange(V))
    assert judge.threshold == 0.1
    assert judge.accept(window).tolist() == [[True, False, False, False, True]]
    assert judge.accept(window, 0.3).tolist() == [[True, True, True, False, True]]


@pytest.mark.parametrize(
    "rule", [LenienceRule(0.5), ThresholdsRule(0.5), EnsembleRule(0.5), CascadeRule(), BlockVerification()], ids=str
)
def test_a_rule_that_changes_the_standard_test_is_refused(rule):
    for make in (
        lambda: any_of(TopKRule(2), rule),
        lambda: all_of(rule),
        lambda: inside([1], [2], rule),
        lambda: after(3, rule),
    ):
        with pytest.raises(ValueError, match=r"changes the standard test, so it cannot be combined .*\.$"):
            make()


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: any_of(), ValueError, "AnyOf needs at least one judge"),
        (lambda: all_of(), ValueError, "AllOf needs at least one judge"),
        (lambda: any_of([TopKRule(2)]), TypeError, "AnyOf takes judges; got "),
        (lambda: all_of(TopKRule), TypeError, "AllOf takes judges; got "),
        (lambda: after(1, "topk:2"), TypeError, "After takes judges; got 'topk:2'"),
        (lambda: inside([], [2], TopKRule(2)), ValueError, r"two different marks .* start_ids=\[\] and end_ids=\[2\]"),
        (lambda: inside([1], [], TopKRule(2)), ValueError, "two different marks"),
        (lambda: inside([1, 2], (1, 2), TopKRule(2)), ValueError, "two different marks"),
        (lambda: inside("<think>", "</think>", TopKRule(2)), ValueError, "at least one token id each"),
        (lambda: inside([-1], [3], TopKRule(2)), ValueError, "at least one token id each"),
        (lambda: after(-1, TopKRule(2)), ValueError, "After needs a whole number n of at least 0; got -1"),
        (lambda: after(math.nan, TopKRule(2)), ValueError, "whole number n"),
        (lambda: after(1.5, TopKRule(2)), ValueError, "whole number n"),
        (lambda: budget(TableHead(), -0.5), ValueError, "budget needs a limit of at least 0; got -0.5"),
        (lambda: budget(TableHead(), math.nan), ValueError, "limit of at least 0; got nan"),
        (lambda: budget(TableHead(), "2"), ValueError, "limit of at least 0; got '2'"),
        (lambda: budget(TopKRule(2), 1.0), TypeError, "budget needs a judge with importances"),
        (lambda: budget(after(2, TableHead()), 1.0), TypeError, "budget needs a judge with importances"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(make, error, sentence):
    with pytest.raises(error, match=sentence) as caught:
        make()
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
