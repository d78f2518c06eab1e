"""The head as a published model: saved, loaded, refused when damaged."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel

from hf_autojudge import AutoJudgeConfig, AutoJudgeHead, Judge, TopKRule, Window


def make_head(**config):
    torch.manual_seed(0)
    return AutoJudgeHead.from_linear(
        np.random.default_rng(0).normal(size=(1, 12)),
        [0.3],
        torch.zeros(12),
        torch.full((12,), 2.0),
        draft_hidden_size=4,
        target_hidden_size=8,
        **config,
    )


def test_round_trip(tmp_path):
    table = [{"threshold": 0.1, "recall": 1.0, "accepted": 0.4}]
    head = make_head(
        threshold=0.3,
        target="org/t",
        target_revision="abc",
        draft="org/d",
        vocab_size=99,
        num_candidate_tokens=6,
        thresholds=table,
        task="x",
    )
    head.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.bin")) and (tmp_path / "model.safetensors").exists()
    x = torch.randn(5, 12)
    for loaded in (AutoJudgeHead.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert type(loaded) is AutoJudgeHead and isinstance(loaded, Judge)
        assert torch.allclose(loaded(x), head(x))
        assert loaded.config.to_dict() == AutoConfig.from_pretrained(tmp_path).to_dict()
        assert (loaded.threshold, loaded.num_assistant_tokens, loaded.config.thresholds) == (0.3, 6, table)
        assert loaded.reads == {"draft_hidden", "target_hidden"}


def test_importance_is_plain_arithmetic():
    head = make_head()
    window = Window(
        draft_tokens=torch.zeros(1, 3, dtype=torch.long),
        target_tokens=torch.ones(1, 3, dtype=torch.long),
        target_hidden=torch.randn(1, 4, 8).bfloat16(),
        draft_hidden=torch.randn(1, 4, 4).bfloat16(),
    )
    x = torch.cat([window.draft_hidden[:, 1:], window.target_hidden[:, 1:]], dim=-1).float()
    expected = torch.sigmoid((x - head.mean) / head.scale @ head.linear.weight[0] + head.linear.bias)
    assert torch.allclose(head.importance(window), expected)
    for threshold in (0.0, 0.4, 1.0):
        assert torch.equal(head.accept(window, threshold), expected < threshold)
    head.linear.bias.data.fill_(1e9)  # an importance that rounds to 1
    assert head.accept(window, 1.0).all() and not head.accept(window, 0.999).any()


@pytest.mark.parametrize("damage", ["truncate", "garbage", "empty", "other", "nan", "negative scale"])
def test_a_damaged_file_is_refused(tmp_path, damage):
    head = make_head()
    if damage == "nan":
        head.linear.bias.data.fill_(float("nan"))
    if damage == "negative scale":
        head.scale.neg_()
    head.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    if damage == "truncate":
        path.write_bytes(whole[:-20])
    elif damage == "garbage":
        path.write_bytes(b"\xff" * 300)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "other":
        make_other = AutoJudgeHead(AutoJudgeConfig(target_hidden_size=5, draft_hidden_size=2))
        make_other.save_pretrained(tmp_path / "other")
        path.write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match="(download|fit) "):
        AutoJudgeHead.from_pretrained(tmp_path)


def test_weights_with_a_missing_part_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    make_head().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["mean"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="missing_keys.*mean"):
        AutoJudgeHead.from_pretrained(tmp_path)


def test_pickled_weights_are_never_read(tmp_path):
    head = make_head()
    head.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(head.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        AutoJudgeHead.from_pretrained(tmp_path)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_thresholds_out_of_range(tmp_path, threshold):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        make_head(threshold=threshold)
    make_head().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"threshold": threshold}))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        AutoJudgeHead.from_pretrained(tmp_path)


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="`mean` has 3 numbers.*need 12"):
        AutoJudgeHead.from_linear(
            torch.ones(12), 0.0, torch.ones(3), torch.ones(12), draft_hidden_size=4, target_hidden_size=8
        )
    with pytest.raises(ValueError, match="features"):
        AutoJudgeConfig(features=["kl"])


def test_rules_check_their_arguments():
    from hf_autojudge import KLRule

    for make in (lambda: TopKRule(0), lambda: KLRule(-1.0), lambda: KLRule(float("nan")), lambda: KLRule(1.0, 1.5)):
        with pytest.raises(ValueError, match="needs"):
            make()
    assert isinstance(TopKRule(2), Judge) and TopKRule(2) == TopKRule(2)
