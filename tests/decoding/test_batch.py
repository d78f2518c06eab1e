"""Several prompts at once: each row's tokens equal its run alone, in fp32."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BloomConfig, BloomForCausalLM, StoppingCriteria

from hf_autojudge import ExactMatchRule, KLRule, TopKRule
from tests.utils import (
    ARCHITECTURES,
    DEFAULT,
    FEATURES,
    PAD,
    VOCAB,
    make_pair,
    padded,
    prompt_ids,
    random_head,
    together_and_alone,
)

LENGTHS = (9, 3, 14, 1, 6)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize(
    ("threshold", "k", "features"), [(0.0, 4, DEFAULT), (0.55, 5, FEATURES[1]), (0.4, 3, DEFAULT)]
)
def test_rows_equal_their_runs_alone(pair, threshold, k, features, static):
    target, draft = pair
    prompts = [prompt_ids(seed, length) for seed, length in enumerate(LENGTHS)]
    call = {"max_new_tokens": 25, "num_assistant_tokens": k, "judge_threshold": threshold}
    if static:
        call["cache_implementation"] = "static"
    _, judge = random_head(features, seed=k)
    together, alone, ours, expected = together_and_alone(target, draft, prompts, judge, **call)
    assert together == alone
    assert len({tuple(row) for row in alone}) == len(prompts)
    for name in ("rounds", "target_calls", "new_tokens", "drafted", "matched", "accepted_by_judge", "histogram"):
        assert getattr(ours, name) == getattr(expected, name)


@pytest.mark.parametrize("static", [False, True])
def test_rows_end_at_different_times(llama_pair, static):
    target, draft = llama_pair
    prompts = [prompt_ids(seed, 5 + seed) for seed in range(6)]
    call = {"max_new_tokens": 40, "num_assistant_tokens": 4, "eos_token_id": list(range(30, 36))}
    if static:
        call["cache_implementation"] = "static"
    together, alone, ours, expected = together_and_alone(target, draft, prompts, TopKRule(2), **call)
    assert together == alone and ours.rounds == expected.rounds
    assert len({len([t for t in row if t != PAD]) for row in alone}) > 3


@pytest.mark.parametrize(
    "options",
    [
        {"judge": KLRule(0.8)},
        {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3},
        {"min_new_tokens": 12, "eos_token_id": list(range(20, 40))},
        {"bonus_token": False},
        {"num_assistant_tokens_schedule": "heuristic"},
        {"assistant_confidence_threshold": 0.5},
        {"output_scores": True, "output_logits": True},
        {"eos_token_id": list(range(20, 30))},
    ],
)
def test_every_option_row_by_row(llama_pair, options):
    target, draft = llama_pair
    prompts = [prompt_ids(seed, 8) for seed in range(4)]  # of one length: transformers' processors see the padding
    call = {"max_new_tokens": 30, "num_assistant_tokens": 5, "judge": random_head(DEFAULT, 3)[1]} | options
    together, alone, ours, expected = together_and_alone(target, draft, prompts, call.pop("judge"), **call)
    assert together == alone
    assert (ours.drafted, ours.rounds) == (expected.drafted, expected.rounds)


def test_scores_of_a_batch(llama_pair):
    target, draft = llama_pair
    prompts = [prompt_ids(seed, 8) for seed in range(3)]
    call = {"max_new_tokens": 25, "output_scores": True, "output_logits": True, "return_dict_in_generate": True}
    call |= {"eos_token_id": list(range(20, 28)), "pad_token_id": PAD, "num_assistant_tokens": 6}
    ours = target.generate(**padded(prompts), assistant_model=draft, judge=ExactMatchRule(), **call)
    plain = target.generate(**padded(prompts), **call)
    assert torch.equal(ours.sequences, plain.sequences) and len(ours.scores) == len(plain.scores)
    for step, (a, b) in enumerate(zip(ours.scores, plain.scores, strict=True)):
        going_on = ~torch.isin(plain.sequences[:, 8 : 8 + step], torch.arange(20, 28)).any(-1)
        assert a.shape == b.shape and torch.allclose(a[going_on], b[going_on], atol=1e-4)
        assert not a[~going_on].any()
    assert not going_on.all()


def test_a_criterion_ends_rows_by_itself(llama_pair):
    target, draft = llama_pair

    class SumIsRound(StoppingCriteria):
        def __call__(self, input_ids, scores, **kwargs):
            return input_ids.sum(-1) % 7 == 0

    prompts = [prompt_ids(seed, 8) for seed in range(4)]
    call = {"max_new_tokens": 30, "num_assistant_tokens": 5, "stopping_criteria": [SumIsRound()]}
    together, alone, *_ = together_and_alone(target, draft, prompts, TopKRule(2), **call)
    assert together == alone and len({len(r) for r in alone}) == 1 and min(r.count(PAD) for r in alone) == 0


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_batch(data):
    architecture = data.draw(st.sampled_from(ARCHITECTURES))
    target, draft = make_pair(architecture, seed=data.draw(st.integers(0, 3)))
    lengths = data.draw(st.lists(st.integers(1, 20), min_size=2, max_size=5))
    prompts = [prompt_ids(data.draw(st.integers(0, 99)), n) for n in lengths]
    rule = data.draw(st.sampled_from([ExactMatchRule(), TopKRule(2), TopKRule(VOCAB), KLRule(1.0)]))
    call = {
        "max_new_tokens": data.draw(st.integers(1, 30)),
        "num_assistant_tokens": data.draw(st.integers(1, 9)),
        "eos_token_id": data.draw(st.sampled_from([2, [7, 9, 11, 30]])),
        "bonus_token": data.draw(st.booleans()),
        "cache_implementation": data.draw(st.sampled_from([None, "static"])),
    }
    together, alone, *_ = together_and_alone(target, draft, prompts, rule, **call)
    assert together == alone


@torch.no_grad()
def test_sampled_rows_follow_the_target(llama_pair):
    """Two different prompts in one batch, many times: the second tokens are distributed as each prompt's own."""
    from scipy.stats import chisquare

    target, draft = llama_pair
    prompts = [prompt_ids(1, 4), prompt_ids(2, 7)]
    copies = 400
    inputs = padded([p for p in prompts for _ in range(copies)])
    torch.manual_seed(0)
    sampling = {"do_sample": True, "temperature": 0.8, "top_k": 6, "eos_token_id": None}
    out = target.generate(
        **inputs, assistant_model=draft, judge=ExactMatchRule(), max_new_tokens=3, num_assistant_tokens=2, **sampling
    )
    for i, prompt in enumerate(prompts):
        rows = out[i * copies : (i + 1) * copies, inputs["input_ids"].shape[1] :]
        first = target(torch.tensor([prompt])).logits[0, -1] / 0.8
        expected = torch.zeros(VOCAB, dtype=torch.double)
        for token in first.topk(6).indices.tolist():
            p = torch.softmax(first.masked_fill(first < first.topk(6).values[-1], -torch.inf), -1)[token].double()
            second = target(torch.tensor([[*prompt, token]])).logits[0, -1] / 0.8
            second = second.masked_fill(second < second.topk(6).values[-1], -torch.inf)
            expected += p * second.softmax(-1).double()
        observed = torch.bincount(rows[:, 1], minlength=VOCAB)
        likely = expected * copies >= 5
        counts = torch.cat([observed[likely], observed[~likely].sum()[None]]).double()
        masses = torch.cat([expected[likely], expected[~likely].sum()[None]]) * copies
        used = masses > 0
        assert chisquare(counts[used], masses[used] * counts[used].sum() / masses[used].sum()).pvalue > 0.01


def test_what_a_batch_cannot_do(llama_pair):
    target, draft = llama_pair
    inputs = padded([prompt_ids(0, 4), prompt_ids(1, 6)])
    call = {"assistant_model": draft, "judge": ExactMatchRule(), "max_new_tokens": 5}
    right = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"].flip(-1)}
    with pytest.raises(ValueError, match="padded on the left"):
        target.generate(**right, **call)
    with pytest.raises(ValueError, match="proposes for one at a time"):
        target.generate(**inputs, **(call | {"assistant_model": None}), prompt_lookup_num_tokens=2)
    with pytest.raises(ValueError, match="PrefixConstrainedLogitsProcessor needs the whole batch"):
        target.generate(**inputs, **call, prefix_allowed_tokens_fn=lambda row, ids: [3, 4])
    bloom = BloomForCausalLM(BloomConfig(vocab_size=VOCAB, hidden_size=16, n_layer=1, n_head=2)).eval()
    with pytest.raises(ValueError, match="Bloom.*position_ids.*one prompt at a time"):
        bloom.generate(**inputs, **(call | {"assistant_model": bloom}))
    assert bloom.generate(inputs["input_ids"][1:], **(call | {"assistant_model": bloom})).shape[1] > 6


def test_a_repetition_penalty_ignores_each_prompts_padding(llama_pair):
    target, draft = llama_pair
    inputs = padded([prompt_ids(seed, length) for seed, length in enumerate(LENGTHS)])
    call = {"max_new_tokens": 20, "repetition_penalty": 1.4, "pad_token_id": PAD, "do_sample": False}
    plain = target.generate(**inputs, **call)
    assert torch.equal(plain, target.generate(**inputs, **call, assistant_model=draft, judge=ExactMatchRule()))
