"""Sampling: with threshold 0 the output distribution is the target's; with the judge on it is not."""

import pytest
import torch
from scipy.stats import chisquare

from hf_autojudge import ExactMatchRule, TopKRule
from tests.utils import make_model

VOCAB = 8
NEW = 2


@pytest.fixture(scope="module")
def tiny_pair():
    return make_model("llama", 16, 1, seed=0, vocab=VOCAB), make_model("llama", 16, 1, seed=1, vocab=VOCAB)


def exact_distribution(target, prompt, temperature):
    """Probability of every text of two new tokens, by full enumeration."""
    with torch.no_grad():
        first = (target(prompt).logits[0, -1] / temperature).softmax(-1)
        texts = torch.cat([prompt.expand(VOCAB, -1), torch.arange(VOCAB)[:, None]], dim=-1)
        second = (target(texts).logits[:, -1] / temperature).softmax(-1)
    return (first[:, None] * second).flatten()


def counts(target, draft, prompt, n, **settings):
    """How often each text of two new tokens is drawn."""
    seen = torch.zeros(VOCAB * VOCAB)
    for seed in range(n):
        torch.manual_seed(seed)
        out = target.generate(
            prompt, do_sample=True, max_new_tokens=NEW, eos_token_id=None, top_k=0, pad_token_id=0, **settings
        )
        a, b = out[0, -2:].tolist()
        seen[a * VOCAB + b] += 1
    return seen


def p_value(seen, expected):
    """Of a chi-square test; cells expected fewer than 5 times are put together."""
    expected = expected * seen.sum()
    rare = expected < 5
    seen = torch.cat([seen[~rare], seen[rare].sum()[None]])
    expected = torch.cat([expected[~rare], expected[rare].sum()[None]])
    return float(chisquare(seen.double(), expected.double() * (seen.sum().double() / expected.double().sum())).pvalue)


@pytest.mark.parametrize("source", ["draft", pytest.param("prompt lookup", marks=pytest.mark.slow)])
def test_threshold_zero_samples_from_the_target(tiny_pair, source):
    target, draft = tiny_pair
    prompt = torch.tensor([[1, 3, 4, 3, 4]])
    settings = (
        {"assistant_model": draft, "num_assistant_tokens": 3} if source == "draft" else {"prompt_lookup_num_tokens": 2}
    )
    seen = counts(target, draft, prompt, 1500, judge=ExactMatchRule(), temperature=1.5, **settings)
    assert p_value(seen, exact_distribution(target, prompt, 1.5)) > 0.01


def test_the_judge_changes_the_distribution(tiny_pair):
    target, draft = tiny_pair
    prompt = torch.tensor([[1, 3, 4, 3, 4]])
    settings = {"assistant_model": draft, "num_assistant_tokens": 3, "temperature": 1.5}
    seen = counts(target, draft, prompt, 1500, judge=TopKRule(VOCAB), **settings)
    assert p_value(seen, exact_distribution(target, prompt, 1.5)) < 1e-6


@pytest.mark.slow
def test_the_chi_square_test_can_fail(tiny_pair):
    """The same sample, tested against another temperature's distribution."""
    target, draft = tiny_pair
    prompt = torch.tensor([[1, 3, 4, 3, 4]])
    settings = {"assistant_model": draft, "num_assistant_tokens": 3, "temperature": 1.5}
    seen = counts(target, draft, prompt, 1500, judge=ExactMatchRule(), **settings)
    assert p_value(seen, exact_distribution(target, prompt, 1.0)) < 1e-4
