"""Sampling: what the rules that change the standard test draw, against the exact distributions."""

import pytest
import torch
from transformers import LogitsProcessorList

from hf_autojudge import (
    AutoJudgeHead,
    BlockVerification,
    CascadeRule,
    EnsembleRule,
    ExactMatchRule,
    LenienceRule,
    RegretBudgetRule,
    ThresholdsRule,
    TopKRule,
    after,
    budget,
)
from hf_autojudge.decoding.candidates import Candidates
from hf_autojudge.decoding.sequences import Sequences
from hf_autojudge.decoding.verification import accepted_run, next_token, verify
from tests.decoding.laws import (
    PROCESSORS,
    VOCAB,
    Distributions,
    draw,
    judged_law,
    normalized,
    p_value,
    residual,
    target_law,
    tiny_pair,
)
from tests.plain_rules import target_weight

SLOW = pytest.mark.slow  # other cases of what runs quickly once

K, LENGTH = 2, 3


@pytest.fixture(scope="module")
def pair():
    return tiny_pair()


def lenience(rule):
    def step(raw_p, raw_q, p, q, x):
        return min(1.0, p[x] / (rule.lenience * q[x])), residual(p, q)

    return step


def thresholds(rule):
    def step(raw_p, raw_q, p, q, x):
        accepted = 1.0 if p[x] >= rule.single else min(1.0, p[x] / rule.accumulated)
        return accepted, normalized([0.0 if y == x else mass for y, mass in enumerate(p)])

    return step


def mixture(rule):
    def step(raw_p, raw_q, p, q, x):
        w = target_weight(rule, raw_p, raw_q, p, q)
        v = [w * a + (1 - w) * b for a, b in zip(p, q, strict=True)]
        return min(1.0, v[x] / q[x]), residual(v, q)

    return step


LOSSY = [
    (LenienceRule(0.5), lenience),
    (LenienceRule(0.1), lenience),
    (ThresholdsRule(0.3, 1.0), thresholds),
    (ThresholdsRule(1.0, 0.5), thresholds),
    (ThresholdsRule(0.4, 0.7), thresholds),
    (EnsembleRule(0.3), mixture),
    (EnsembleRule(0.0), mixture),
    (CascadeRule(0.55, "chow"), mixture),
    (CascadeRule(0.0, "diff"), mixture),
    (CascadeRule(0.3, "opt"), mixture),
]


@pytest.mark.parametrize("processors", [n if n == "plain" else pytest.param(n, marks=SLOW) for n in PROCESSORS])
@pytest.mark.parametrize(("rule", "law"), [pytest.param(*both, id=str(both[0])) for both in LOSSY])
def test_what_is_drawn(pair, rule, law, processors):
    arguments, processors = PROCESSORS[processors]
    p, q = (Distributions(model, processors) for model in pair)
    seen, _ = draw(*pair, rule, 10_000, LENGTH, K, **arguments)
    expected = judged_law(p, q, law(rule), K, LENGTH)
    assert p_value(seen, expected) > 0.001
    # The test can fail: this is not what the target draws
    if sum(abs(mass - target_law(p, LENGTH)[text]) for text, mass in expected.items()) > 0.1:
        assert p_value(seen, target_law(p, LENGTH)) < 1e-6


def test_the_laws_differ_from_the_targets(pair):
    """By more than a tenth, without processors, so that the second half of the test above is run."""
    p, q = map(Distributions, pair)
    for rule, law in LOSSY:
        expected = judged_law(p, q, law(rule), K, LENGTH)
        assert sum(abs(mass - target_law(p, LENGTH)[text]) for text, mass in expected.items()) > 0.1, rule


TINY_HEAD = AutoJudgeHead.from_linear(
    torch.ones(32), 0.0, torch.zeros(32), torch.ones(32), draft_hidden_size=16, target_hidden_size=16, threshold=1.0
)
LOSSLESS = [
    ExactMatchRule(),
    LenienceRule(),
    ThresholdsRule(),
    EnsembleRule(),
    CascadeRule(0),
    CascadeRule(-1, "diff"),
    RegretBudgetRule(0),
    RegretBudgetRule(5, 5, 0),
    after(LENGTH, TopKRule(VOCAB)),
    budget(TINY_HEAD, 0),
    BlockVerification(),
]


@pytest.mark.parametrize("processors", [n if n == "plain" else pytest.param(n, marks=SLOW) for n in PROCESSORS])
@pytest.mark.parametrize("judge", LOSSLESS, ids=lambda judge: str(judge).split("(")[0])
def test_defaults_draw_as_the_target_does(pair, judge, processors):
    arguments, processors = PROCESSORS[processors]
    seen, _ = draw(*pair, judge, 10_000, LENGTH, K, **arguments)
    assert p_value(seen, target_law(Distributions(pair[0], processors), LENGTH)) > 0.001


def test_confident_windows_differ_in_length(pair):
    """With a confidence threshold the sequences of a batch have different numbers of candidates."""
    p, q = map(Distributions, pair)
    for judge in (LenienceRule(), ThresholdsRule(), EnsembleRule(), BlockVerification()):
        call = {"assistant_confidence_threshold": 0.4}
        seen, stats = draw(*pair, judge, 5_000, 4, 3, **call)
        assert p_value(seen, target_law(p, 4)) > 0.001
        assert stats.drafted < 2.9 * stats.rounds


@pytest.mark.parametrize(
    ("rule", "law"), [pytest.param(*LOSSY[i], id=str(LOSSY[i][0]), marks=[] if i == 4 else SLOW) for i in (1, 4, 5, 7)]
)
def test_what_is_drawn_from_windows_of_different_lengths(pair, rule, law):
    p, q = map(Distributions, pair)
    confidence = 0.35
    seen, stats = draw(*pair, rule, 10_000, 4, 3, assistant_confidence_threshold=confidence)
    assert p_value(seen, judged_law(p, q, law(rule), 3, 4, confidence)) > 0.001
    assert p_value(seen, judged_law(p, q, law(rule), 3, 4)) < 1e-6  # where drafting stops, the bonus token is p's


def one_window(p, tokens, copies, judge, sampled=None):
    """The same window many times: the candidates' number, and the token after them."""
    k = len(tokens)
    candidates = Candidates(torch.tensor([tokens] * copies), [k] * copies, scores=sampled, sampled=sampled is not None)
    logits = torch.tensor(p).log().expand(copies, k + 1, -1)
    sequences = Sequences(torch.zeros(copies, 1, dtype=torch.long))
    v = verify(candidates, sequences, logits, None, LogitsProcessorList(), True, judge, judge.reads)
    n, _ = accepted_run(v, judge, None)
    return n[:, 0].tolist(), next_token(v, n, True, judge)[:, 0].tolist()


@pytest.mark.parametrize(
    ("rule", "acceptance"),  # of p(x) = .1 and .5: q is 1
    [
        (ThresholdsRule(), (0.1, 0.5)),
        (ThresholdsRule(1, 0.25), (0.4, 1)),
        (ThresholdsRule(0.5, 0.8), (0.125, 1)),
        (LenienceRule(), (0.1, 0.5)),
        (LenienceRule(0.25), (0.4, 1)),
    ],
    ids=str,
)
def test_candidates_without_a_distribution(rule, acceptance):
    """Of prompt lookup: whatever proposed them was sure of them."""
    p, copies = [0.1, 0.5, 0.25, 0.15], 20_000
    torch.manual_seed(0)
    runs, following = one_window(p, [0, 1], copies, rule)
    a, b = acceptance
    law = {}
    for n, mass, gone in ((0, 1 - a, 0), (1, a * (1 - b), 1), (2, a * b, None)):
        rest = normalized([0.0 if y == gone else m for y, m in enumerate(p)])
        law |= {(n, y): mass * rest[y] for y in range(4)}
    seen = {}
    for pair_ in zip(runs, following, strict=True):
        seen[pair_] = seen.get(pair_, 0) + 1
    assert p_value(seen, law) > 0.001


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "judge", [EnsembleRule(0.2), EnsembleRule(0.0), CascadeRule(2.0), CascadeRule(2.0, "opt")], ids=str
)
@pytest.mark.parametrize("do_sample", [False, True])
def test_a_mixture_with_something_unknown_is_the_targets_own(number, judge, do_sample):
    """The draft's first token has no number: the target alone decides."""
    p, q = torch.tensor([0.05, 0.05, 0.9]).log(), torch.tensor([number, 0.0, 0.0])
    ids = torch.tensor([[0], [1]])
    candidates = Candidates(ids, [1, 1], q.expand(2, 1, 3), q.expand(2, 1, 3), sampled=do_sample)
    sequences = Sequences(torch.zeros(2, 1, dtype=torch.long))
    v = verify(candidates, sequences, p.expand(2, 2, 3), None, LogitsProcessorList(), do_sample, judge, judge.reads)
    n, _ = accepted_run(v, judge, None)
    assert n.tolist() == [[0], [0]]
    assert torch.equal(v.target_scores, p.expand(2, 2, 3))
    if not do_sample:
        assert next_token(v, n, False, judge).tolist() == [[2], [2]]
    # And the other way round
    candidates = Candidates(ids, [1, 1], p.expand(2, 1, 3), p.expand(2, 1, 3), sampled=do_sample)
    v = verify(candidates, sequences, q.expand(2, 2, 3), None, LogitsProcessorList(), do_sample, judge, judge.reads)
    assert accepted_run(v, judge, None)[0][1].item() == 0  # the first token is the argmax of what is unknown


def test_a_saturated_draft_is_not_trusted_at_zero():
    """Its largest probability rounds to 1."""
    p, q = torch.tensor([0.1, 0.9]).log(), torch.tensor([60.0, 0.0])
    candidates = Candidates(torch.tensor([[0]]), [1], q.expand(1, 1, 2), q.expand(1, 1, 2))
    for judge, accepted in ((CascadeRule(0), 0), (CascadeRule(1e-6), 1), (CascadeRule(-1, "diff"), 0)):
        sequences = Sequences(torch.zeros(1, 1, dtype=torch.long))
        v = verify(candidates, sequences, p.expand(1, 2, 2), None, LogitsProcessorList(), False, judge, judge.reads)
        assert accepted_run(v, judge, None)[0].item() == accepted


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "judge", [LenienceRule(1e-9), ThresholdsRule(0, 1e-9), BlockVerification(), ExactMatchRule(), TopKRule(3)], ids=str
)
def test_an_unknown_target_accepts_nothing_in_sampling(number, judge):
    runs, _ = one_window([0.2, 0.3, number], [0, 1], 50, judge, sampled=torch.zeros(50, 2, 3))
    assert not any(runs)


def test_a_budget_in_sampling_pays_for_failed_coins(pair):
    """What is spent in a round: the importances of its emitted candidates that failed the standard test."""

    class Books:
        threshold, num_assistant_tokens, num_budgets = None, None, 1

        def __init__(self):
            self.judge = RegretBudgetRule(2.5, 9, 9)
            self.reads = self.judge.reads | {"num_new_tokens"}
            self.check_models, self.costs = self.judge.check_models, self.judge.costs
            self.rounds = []

        def accept(self, window, threshold=None):
            row = (window.num_new_tokens, window.spent, ~window.passed * self.costs(window)[..., 0])
            self.rounds.append([x[0].tolist() for x in row])
            return self.judge.accept(window)

    paid = 0.0
    for seed in range(40):
        books = Books()
        draw(*pair, books, 1, 12, 4, seed)
        for (start, spent, costs), (end, spent_then, _) in zip(books.rounds, books.rounds[1:], strict=False):
            accepted = end[0] - start[0] - 1
            assert spent_then[0] == pytest.approx(spent[0] + sum(costs[:accepted]), abs=1e-5)
            assert spent_then[0] <= 2.5 + 1e-5
            paid += spent_then[0] - spent[0]
    assert paid > 20
