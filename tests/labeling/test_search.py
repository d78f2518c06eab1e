"""The semi-greedy search equals a plain sequential reference."""

import pytest
import torch

from hf_autojudge.labeling import find_important_tokens
from tests.conftest import VOCAB, make_model
from tests.reference import run


def reference_search(target, draft, prompt, same_outcome, max_new_tokens, eos):
    """Algorithm 1 of arXiv 2504.20039, one token and one full forward pass at a time."""
    limit = len(prompt) + max_new_tokens

    def finish(text):
        text = list(text)
        while len(text) < limit and not (len(text) > len(prompt) and text[-1] in eos):
            text.append(int(run(target, text)[0][-1].argmax()))
        return text

    response = finish(prompt)
    reference = response[len(prompt) :]
    mismatches, border = [], len(prompt)
    while True:
        for position in range(border, len(response)):
            choice = int(run(draft, response[:position])[0][-1].argmax())
            if choice != response[position]:
                break
        else:
            return mismatches, reference, response[len(prompt) :]
        alternative = finish([*response[:position], choice])
        important = not same_outcome(reference, alternative[len(prompt) :])
        mismatches.append((position - len(prompt), response[position], choice, important))
        if not important:
            response = alternative
        border = position + 1


def unlike_pair(architecture):
    """Two models that often disagree."""
    return make_model(architecture, 32, 2, seed=3), make_model(architecture, 32, 2, seed=4)


def same_outcome(a, b):
    return sum(a) % 3 == sum(b) % 3


def some_prompts(n):
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(3, VOCAB, (3 + i % 6,), generator=generator) for i in range(n)]


@pytest.mark.parametrize(("architecture", "n"), [("llama", 50), ("gemma2", 6), ("gpt2", 6)])
def test_labels_equal_the_sequential_reference(architecture, n):
    target, draft = unlike_pair(architecture)
    prompts = some_prompts(n)
    found = find_important_tokens(target, draft, prompts, same_outcome, max_new_tokens=14, eos_token_id=[2, 5])
    kinds = set()
    for prompt, item in zip(prompts, found, strict=True):
        mismatches, reference, response = reference_search(target, draft, prompt.tolist(), same_outcome, 14, {2, 5})
        got = [(m.position, m.target_token, m.draft_token, m.important) for m in item.mismatches]
        assert (got, item.reference, item.response) == (mismatches, reference, response)
        kinds |= {m[3] for m in mismatches}
    assert kinds == {True, False}


def test_end_tokens_default_to_the_targets(llama_pair):
    target, draft = llama_pair
    prompts = [p.tolist() for p in some_prompts(3)]
    assert target.generation_config.eos_token_id == 2
    a = find_important_tokens(target, draft, prompts, same_outcome, 10)
    assert a == find_important_tokens(target, draft, prompts, same_outcome, 10, eos_token_id=2)


@pytest.mark.parametrize(("prompts", "limit", "message"), [([[]], 5, "Prompt 0 is empty"), ([[3]], 0, "got 0")])
def test_bad_input(llama_pair, prompts, limit, message):
    with pytest.raises(ValueError, match=message):
        find_important_tokens(*llama_pair, prompts, same_outcome, limit)
