"""Heads that read scalars or have a hidden layer decode as a slow reference does, in every engine."""

import numpy as np
import pytest
import torch
from torch.nn.functional import gelu
from transformers import AutoModel, CompileConfig

from hf_autojudge import AutoJudgeHead
from hf_autojudge.judges.configuration_autojudge import FEATURES, SCALARS
from hf_autojudge.judges.distributions import distribution_scalars
from tests.reference import judged_greedy, run
from tests.utils import VOCAB, decode, make_pair, prompt_ids

SIZE = 32  # hidden states of the tests' models
READ = [
    (("draft_token.draft", "draft_token.target"), 12),
    (("scalar.margin", "previous.target", "scalar.kl", "scalar.entropy"), 0),
    (("scalar.rank", "scalar.logprob"), 5),
]


def random_head(features, hidden_size, seed=0):
    """A head, and the same in plain arithmetic."""
    g = np.random.default_rng(seed)
    size = sum(1 if name in SCALARS else SIZE for name in features)
    mean, scale = g.normal(size=size), 0.5 + g.random(size)
    hidden = (g.normal(size=(hidden_size, size)) / size**0.5, g.normal(size=hidden_size)) if hidden_size else None
    weight = g.normal(size=hidden_size or size) * 2 / (hidden_size or size) ** 0.5
    head = AutoJudgeHead.from_linear(
        weight, 0.05, mean, scale, features, SIZE, SIZE, hidden=hidden, vocab_size=VOCAB, num_candidate_tokens=3
    )

    def importance(x):
        z = (x.double() - torch.from_numpy(mean)) / torch.from_numpy(scale)
        if hidden is not None:
            z = gelu(torch.from_numpy(hidden[0]) @ z + torch.from_numpy(hidden[1]))
        return torch.sigmoid(z @ torch.from_numpy(weight) + 0.05)

    return head, importance


def slow_importance(importance, features, target, draft):
    """Of a token after a text: whole texts, no cache."""

    def of(ids, token):
        states, logits = {}, {}
        for name, model in (("target", target), ("draft", draft)):
            logits[name], states[name] = run(model, [*ids, token])
        columns = []
        for name in features:
            if name in SCALARS:
                rows = (logits["target"][-2:-1], logits["draft"][-2:-1])
                columns.append(distribution_scalars([name], torch.tensor([token]), *rows)[0])
            else:
                columns.append(states[name.split(".")[1]][-1 if name.startswith("draft_token") else -2])
        return float(importance(torch.cat(columns)))

    return of


@pytest.mark.parametrize(("features", "hidden_size"), READ)
@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_equals_the_reference(architecture, features, hidden_size):
    target, draft = make_pair(architecture)
    head, importance = random_head(features, hidden_size)
    of = slow_importance(importance, features, target, draft)
    prompts = [prompt_ids(seed, 5 + seed) for seed in range(4)]
    seen = []
    for prompt in prompts:  # a threshold that keeps some mismatches, and not others
        judged_greedy(target, draft, prompt, lambda ids, token: seen.append(of(ids, token)), 4, 25, {2})
    threshold = (sorted(seen)[len(seen) // 2] + sorted(seen)[len(seen) // 2 + 1]) / 2
    call = {"max_new_tokens": 25, "judge_threshold": threshold}
    expected = []
    for prompt in prompts:
        expected.append(judged_greedy(target, draft, prompt, lambda i, t: of(i, t) < threshold, 4, 25, {2}))
        ids, stats = decode(target, draft, prompt, head, 4, **call)
        assert ids == expected[-1].ids and stats.accepted_by_judge == expected[-1].judged
        ids, _ = decode(target, draft, prompt, head, 4, **call, cache_implementation="static")
        assert ids == expected[-1].ids
    assert sum(e.judged for e in expected) > 3
    longest = max(map(len, prompts))
    batch = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    together = {"assistant_model": draft, "judge": head, "num_assistant_tokens": 4, "attention_mask": mask}
    for cache in (None, "static"):
        out = target.generate(batch, **together, **call, do_sample=False, pad_token_id=0, cache_implementation=cache)
        for row, prompt, alone in zip(out.tolist(), prompts, expected, strict=True):
            assert row[longest : longest + len(alone.ids) - len(prompt)] == alone.ids[len(prompt) :]


def test_compiled(llama_pair):
    target, draft = llama_pair
    head, _ = random_head(FEATURES + SCALARS, 6)
    config = {"cache_implementation": "static", "compile_config": CompileConfig(backend="eager", fullgraph=True)}
    call = {"max_new_tokens": 25, "judge_threshold": 0.5}
    ids, _ = decode(target, draft, prompt_ids(1), head, 4, **call)
    assert decode(target, draft, prompt_ids(1), head, 4, **call, **config)[0] == ids


def test_what_they_read():
    def reads(*features):
        return random_head(features, 0)[0].reads

    assert reads("scalar.rank") == {"target_logits"}
    assert reads("scalar.kl", "previous.draft") == {"target_logits", "draft_logits", "draft_hidden"}
    assert reads("draft_token.target", "scalar.entropy") == {"target_logits", "target_hidden"}


def test_a_hidden_layer_is_saved_and_loaded(tmp_path):
    head, importance = random_head(("previous.target", "scalar.rank"), 7)
    head.save_pretrained(tmp_path)
    x = torch.randn(4, SIZE + 1)
    for loaded in (AutoJudgeHead.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert loaded.config.hidden_size == 7 and torch.equal(loaded(x), head(x))
    assert torch.allclose(head(x.bfloat16()).sigmoid()[0].double(), importance(x[0].bfloat16()), atol=1e-6)
    with pytest.raises(ValueError, match="`hidden weight` has 6 numbers"):
        AutoJudgeHead.from_linear(
            [1.0, 2.0], 0.0, [0.0] * SIZE, [1.0] * SIZE, ["previous.target"], 0, SIZE, hidden=(torch.ones(6), [0, 0])
        )
