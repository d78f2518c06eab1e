"""Features equal what a judge would see, computed slowly."""

import pytest
import torch

from hf_autojudge.labeling import collect_features, find_important_tokens
from tests.labeling.test_autojudge import same_outcome, some_prompts, unlike_pair
from tests.reference import run


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_features_are_what_a_judge_would_see(architecture):
    target, draft = unlike_pair(architecture)
    labelled = find_important_tokens(target, draft, some_prompts(4), same_outcome, 14, eos_token_id=[2])
    data = collect_features(target, draft, labelled)
    row = 0
    for index, item in enumerate(labelled):
        for m in item.mismatches:
            text = [*item.prompt, *item.response[: m.position], m.draft_token]
            for name, model in (("target", target), ("draft", draft)):
                states = run(model, text)[1]
                assert torch.allclose(data.states[f"draft_token.{name}"][row], states[-1], atol=1e-4)
                assert torch.allclose(data.states[f"previous.{name}"][row], states[-2], atol=1e-4)
            assert bool(data.important[row]) == m.important and int(data.prompt[row]) == index
            row += 1
    assert row == len(data.important) and 0 < int(data.important.sum()) < row


def test_features_round_trip(llama_pair, tmp_path):
    labelled = find_important_tokens(*llama_pair, some_prompts(2), same_outcome, 8)
    data = collect_features(*llama_pair, labelled)
    data.save(tmp_path / "features.safetensors")
    again = type(data).load(tmp_path / "features.safetensors")
    assert torch.equal(data.matrix(["previous.draft"]), again.matrix(["previous.draft"]))
    assert torch.equal(data.important, again.important) and torch.equal(data.prompt, again.prompt)
    (tmp_path / "features.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match="collect them again"):
        type(data).load(tmp_path / "features.safetensors")
