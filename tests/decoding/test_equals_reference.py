"""Judged decoding equals the cache-free reference token for token, in fp32."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    StoppingCriteria,
    StoppingCriteriaList,
)

from hf_autojudge import ExactMatchRule, KLRule, TopKRule
from tests.reference import judged_greedy, run
from tests.utils import ALL_FEATURES, DEFAULT, FEATURES, VOCAB, decode, prompt_ids, random_head


@pytest.mark.parametrize("threshold", [0.0, 0.4, 0.55, 1.0])
@pytest.mark.parametrize(("k", "features"), [(1, DEFAULT), (3, FEATURES[1]), (5, FEATURES[2]), (8, DEFAULT)])
def test_every_head_threshold_and_window(pair, threshold, k, features):
    target, draft = pair
    head, judge = random_head(features, seed=k)
    prompt = prompt_ids(k)
    expected = judged_greedy(
        target, draft, prompt, lambda ids, t: head.accepts(threshold, target, draft, ids, t), k, 30, eos={2}
    )
    ids, stats = decode(target, draft, prompt, judge, k, max_new_tokens=30, judge_threshold=threshold)
    assert ids == expected.ids
    assert (stats.rounds, stats.drafted) == (expected.rounds, expected.drafted)
    assert (stats.matched, stats.accepted_by_judge) == (expected.matched, expected.judged)
    assert stats.target_calls == stats.rounds == sum(stats.histogram.values())
    assert stats.new_tokens == len(ids) - len(prompt)


def test_the_judge_is_used(llama_pair):
    """Otherwise the comparisons above would compare nothing."""
    target, draft = llama_pair
    accepted, rejected = 0, 0
    for seed in range(6):
        head, judge = random_head(DEFAULT, seed)
        _, stats = decode(target, draft, prompt_ids(seed), judge, 5, max_new_tokens=30, judge_threshold=0.5)
        accepted += stats.accepted_by_judge
        rejected += stats.rounds - stats.histogram[5]
    assert accepted > 5 and rejected > 5


def test_without_bonus_token(llama_pair):
    target, draft = llama_pair
    head, judge = random_head(DEFAULT, 3)
    prompt = prompt_ids(3)
    expected = judged_greedy(
        target, draft, prompt, lambda ids, t: head.accepts(0.6, target, draft, ids, t), 4, 30, {2}, bonus_token=False
    )
    ids, stats = decode(target, draft, prompt, judge, 4, max_new_tokens=30, judge_threshold=0.6, bonus_token=False)
    assert ids == expected.ids and stats.rounds == expected.rounds


@pytest.mark.parametrize("rule", [TopKRule(3), KLRule(0.8), KLRule(3.0, max_target_prob=0.5)])
def test_rules(pair, rule):
    target, draft = pair
    prompt = prompt_ids(5)

    def accepts(ids, token):
        p = run(target, ids)[0][-1]
        if isinstance(rule, TopKRule):
            return token in p.topk(rule.k).indices.tolist()
        q = run(draft, ids)[0][-1]
        divergence = torch.nn.functional.kl_div(q.log_softmax(-1), p.log_softmax(-1), log_target=True, reduction="sum")
        return bool(divergence < rule.tau and p.softmax(-1).max() <= rule.max_target_prob)

    expected = judged_greedy(target, draft, prompt, accepts, 5, 30, {2})
    ids, stats = decode(target, draft, prompt, rule, 5, max_new_tokens=30)
    assert ids == expected.ids and stats.accepted_by_judge == expected.judged


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    k=st.integers(1, 12),
    threshold=st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.3, 0.7)),
    features=st.lists(st.sampled_from(ALL_FEATURES), min_size=1, max_size=4, unique=True),
    length=st.integers(1, 20),
    new=st.integers(1, 24),
    eos=st.sets(st.integers(0, VOCAB - 1), max_size=6),
    bonus=st.booleans(),
)
def test_any_call(llama_pair, seed, k, threshold, features, length, new, eos, bonus):
    target, draft = llama_pair
    head, judge = random_head(tuple(features), seed)
    prompt = prompt_ids(seed, length)
    expected = judged_greedy(
        target,
        draft,
        prompt,
        lambda ids, t: head.accepts(threshold, target, draft, ids, t),
        k,
        new,
        eos,
        bonus_token=bonus,
    )
    ids, stats = decode(
        target,
        draft,
        prompt,
        judge,
        k,
        max_new_tokens=new,
        judge_threshold=threshold,
        eos_token_id=sorted(eos) or None,
        bonus_token=bonus,
    )
    assert ids == expected.ids
    assert (stats.rounds, stats.drafted, stats.matched) == (expected.rounds, expected.drafted, expected.matched)


class EndsOnMultiple(StoppingCriteria):
    """Ends a text whose last token is a multiple of 7."""

    def __call__(self, input_ids, scores, **kwargs):
        return input_ids[:, -1] % 7 == 0


@pytest.mark.parametrize("penalty", [1.0, 1.3])
@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_processors_and_criteria(pair, penalty, stop, threshold):
    target, draft = pair
    head, judge = random_head(DEFAULT, 11)
    prompt = prompt_ids(11)
    processors = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(penalty)] if penalty != 1 else [])
    expected = judged_greedy(
        target,
        draft,
        prompt,
        lambda ids, t: head.accepts(threshold, target, draft, ids, t),
        6,
        30,
        {2, 5},
        processors,
        stops=(lambda ids: ids[-1] % 7 == 0) if stop else (lambda ids: False),
    )
    ids, _ = decode(
        target,
        draft,
        prompt,
        judge,
        6,
        max_new_tokens=30,
        judge_threshold=threshold,
        repetition_penalty=penalty,
        eos_token_id=[2, 5],
        stopping_criteria=StoppingCriteriaList([EndsOnMultiple()]) if stop else None,
    )
    assert ids == expected.ids


@pytest.mark.parametrize(
    "extra", [{}, {"repetition_penalty": 1.4}, {"no_repeat_ngram_size": 2}, {"min_new_tokens": 20}]
)
def test_threshold_zero_is_plain_greedy(pair, extra):
    target, draft = pair
    for seed in range(3):
        ids = torch.tensor([prompt_ids(seed, 5 + 4 * seed)])
        settings = {"max_new_tokens": 40, "do_sample": False, "eos_token_id": [2, 9]} | extra
        plain = target.generate(ids, **settings)
        for judge, more in [(ExactMatchRule(), {}), (random_head(DEFAULT, 1)[1], {"judge_threshold": 0})]:
            ours = target.generate(ids, assistant_model=draft, judge=judge, num_assistant_tokens=5, **settings, **more)
            assert torch.equal(ours, plain)


def test_left_padding(pair):
    target, draft = pair
    head, judge = random_head(DEFAULT, 2)
    prompt = torch.tensor([prompt_ids(2)])
    padded = torch.cat([torch.zeros(1, 4, dtype=torch.long), prompt], dim=-1)
    mask = torch.cat([torch.zeros(1, 4, dtype=torch.long), torch.ones_like(prompt)], dim=-1)
    settings = {"assistant_model": draft, "judge": judge, "num_assistant_tokens": 4, "do_sample": False}
    alone = target.generate(prompt, max_new_tokens=25, **settings)
    with_padding = target.generate(padded, attention_mask=mask, max_new_tokens=25, **settings)
    assert torch.equal(with_padding[:, 4:], alone)


def test_continuing_from_a_cache(llama_pair):
    target, draft = llama_pair
    head, judge = random_head(DEFAULT, 4)
    settings = {"assistant_model": draft, "judge": judge, "num_assistant_tokens": 4, "eos_token_id": None}
    first = target.generate(torch.tensor([prompt_ids(4)]), max_new_tokens=10, return_dict_in_generate=True, **settings)
    assert first.past_key_values.get_seq_length() == first.sequences.shape[1] - 1
    text = torch.cat([first.sequences, torch.tensor([[7, 8, 9]])], dim=-1)
    fresh = target.generate(text, max_new_tokens=15, **settings)
    cached = target.generate(text, max_new_tokens=15, past_key_values=first.past_key_values, **settings)
    assert torch.equal(fresh, cached)
