"""Every rule and composite decodes as a slow reference does: alone, in a batch and in a static cache, in fp32."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CompileConfig

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
    after,
    all_of,
    any_of,
    budget,
    inside,
)
from tests.plain_rules import PlainAfter, PlainGroup, PlainHead, PlainInside, TooClose, plain
from tests.reference import importance_of, judged_by_window, run
from tests.utils import DEFAULT, decode, make_model, prompt_ids, random_head, together_and_alone

LENGTHS = (9, 3, 14)


def disturbed(seed, by):
    """A target, and a draft with the target's own weights, disturbed."""
    pair = [make_model("llama", 32, 2, seed) for _ in range(2)]
    torch.manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in pair[1].parameters():
            parameter.add_(by * parameter.std(correction=0) * torch.randn_like(parameter))
    return pair


@pytest.fixture(scope="module")
def close_pair():
    return disturbed(seed=2, by=0.12)


RULES = [
    TopKRule(3),
    RatioRule(0.4),
    TypicalRule(0.05, 0.3),
    MarginRule(0.7),
    RelaxedTopNRule(3, 0.2),
    CleanRunRule(0.3, 2),
    CleanRunRule(0.3, 3, None),
    KLRule(0.3),
    *(DivergenceRule(0.06, kind) for kind in ("js", "js_reversed")),
    *(DivergenceRule(0.25, kind) for kind in ("kl", "kl_reversed", "tv")),
    RollbackRule(4, 0.16),
    RegretBudgetRule(4, 0.5, 2),
    ThresholdsRule(0.12),
    LenienceRule(0.4),
]
NOT_LOSSY_HERE = [ExactMatchRule(), BlockVerification(), LenienceRule(), ThresholdsRule(), EnsembleRule()]
NOT_LOSSY_HERE += [CascadeRule(0), RegretBudgetRule(0)]
MIXTURES = [EnsembleRule(0.5), CascadeRule(0.9), CascadeRule(0.02, "diff"), CascadeRule(0.1, "opt")]

HEAD = random_head(DEFAULT, seed=5)  # in plain arithmetic, and ours


def composites(target, draft):
    """Judges and what makes their plain counterparts. Tokens 7 to 30 are frequent enough to be marks."""
    plain_head, head = HEAD
    importance = importance_of(plain_head, target, draft)
    ratio, top3 = RatioRule(0.3), TopKRule(3)
    regret = RegretBudgetRule(3, 1, 2)
    marks = marks_of(target)
    return {
        "budget": (budget(head, 1.6), lambda: PlainHead(importance, head.threshold, 1.6)),
        "budget of nothing": (budget(head, 0), lambda: PlainHead(importance, head.threshold, 0)),
        "any": (any_of(ratio, head), lambda: PlainGroup(any, plain(ratio), PlainHead(importance, head.threshold))),
        "all": (all_of(top3, head), lambda: PlainGroup(all, plain(top3), PlainHead(importance, head.threshold))),
        "after": (after(11, top3), lambda: PlainAfter(11, plain(top3))),
        "inside": (inside(*marks, top3), lambda: PlainInside(*marks, plain(top3))),
        "two budgets": (
            any_of(budget(head, 0.9), regret),
            lambda: PlainGroup(any, PlainHead(importance, head.threshold, 0.9), plain(regret)),
        ),
        "nested": (
            inside(*marks, any_of(after(6, budget(head, 1.2)), all_of(top3, CleanRunRule(0.1, 2)))),
            lambda: PlainInside(
                *marks,
                PlainGroup(
                    any,
                    PlainAfter(6, PlainHead(importance, head.threshold, 1.2)),
                    PlainGroup(all, plain(top3), plain(CleanRunRule(0.1, 2))),
                ),
            ),
        ),
    }


def marks_of(target):
    """A start mark of two tokens and an end mark of one that the target writes after the first prompt."""
    text = target.generate(torch.tensor([prompt_ids(0)]), max_new_tokens=20, do_sample=False)[0, 9:].tolist()
    return text[3:5], text[12:13]


def check(target, draft, judge, make_plain, lossy):
    """Four prompts one at a time; three together, with dynamic and static caches."""
    judged = 0
    for seed, length in enumerate((*LENGTHS, 6)):
        prompt = prompt_ids(seed, length)
        expected = judged_by_window(target, draft, prompt, make_plain(), 6, 24, {2})
        ids, stats = decode(target, draft, prompt, judge, 6, max_new_tokens=24)
        assert ids == expected.ids
        assert (stats.rounds, stats.drafted) == (expected.rounds, expected.drafted)
        assert (stats.matched, stats.accepted_by_judge) == (expected.matched, expected.judged)
        judged += expected.judged
    assert (judged > 0) == lossy
    prompts = [prompt_ids(seed, length) for seed, length in enumerate(LENGTHS)]
    for cache in (None, "static"):
        call = {"max_new_tokens": 24, "num_assistant_tokens": 6, "cache_implementation": cache}
        together, alone, ours, theirs = together_and_alone(target, draft, prompts, judge, **call)
        assert together == alone
        for name in ("rounds", "new_tokens", "drafted", "matched", "accepted_by_judge", "histogram"):
            assert getattr(ours, name) == getattr(theirs, name)


@pytest.mark.parametrize("rule", RULES + NOT_LOSSY_HERE + MIXTURES, ids=str)
def test_rules_equal_the_reference(close_pair, rule):
    check(*close_pair, rule, lambda: plain(rule), lossy=rule in RULES)


@pytest.mark.parametrize("name", composites(*disturbed(seed=2, by=0.12)))
def test_composites_equal_the_reference(close_pair, name):
    judge, make_plain = composites(*close_pair)[name]
    check(*close_pair, judge, make_plain, lossy=name != "budget of nothing")


@pytest.mark.parametrize("rule", NOT_LOSSY_HERE, ids=str)
def test_these_are_plain_greedy(close_pair, rule):
    target, draft = close_pair
    for seed in range(3):
        plain_ids = target.generate(torch.tensor([prompt_ids(seed)]), max_new_tokens=30, do_sample=False)[0].tolist()
        assert decode(target, draft, prompt_ids(seed), rule, 5, max_new_tokens=30)[0] == plain_ids


@pytest.mark.parametrize("rule", MIXTURES, ids=str)
def test_a_mixture_changes_the_text(close_pair, rule):
    """Otherwise the comparisons above would compare nothing."""
    target, draft = close_pair
    prompt = torch.tensor([prompt_ids(1)])
    exact = target.generate(prompt, max_new_tokens=30, do_sample=False)[0].tolist()
    assert decode(target, draft, prompt_ids(1), rule, 5, max_new_tokens=30)[0] != exact


def test_the_ensemble_is_transformers_own(close_pair):
    """`assistant_ensemble_weight`, which its assisted generation reads too."""
    target, draft = close_pair
    call = {"max_new_tokens": 30, "do_sample": False, "assistant_model": draft}
    for name, value in (("num_assistant_tokens", 5), ("assistant_confidence_threshold", 0.0)):
        setattr(draft.generation_config, name, value)
    draft.generation_config.num_assistant_tokens_schedule = "constant"
    for seed in range(4):
        prompt = torch.tensor([prompt_ids(seed)])
        for weight in (0.3, 0.6):
            theirs = target.generate(prompt, **call, assistant_ensemble_weight=weight)
            assert torch.equal(target.generate(prompt, **call, judge=EnsembleRule(weight)), theirs)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_call(data):
    """Random judges, windows, lengths and end tokens; batches against one at a time against the reference."""
    target, draft = disturbed(seed=data.draw(st.integers(0, 2)), by=0.15)
    plain_head, head = HEAD
    importance = importance_of(plain_head, target, draft)
    number = st.integers(1, 40).map(lambda n: n / 10)
    leaf = st.one_of(
        number.map(lambda n: (RegretBudgetRule(n, n, 3), lambda: plain(RegretBudgetRule(n, n, 3)))),
        number.map(lambda n: (budget(head, n), lambda: PlainHead(importance, head.threshold, n))),
        st.sampled_from(RULES).map(lambda rule: (rule, lambda: plain(rule))),
    ).filter(lambda pair: not hasattr(pair[0], "passes"))
    mark = st.lists(st.integers(3, 47), min_size=1, max_size=2)
    judge, make_plain = data.draw(
        st.one_of(
            leaf,
            st.tuples(st.integers(0, 15), leaf).map(
                lambda x: (after(x[0], x[1][0]), lambda: PlainAfter(x[0], x[1][1]()))
            ),
            st.tuples(mark, mark, leaf)
            .filter(lambda x: x[0] != x[1])
            .map(lambda x: (inside(x[0], x[1], x[2][0]), lambda: PlainInside(x[0], x[1], x[2][1]()))),
            st.tuples(leaf, leaf).map(
                lambda x: (any_of(x[0][0], x[1][0]), lambda: PlainGroup(any, x[0][1](), x[1][1]()))
            ),
        )
    )
    lengths = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=3))
    prompts = [prompt_ids(data.draw(st.integers(0, 99)), n) for n in lengths]
    new, k = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 8))
    eos = data.draw(st.sets(st.integers(0, 47), min_size=1, max_size=4))
    call = {"max_new_tokens": new, "num_assistant_tokens": k, "eos_token_id": sorted(eos)}
    together, alone, *_ = together_and_alone(target, draft, prompts, judge, **call)
    assert together == alone
    for prompt, row in zip(prompts, alone, strict=True):
        try:
            expected = judged_by_window(target, draft, prompt, make_plain(), k, new, eos).ids[len(prompt) :]
        except TooClose:
            continue
        assert row[: len(expected)] == expected


@pytest.mark.parametrize("size", [40, 56])
def test_a_draft_with_a_padded_vocabulary(close_pair, size):
    target = close_pair[0]
    draft = make_model("llama", 32, 2, seed=9, vocab=size)
    tokens = SimpleNamespace()
    for rule in (KLRule(1.0), DivergenceRule(0.3), RollbackRule(3, 0.1), RegretBudgetRule(3, 1), EnsembleRule(0.4)):
        prompt = torch.tensor([prompt_ids(1)]).clamp(max=39)
        call = {"assistant_model": draft, "judge": rule, "max_new_tokens": 24, "num_assistant_tokens": 4}
        out = target.generate(prompt, **call, tokenizer=tokens, assistant_tokenizer=tokens)
        expected = judged_by_window(target, draft, prompt[0].tolist(), plain(rule), 4, 24, {2})
        assert out[0].tolist() == expected.ids


def test_compiled(close_pair):
    target, draft = close_pair
    config = {"cache_implementation": "static", "compile_config": CompileConfig(backend="eager", fullgraph=True)}
    for judge in (RegretBudgetRule(4, 0.5), CascadeRule(0.02, "diff"), composites(target, draft)["nested"][0]):
        ids, _ = decode(target, draft, prompt_ids(1), judge, 5, max_new_tokens=24)
        assert decode(target, draft, prompt_ids(1), judge, 5, max_new_tokens=24, **config)[0] == ids


def test_exact_outside_the_marks_and_at_the_beginning(close_pair):
    """Straight from the text: where the judge is not asked, each token is the target's own choice."""
    target, draft = close_pair
    loose = TopKRule(48)
    start, end = marks_of(target)
    relaxed = 0
    for seed in range(12):
        prompt = prompt_ids(seed % 3, 5 + seed)
        for judge, exact in (
            (after(7, loose), lambda ids, new: new < 7),
            (inside(start, end, loose), lambda ids, new: not PlainInside(start, end, Yes()).accepts(Text(ids), 0)),
            (
                inside(start[:1], end, loose),
                lambda ids, n: not PlainInside(start[:1], end, Yes()).accepts(Text(ids), 0),
            ),
        ):
            ids, _ = decode(target, draft, prompt, judge, 5, max_new_tokens=24, eos_token_id=None)
            chosen = run(target, ids)[0].argmax(-1).tolist()
            for place in range(len(prompt), len(ids)):
                if exact(ids[:place], place - len(prompt)):
                    assert ids[place] == chosen[place - 1]
                else:
                    relaxed += ids[place] != chosen[place - 1]
    assert relaxed > 20


class Yes:
    def accepts(self, w, i):
        return True


class Text:
    """A window after a text."""

    def __init__(self, ids):
        self.context, self.tokens = ids, []
