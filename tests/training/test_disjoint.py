"""Validation prompts are not test prompts."""

import pytest

from hf_autojudge.training import check_disjoint
from hf_autojudge.training.disjoint import prompt_digests


def test_shared_prompts_are_counted(task, tokenizer):
    samples = task.load("test", None)
    check_disjoint(samples[:3], samples[3:], task, tokenizer)
    check_disjoint([], samples, task, tokenizer)
    # the prompt counts, not the sample
    other = [samples[1] | {"answer": "another"}, {"ids": [1, 2]}, samples[1]]
    with pytest.raises(ValueError, match="2 of 3 test prompts are also validation prompts"):
        check_disjoint(samples[:3], other, task, tokenizer)


def test_digests_know_where_a_token_ends(task, tokenizer):
    digests = prompt_digests([{"ids": [1, 23]}, {"ids": [12, 3]}, {"ids": [1, 2, 3]}], task, tokenizer)
    assert len(set(digests)) == 3 and {len(digest) for digest in digests} == {16}
