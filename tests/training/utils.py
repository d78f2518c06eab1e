"""Synthetic features for the tests of fitting."""

import torch

from hf_autojudge.training import MismatchFeatures


def make_data(n=600, draft=6, target=10, seed=0, prompts=40):
    """Random features of `n` mismatches, with labels that a noisy line through the draft tokens' states decides."""
    generator = torch.Generator().manual_seed(seed)
    names = {
        "draft_token.draft": draft,
        "draft_token.target": target,
        "previous.draft": draft,
        "previous.target": target,
    }
    states = {name: torch.randn(n, size, generator=generator) * 3 + 1 for name, size in names.items()}
    x = torch.cat([states["draft_token.draft"], states["draft_token.target"]], dim=-1)
    w = torch.randn(x.shape[1], generator=generator)
    noise = torch.randn(n, generator=generator) * 4
    important = x @ w + noise > (x @ w).quantile(0.7)
    return MismatchFeatures(states, important, torch.randint(prompts, (n,), generator=generator))
