"""Each rule against numbers worked out by hand, and against a plain Python loop over random windows."""

import math
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_autojudge import (
    BlockVerification,
    CascadeRule,
    CleanRunRule,
    DivergenceRule,
    EnsembleRule,
    ExactMatchRule,
    KLRule,
    LenienceRule,
    MarginRule,
    RatioRule,
    RegretBudgetRule,
    RelaxedTopNRule,
    RollbackRule,
    ThresholdsRule,
    TopKRule,
    TypicalRule,
    Window,
)
from hf_autojudge.judges.base import Judge, Mixture, SamplingTest, Spender
from tests.plain_rules import PlainWindow, TooClose, plain, softmax, target_weight

INF, NAN = math.inf, math.nan


def one(token, target, draft=None):
    """A window of one sequence and one candidate, a mismatch, from two lists of logits."""
    target_logits = torch.tensor([[target, target]], dtype=torch.float32)
    draft_logits = None if draft is None else torch.tensor([[draft]], dtype=torch.float32)
    passed, spent = torch.zeros(1, 1, dtype=torch.bool), torch.zeros(1, 1)
    tokens = torch.tensor([[token]])
    return Window(tokens, tokens, None, None, target_logits, draft_logits, passed=passed, spent=spent)


def logs(*numbers):
    """Logits whose softmax these are."""
    return [math.log(x) if x else -INF for x in numbers]


P = logs(0.5, 0.3, 0.2)  # max p = .5, H = -(.5 ln .5 + .3 ln .3 + .2 ln .2) = .3466 + .3612 + .3219 = 1.0297
Q = logs(0.2, 0.6, 0.2)
# KL(p || q) = .5 ln 2.5 + .3 ln .5 + 0 = .4581 - .2079 = .2502
# KL(q || p) = .2 ln .4 + .6 ln 2 = -.1833 + .4159 = .2326
# TV = (.3 + .3) / 2 = .3; m = (.35, .45, .2)
# KL(p || m) = .5 ln(.5 / .35) + .3 ln(.3 / .45) = .1783 - .1216 = .0567
# KL(q || m) = .2 ln(.2 / .35) + .6 ln(.6 / .45) = -.1119 + .1726 = .0607; JS = .0587
# KL(m || p) = .35 ln .7 + .45 ln 1.5 = -.1248 + .1825 = .0576
# KL(m || q) = .35 ln 1.75 + .45 ln .75 = .1959 - .1295 = .0664; the reversed JS = .0620


@pytest.mark.parametrize(
    ("rule", "token", "accepted"),
    [
        (ExactMatchRule(), 0, False),
        (TopKRule(2), 1, True),
        (TopKRule(2), 2, False),
        (RatioRule(0.59), 1, True),  # .3 / .5 = .6
        (RatioRule(0.61), 1, False),
        (RatioRule(0.41), 2, False),  # .2 / .5 = .4
        (RatioRule(1.0), 0, True),  # a tie
        (TypicalRule(0.19, 1), 2, True),  # the bar is min(.19, exp(-1.0297) = .3571)
        (TypicalRule(0.21, 1), 2, False),
        (TypicalRule(1, 0.83), 1, True),  # .83 * .3571 = .2964
        (TypicalRule(1, 0.85), 1, False),  # .85 * .3571 = .3035
        (RelaxedTopNRule(2, 0.21), 1, True),  # .5 - .3 = .2
        (RelaxedTopNRule(2, 0.19), 1, False),
        (RelaxedTopNRule(2, 1), 2, False),  # the third
        (ThresholdsRule(0.29), 1, True),
        (ThresholdsRule(0.31), 1, False),
        (LenienceRule(0.59), 1, True),
        (LenienceRule(0.61), 1, False),
        (LenienceRule(1), 1, False),
        (KLRule(0.251, 0.51), 1, True),
        (KLRule(0.249, 0.51), 1, False),
        (KLRule(0.251, 0.49), 1, False),
        (DivergenceRule(0.0589, "js"), 1, True),
        (DivergenceRule(0.0585, "js"), 1, False),
        (DivergenceRule(0.0622, "js_reversed"), 1, True),
        (DivergenceRule(0.0618, "js_reversed"), 1, False),
        (DivergenceRule(0.251, "kl"), 1, True),
        (DivergenceRule(0.249, "kl"), 1, False),
        (DivergenceRule(0.234, "kl_reversed"), 1, True),
        (DivergenceRule(0.231, "kl_reversed"), 1, False),
        (DivergenceRule(0.301, "tv"), 1, True),
        (DivergenceRule(0.299, "tv"), 1, False),
        (RollbackRule(1.21, 0.59), 1, True),  # -ln .3 = 1.2040, max q = .6
        (RollbackRule(1.20, 0.59), 1, False),
        (RollbackRule(1.21, 0.61), 1, False),
        (RegretBudgetRule(0.52, 0.52, 1), 1, True),  # ln(.5 / .3) = .5108, one candidate left
        (RegretBudgetRule(0.50, 0.52, 1), 1, False),
        (RegretBudgetRule(0.52, 0.50, 1), 1, False),
        (RegretBudgetRule(0.52, 0.52, 0), 1, False),
        (EnsembleRule(0.5), 1, False),  # these change the standard test and accept nothing after it
        (CascadeRule(1.0), 1, False),
        (BlockVerification(), 1, False),
    ],
    ids=str,
)
def test_by_hand(rule, token, accepted):
    assert rule.accept(one(token, P, Q)).tolist() == [[accepted]]


@pytest.mark.parametrize(
    ("logits", "token", "accepted"),
    [
        ([2.0, 1.9, 0.0], 1, True),  # 1.9 / 2 = .95
        ([2.0, 1.8, 0.0], 1, False),  # .9, not more than .9
        ([2.0, 1.95, 1.9], 2, False),  # the third
        ([2.0, 2.0, 1.9], 1, True),  # a tie
        ([0.0, -0.1, -5.0], 1, False),  # z1 = 0
        ([-1.0, -2.0, -3.0], 1, False),  # z2 / z1 = 2 says nothing
        ([1e-3, -1e-4, -1.0], 1, False),
    ],
)
def test_margin_by_hand(logits, token, accepted):
    assert MarginRule(0.9).accept(one(token, logits)).tolist() == [[accepted]]


def test_clean_run_by_hand():
    """Eight candidates, w = 3: a mismatch stays if the next two match and it is not among the last three."""
    unsure, sure = logs(0.4, 0.4, 0.1, 0.1), logs(0.97, 0.01, 0.01, 0.01)
    # The three largest of `unsure`: -2 * .4 ln .4 - .1 ln .1 = .7330 + .2303 = .9633
    passed = torch.tensor([[False, True, True, False, False, True, True, True], [True] * 4 + [False] + [True] * 3])
    target = torch.tensor([[unsure] * 9, [unsure] * 9])
    target[0, 0] = torch.tensor(sure)
    tokens = torch.zeros(2, 8, dtype=torch.long)
    window = Window(tokens, tokens, target_logits=target, passed=passed)
    for bar, expected in ((0.962, [4]), (0.965, [])):
        accepted = CleanRunRule(bar, 3).accept(window) & ~passed
        # Sequence 0: place 0 is sure, place 3 is followed by a mismatch
        assert [row.nonzero()[:, 0].tolist() for row in accepted] == [expected, expected]
    assert CleanRunRule(1.19, 3, None).accept(window)[1, 4]  # all four: .9633 + .2303 = 1.1936
    assert not CleanRunRule(1.20, 3, None).accept(window)[1, 4]
    shorter = Window(tokens, tokens, target_logits=target, passed=passed, num_candidates=torch.tensor([[8], [7]]))
    assert CleanRunRule(0.3, 3).accept(shorter)[:, 4].tolist() == [True, False]  # one of the last three of seven


def test_rollback_looks_at_all_candidates_so_far():
    draft = torch.tensor([[logs(0.9, 0.1), logs(0.5, 0.5), logs(0.9, 0.1)]])
    tokens = torch.zeros(1, 3, dtype=torch.long)
    window = Window(tokens, tokens, target_logits=torch.zeros(1, 4, 2), draft_logits=draft)
    assert RollbackRule(1, 0.6).accept(window).tolist() == [[True, False, False]]


def test_regret_by_hand():
    """Regrets 1, 0 (a match), .5, .25 of four candidates, .25 spent before."""
    target = torch.tensor([[[1.0, 0.0], [3.0, 0.0], [2.0, 1.5], [0.25, 0.0], [0.0, 0.0]]])
    passed = torch.tensor([[False, True, False, False]])
    tokens = torch.tensor([[1, 1, 1, 1]])

    def accepted(rule, spent=0.25, candidates=4):
        counts = torch.tensor([[candidates]])
        window = Window(
            tokens, tokens, target_logits=target, passed=passed, num_candidates=counts, spent=torch.tensor([[spent]])
        )
        return [i for i in (0, 2, 3) if rule.accept(window)[0, i]]

    # Spent with each mismatch: 1.25, 1.75, 2; a token still to come each: 1 / 4, .5 / 2, .25 / 1
    assert accepted(RegretBudgetRule(2, 0.25, 3)) == [0, 2, 3]
    assert accepted(RegretBudgetRule(1.99, 0.25, 3)) == [0, 2]
    assert accepted(RegretBudgetRule(1.74, 0.25, 3)) == [0]
    assert accepted(RegretBudgetRule(1.24, 0.25, 3)) == []
    assert accepted(RegretBudgetRule(2, 0.25, 2)) == [0, 2]
    assert accepted(RegretBudgetRule(2, 0.25, 1)) == [0]
    assert accepted(RegretBudgetRule(2, 0.24, 3)) == []
    assert accepted(RegretBudgetRule(2, 0.25, 3), candidates=3) == []  # 1 / 3, .5 / 1
    assert accepted(RegretBudgetRule(INF, INF, 9), spent=1e9) == [0, 2, 3]
    assert RegretBudgetRule().costs(Window(tokens, tokens, target_logits=target))[0, :, 0].tolist() == [
        1,
        3,
        0.5,
        0.25,
    ]


@pytest.mark.parametrize("rule", [RegretBudgetRule(0), RegretBudgetRule(1, 0), RegretBudgetRule(1, 1, 0)], ids=str)
def test_a_budget_of_nothing_accepts_no_tie(rule):
    assert not rule.accept(one(1, [2.0, 2.0])).any()


def test_coins_by_hand():
    p, q = torch.tensor([[0.2, 0.2, 0.2, 0.0]]), torch.tensor([[0.5, 0.5, 0.1, 0.5]])
    # p / (.5 q) = .8, .8, 4, 0
    u = torch.tensor([[0.79, 0.81, 0.999, 0.0]])
    assert LenienceRule(0.5).passes(p, q, u).tolist() == [[True, False, True, False]]
    # p / q = .4, .4, 2, 0
    u = torch.tensor([[0.39, 0.41, 0.999, 0.0]])
    assert LenienceRule().passes(p, q, u).tolist() == [[True, False, True, False]]
    # u <= p / .4 = .5, or p >= single
    u = torch.tensor([[0.49, 0.51, 0.49, 0.0]])
    assert ThresholdsRule(1, 0.4).passes(p, q, u).tolist() == [[True, False, True, False]]
    assert ThresholdsRule(0.2, 0.4).passes(p, q, u).tolist() == [[True, True, True, False]]
    assert ThresholdsRule(1, 1).passes(p, q, torch.tensor([[0.19, 0.21, 0.19, 0.0]])).tolist() == [
        [True, False, True, False]
    ]


def test_weights_by_hand():
    """Maxima .5 and .6 before the processors; TV = .3."""
    window = one(1, P, Q)
    p, q = torch.tensor([[softmax(P)]]), torch.tensor([[softmax(Q)]])
    for rule, weight in [
        (EnsembleRule(0.3), 0.3),
        (CascadeRule(0.41, "chow"), 0),  # .6 >= 1 - .41
        (CascadeRule(0.39, "chow"), 1),
        (CascadeRule(-0.09, "diff"), 0),  # .6 >= .5 + .09
        (CascadeRule(-0.11, "diff"), 1),
        (CascadeRule(-0.32, "opt"), 0),  # .6 >= .5 + .32 * .3 = .596
        (CascadeRule(-0.34, "opt"), 1),  # .602
    ]:
        assert rule.target_weight(window, p, q).tolist() == [[pytest.approx(weight)]], rule


def rows(rng, n, v, special):
    """n rows of v logits: of one scale, with ties, masked tokens and now and then a number that is none."""
    scale = rng.choice([1e-3, 1.0, 3.0, 30.0, 1e4])
    found = []
    for _ in range(n):
        kind = rng.choice(["plain", "plain", "ties", "masked", "equal"])
        row = [rng.gauss(0, scale) for _ in range(v)]
        if kind == "ties":
            row = [scale * rng.randint(-1, 1) for _ in row]
        elif kind == "equal":
            row = [scale] * v
        elif kind == "masked":
            row = [z if rng.random() < 0.6 else -INF for z in row]
        if special and rng.random() < 0.3:
            row[rng.randrange(v)] = rng.choice([NAN, INF])
        found.append(torch.tensor(row, dtype=torch.float32).tolist())
    return found


def random_windows(rng, special, same_size):
    """A window of up to three sequences and each of its sequences in lists."""
    b, k, v = rng.randint(1, 3), rng.randint(1, 8), rng.randint(2, 6)
    size = v if same_size else rng.randint(2, 6)
    counts = [rng.randint(1, k) for _ in range(b)]
    target = [rows(rng, k + 1, v, special) for _ in range(b)]
    draft = [rows(rng, k, size, special) for _ in range(b)]
    if rng.random() < 0.2 and size == v:
        draft = [row[:k] for row in target]
    tokens = [[rng.randrange(min(v, size)) for _ in range(k)] for _ in range(b)]
    passed = [[rng.random() < 0.6 for _ in range(k)] for _ in range(b)]
    window = Window(
        torch.tensor(tokens),
        torch.tensor(tokens),
        target_logits=torch.tensor(target),
        draft_logits=torch.tensor(draft),
        passed=torch.tensor(passed),
        num_candidates=torch.tensor(counts)[:, None],
        spent=torch.zeros(b, 1),
    )
    sequences = [PlainWindow(tokens[i][:n], passed[i][:n], target[i][:n], draft[i][:n]) for i, n in enumerate(counts)]
    return window, sequences


level = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1))
amount = st.one_of(st.sampled_from([0.0, 1.0, INF]), st.floats(0, 10))
KINDS = st.sampled_from(["js", "kl", "tv", "js_reversed", "kl_reversed"])
RULES = st.one_of(
    st.just(ExactMatchRule()),
    st.builds(TopKRule, st.integers(1, 5)),
    st.builds(RatioRule, level),
    st.builds(TypicalRule, level, amount),
    st.builds(MarginRule, level),
    st.builds(RelaxedTopNRule, st.integers(1, 5), level),
    st.builds(CleanRunRule, amount, st.integers(1, 5), st.sampled_from([None, 1, 3])),
    st.builds(KLRule, amount, level),
    st.builds(DivergenceRule, amount, KINDS),
    st.builds(RollbackRule, amount, level),
    st.builds(RegretBudgetRule, amount, amount, st.integers(0, 4)),
    st.builds(ThresholdsRule, level, level.filter(bool)),
    st.builds(LenienceRule, level.filter(bool)),
)


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(rule=RULES, seed=st.integers(0, 2**32), special=st.booleans(), same_size=st.booleans())
def test_equals_a_plain_loop(rule, seed, special, same_size):
    window, sequences = random_windows(random.Random(seed), special, same_size)
    found = rule.accept(window)
    assert found.dtype == torch.bool and found.shape == window.draft_tokens.shape
    for row, w in zip(found.tolist(), sequences, strict=True):
        judge = plain(rule)
        for i in range(len(w.tokens)):
            if w.passed[i]:
                continue
            try:
                expected = judge.accepts(w, i)
            except TooClose:
                break
            assert row[i] == expected, (rule, w, i)
            if expected:
                judge.emitted(w, i)
            elif isinstance(rule, RegretBudgetRule):
                break  # nothing after it is emitted


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    rule=st.one_of(
        st.builds(EnsembleRule, level),
        st.builds(CascadeRule, st.floats(-1, 2), st.sampled_from(["chow", "diff", "opt"])),
    ),
    seed=st.integers(0, 2**32),
)
def test_weights_equal_a_plain_loop(rule, seed):
    window, sequences = random_windows(random.Random(seed), False, True)
    p, q = 2 * window.target_logits[:, :-1], 2 * window.draft_logits  # as after a temperature of one half
    found = rule.target_weight(window, p.softmax(-1), q.softmax(-1)).tolist()
    for b, w in enumerate(sequences):
        for i in range(len(w.tokens)):
            raw = w.target[i], w.draft[i]
            try:
                expected = target_weight(rule, *raw, *(softmax([2 * z for z in row]) for row in raw))
            except TooClose:
                continue
            except ValueError:  # a row without a token
                continue
            if all(max(row) > -INF for row in raw):
                assert found[b][i] == pytest.approx(expected)


ALL = [
    ExactMatchRule(),
    TopKRule(9),
    RatioRule(0),
    TypicalRule(0, 0),
    MarginRule(0),
    RelaxedTopNRule(9, 1),
    CleanRunRule(0, 1),
    KLRule(INF, 1),
    *(DivergenceRule(INF, kind) for kind in ("js", "kl", "tv", "js_reversed", "kl_reversed")),
    RollbackRule(INF, 0),
    RegretBudgetRule(INF, INF, 9),
    ThresholdsRule(0),
    LenienceRule(1e-30),
]


@pytest.mark.parametrize(
    ("rule", "where"),
    [(r, where) for r in ALL for where in ("target", "draft") if f"{where}_logits" in r.reads],
    ids=str,
)
@pytest.mark.parametrize("number", [NAN, INF])
@pytest.mark.parametrize("place", range(4))
def test_unknown_is_never_acceptance(rule, where, number, place):
    """Also with the loosest arguments, for a number anywhere in a row, and if only one model has the token."""
    for sizes in ((4, 4), (4, 3), (3, 4)):
        logits = {"target": [3.0, 2.9, 2.8, 2.7][: sizes[0]], "draft": [3.0, 2.9, 2.8, 2.7][: sizes[1]]}
        if place >= len(logits[where]):
            continue
        logits[where][place] = number
        for token in range(3):
            window = one(token, logits["target"], logits["draft"])
            assert not rule.accept(window)[0, 0], (sizes, token)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: TopKRule(x),
        lambda x: RatioRule(x),
        lambda x: TypicalRule(x),
        lambda x: TypicalRule(delta=x),
        lambda x: MarginRule(x),
        lambda x: RelaxedTopNRule(x),
        lambda x: RelaxedTopNRule(delta=x),
        lambda x: CleanRunRule(x),
        lambda x: CleanRunRule(w=x),
        lambda x: CleanRunRule(num_entropy_tokens=x),
        lambda x: KLRule(x),
        lambda x: KLRule(1.0, x),
        lambda x: DivergenceRule(x),
        lambda x: RollbackRule(x),
        lambda x: RollbackRule(min_confidence=x),
        lambda x: RegretBudgetRule(x),
        lambda x: RegretBudgetRule(max_regret_per_token=x),
        lambda x: RegretBudgetRule(max_per_round=x),
        lambda x: ThresholdsRule(x),
        lambda x: ThresholdsRule(accumulated=x),
        lambda x: LenienceRule(x),
        lambda x: EnsembleRule(x),
        lambda x: CascadeRule(x),
    ],
)
@pytest.mark.parametrize("value", [NAN, -2, "a word"])
def test_wrong_arguments_are_refused_in_one_sentence(make, value):
    with pytest.raises(ValueError, match=rf"needs .*; got {value!r}\.$") as caught:
        make(value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: RatioRule(1.5), r"RatioRule needs k in \[0, 1\]; got 1.5."),
        (lambda: LenienceRule(0), r"LenienceRule needs lenience in \(0, 1\]; got 0."),
        (lambda: ThresholdsRule(1, 0), r"ThresholdsRule needs accumulated in \(0, 1\]; got 0."),
        (lambda: RollbackRule(-1), "RollbackRule needs max_loss at least 0; got -1."),
        (lambda: TopKRule(1.5), "TopKRule needs a whole number k of at least 1; got 1.5."),
        (lambda: DivergenceRule(1, "hellinger"), "DivergenceRule needs a kind of js, kl, tv, .*; got 'hellinger'."),
        (lambda: CascadeRule(0, "best"), "CascadeRule needs a deferral of chow, diff, opt; got 'best'."),
    ],
)
def test_sentences(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_what_they_are():
    for rule in [*ALL, EnsembleRule(), CascadeRule(), BlockVerification()]:
        assert isinstance(rule, Judge) and rule.threshold is None and rule.num_assistant_tokens is None
        assert replace(rule) == rule and hash(rule) == hash(replace(rule)) and type(rule).__name__ in repr(rule)
        assert isinstance(rule, Spender) == ("spent" in rule.reads)
        assert isinstance(rule, Mixture) == ("draft_scores" in rule.reads)
        assert isinstance(rule, SamplingTest) == isinstance(rule, LenienceRule | ThresholdsRule)
