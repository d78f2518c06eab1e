"""The counts of each sequence of a batch are those of its run alone."""

import torch

from hf_autojudge import TopKRule
from tests.utils import PAD, decode, padded, prompt_ids

COUNTS = ("rounds", "target_calls", "new_tokens", "drafted", "matched", "accepted_by_judge", "histogram")


def test_counts_of_each_sequence(llama_pair):
    target, draft = llama_pair
    prompts = [prompt_ids(seed, 3 + seed) for seed in range(6)]
    call = {"max_new_tokens": 40, "eos_token_id": list(range(30, 36)), "pad_token_id": PAD}
    options = {"assistant_model": draft, "judge": TopKRule(2), "num_assistant_tokens": 4}
    with torch.no_grad():
        output = target.generate(**padded(prompts), **options, **call, do_sample=False, return_dict_in_generate=True)
    alone = [decode(target, draft, prompt, TopKRule(2), 4, **call)[1] for prompt in prompts]
    for name in COUNTS:
        assert [getattr(stats, name) for stats in output.sequence_stats] == [getattr(stats, name) for stats in alone]
        assert getattr(output.judge_stats, name) == getattr(sum(alone[1:], alone[0]), name)
    assert len({stats.new_tokens for stats in alone}) > 2
