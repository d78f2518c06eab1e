"""Which candidates stay, and which token follows them: small functions without state, composable in a list.

A *test* is a callable that maps a [`Verification`] to a mask of shape `(B, K)`; a candidate stays if any test of the
list accepts it. The first test of the list is the standard one (exact match, or the sampling test), the judge is the
second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from hf_autojudge.judges import Judge, Window


@dataclass(frozen=True)
class Verification:
    """One round as the tests see it.

    Attributes:
        window ([`Window`]): What judges read.
        target_scores (`torch.FloatTensor` of shape `(B, K + 1, V)`): The target's processed logits.
        draft_scores (`torch.FloatTensor` of shape `(B, K, V)`, *optional*): The processed logits the candidates were
            drawn from; `None` for sources without a model.
        choices (`torch.LongTensor` of shape `(B, K + 1)`): The target's own tokens: argmax, or drawn from its scores.
        counts (`torch.LongTensor` of shape `(B, 1)`, *optional*): How many of each row's tokens are candidates;
            `None`: all K.
    """

    window: Window
    target_scores: torch.Tensor
    draft_scores: torch.Tensor | None
    choices: torch.Tensor
    counts: torch.Tensor | None = None


Test = Callable[[Verification], torch.Tensor]


def sample(probabilities: torch.Tensor) -> torch.Tensor:
    """Draw one index from each row of probabilities, shape `(..., V)`: shape `(..., 1)`.

    As `torch.multinomial`, but without its look at the numbers, which would wait for the device (exponential race, as
    in gpt-fast)."""
    return (probabilities / torch.empty_like(probabilities).exponential_()).argmax(-1, keepdim=True)


def exact_match(v: Verification) -> torch.Tensor:
    """Accept what the target itself chose."""
    return v.window.draft_tokens == v.choices[:, :-1]


def speculative_sampling(v: Verification) -> torch.Tensor:
    """Accept d with probability min(1, p(d) / q(d)) (Leviathan et al., arXiv 2211.17192, algorithm 1)."""
    assert v.draft_scores is not None
    tokens = v.window.draft_tokens[..., None]
    p = v.target_scores[:, :-1].softmax(-1).gather(-1, tokens)[..., 0]
    q = v.draft_scores.softmax(-1).gather(-1, tokens)[..., 0]
    return torch.rand_like(p) * q < p


def judge_test(judge: Judge, threshold: float | None = None) -> Test:
    """Accept what the judge accepts."""
    return lambda v: judge.accept(v.window, threshold)


def accepted_run(tests: Sequence[Test], v: Verification) -> tuple[torch.Tensor, torch.Tensor]:
    """Apply the tests.

    Returns:
        `n` of shape `(B, 1)`: length of the leading run of accepted candidates; and the first test's mask, `(B, K)`.
    """
    standard = tests[0](v)
    kept = standard
    for test in tests[1:]:
        kept = kept | test(v)
    if v.counts is not None:
        kept = kept & (torch.arange(kept.shape[1], device=kept.device) < v.counts)
    return kept.long().cumprod(-1).sum(-1, keepdim=True), standard


def next_token(v: Verification, n: torch.Tensor, do_sample: bool) -> torch.Tensor:
    """The target's token after the n kept candidates: its own choice, or, after a rejected sample, a draw from
    norm(max(p - q, 0)) (arXiv 2211.17192, algorithm 1).

    Args:
        n (`torch.LongTensor` of shape `(B, 1)`): Kept candidates, 0..K.

    Returns:
        `torch.LongTensor` of shape `(B, 1)`.
    """
    if not do_sample or v.draft_scores is None or v.draft_scores.shape[1] == 0:
        return v.choices.gather(-1, n)
    k, vocabulary = v.draft_scores.shape[1:]

    def row(scores: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return scores.gather(1, index[..., None].expand(-1, -1, vocabulary))[:, 0].softmax(-1)

    p = row(v.target_scores, n)
    residual = (p - row(v.draft_scores, n.clamp(max=k - 1))).clamp(min=0)
    # After a full window there is nothing to subtract; and where p equals q up to rounding, nothing is left of it.
    use_residual = (n < (k if v.counts is None else v.counts)) & (residual.sum(-1, keepdim=True) > 0)
    return sample(torch.where(use_residual, residual, p))
