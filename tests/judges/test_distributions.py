"""The scalars equal plain formulas."""

import math

import pytest
import torch

from hf_autojudge import AutoJudgeConfig
from hf_autojudge.judges.configuration_autojudge import SCALARS
from hf_autojudge.judges.distributions import distribution_scalars


def plain(name, p_logits, q_logits, token):
    """One number, with Python's own arithmetic."""

    def softmax(logits):
        powers = [math.exp(x - max(logits)) for x in logits]
        return [x / sum(powers) for x in powers]

    if name == "scalar.kl":
        shared = min(len(p_logits), len(q_logits))
        p, q = softmax(p_logits[:shared]), softmax(q_logits[:shared])
        return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    p = softmax(p_logits)
    return {
        "scalar.entropy": -sum(a * math.log(a) for a in p),
        "scalar.logprob": math.log(p[token]),
        "scalar.rank": math.log(1 + sum(x > p_logits[token] for x in p_logits)),
        "scalar.margin": math.log(max(p) / p[token]),
    }[name]


@pytest.mark.parametrize("draft_vocabulary", [11, 9, 14])
def test_plain_formulas(draft_vocabulary):
    generator = torch.Generator().manual_seed(0)
    target = 3 * torch.randn(2, 4, 11, generator=generator)
    draft = 3 * torch.randn(2, 4, draft_vocabulary, generator=generator)
    tokens = torch.randint(9, (2, 4), generator=generator)
    names = SCALARS[::-1]
    got = distribution_scalars(names, tokens, target, draft)
    assert got.shape == (2, 4, 5) and got.dtype == torch.float32
    for b in range(2):
        for k in range(4):
            expected = [plain(n, target[b, k].tolist(), draft[b, k].tolist(), int(tokens[b, k])) for n in names]
            assert got[b, k].tolist() == pytest.approx(expected, abs=1e-4)


def test_masked_tokens_stay_finite():
    target, draft = torch.zeros(1, 1, 4), torch.zeros(1, 1, 4)
    target[..., 1] = -torch.inf
    draft[..., 2] = -torch.inf
    got = distribution_scalars(SCALARS, torch.tensor([[1]]), target, draft)
    assert got.isfinite().all() and got[0, 0].tolist() == pytest.approx([100, math.log(3), -100, math.log(4), 100])


def test_what_a_config_says():
    config = AutoJudgeConfig(features=["draft_token.target", "scalar.rank", "scalar.kl"], target_hidden_size=7)
    assert config.input_size == 9
    with pytest.raises(ValueError, match="scalar.nothing"):
        AutoJudgeConfig(features=["scalar.nothing"])
    with pytest.raises(ValueError, match="hidden_size.*-1"):
        AutoJudgeConfig(hidden_size=-1)
