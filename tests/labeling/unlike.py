"""Two random models that often disagree, prompts for them, and a task that both outcomes occur in."""

import torch

from tests.utils import VOCAB, make_model


def unlike_pair(architecture):
    """Two models that often disagree."""
    return make_model(architecture, 32, 2, seed=3), make_model(architecture, 32, 2, seed=4)


def same_outcome(a, b):
    return sum(a) % 3 == sum(b) % 3


def some_prompts(n):
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(3, VOCAB, (3 + i % 6,), generator=generator) for i in range(n)]
