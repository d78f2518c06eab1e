"""The pair with random weights and scripted tokens."""

import torch
from examples.scripted_pair import TINY_DRAFT, TINY_TARGET, scripted_pair, scripted_tokens


def test_the_target_writes_the_script_also_after_the_drafts_token():
    accepted = 4
    target, draft = scripted_pair(TINY_TARGET, TINY_DRAFT, accepted, "cpu", torch.float32)
    call = {"max_new_tokens": 12, "do_sample": False}
    for last in (0, accepted + 1):
        tokens = target.generate(torch.tensor([[700, 800, last]]), **call)[0, 3:].tolist()
        assert tokens == scripted_tokens(accepted, 12) == [1, 2, 3, 4, 0] * 2 + [1, 2]
        tokens = draft.generate(torch.tensor([[700, 800, last]]), **call)[0, 3:].tolist()
        assert tokens == [1, 2, 3, 4, 5] * 2 + [1, 2]
