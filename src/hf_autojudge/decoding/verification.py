"""Which candidate tokens are accepted, and which token follows them: functions without state."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import LogitsProcessorList

from hf_autojudge.decoding.candidates import Candidates
from hf_autojudge.decoding.logits import process, sample
from hf_autojudge.decoding.sequences import Sequences
from hf_autojudge.judges import Judge, Window
from hf_autojudge.runners.base import to_device


@dataclass(frozen=True)
class Verification:
    """One round, verified but not yet accepted.

    Attributes:
        window ([`Window`]): What judges read.
        target_scores (`torch.FloatTensor` of shape `(B, K + 1, V)`): The target's processed logits.
        draft_scores (`torch.FloatTensor` of shape `(B, K, V)`, *optional*): The processed logits the candidates were
            drawn from; `None` if they were not sampled.
        target_tokens (`torch.LongTensor` of shape `(B, K + 1)`): The target's own choices: argmax, or drawn from its
            scores.
        counts (`torch.LongTensor` of shape `(B, 1)`, *optional*): How many of each sequence's tokens are candidates;
            `None`: all K.
    """

    window: Window
    target_scores: torch.Tensor
    draft_scores: torch.Tensor | None
    target_tokens: torch.Tensor
    counts: torch.Tensor | None = None


def verify(
    candidates: Candidates,
    sequences: Sequences,
    logits: torch.Tensor,
    hidden: torch.Tensor | None,
    processors: LogitsProcessorList,
    do_sample: bool,
) -> Verification:
    """Score a round's candidates with the target, from its logits and last hidden states after the last token of
    `sequences` and after each candidate: shapes `(B, K + 1, V)` and `(B, K + 1, H)`."""
    scores = process(processors, sequences, [candidates.tokens], logits) if processors else logits
    if do_sample and candidates.scores is None:
        target_tokens = sample(scores.softmax(-1))[..., 0]
    else:
        target_tokens = scores.argmax(-1)
    all_candidates = min(candidates.counts) == candidates.tokens.shape[1]
    return Verification(
        Window(candidates.tokens, target_tokens[:, :-1], hidden, candidates.hidden, logits, candidates.logits),
        scores,
        candidates.scores,
        target_tokens,
        None if all_candidates else to_device(candidates.counts, logits.device)[:, None],
    )


def accepted_run(v: Verification, judge: Judge, threshold: float | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Accept what passes the standard test, or else what the judge accepts.

    Returns:
        Length of the leading run of accepted candidates, `torch.LongTensor` of shape `(B, 1)`; and which candidates
        passed the standard test, `torch.BoolTensor` of shape `(B, K)`.
    """
    matches = v.window.draft_tokens == v.window.target_tokens
    passed = matches if v.draft_scores is None else _speculative_sampling(v)
    if passed.shape[1] == 0:
        return v.target_tokens.new_zeros(len(passed), 1), passed
    accepted = passed | judge.accept(v.window, threshold)
    if v.counts is not None:
        accepted &= torch.arange(accepted.shape[1], device=accepted.device) < v.counts
    return accepted.long().cumprod(-1).sum(-1, keepdim=True), passed


def _speculative_sampling(v: Verification) -> torch.Tensor:
    """Accept d with probability min(1, p(d) / q(d)) (Leviathan et al., arXiv 2211.17192, algorithm 1)."""
    assert v.draft_scores is not None
    tokens = v.window.draft_tokens[..., None]
    p = v.target_scores[:, :-1].softmax(-1).gather(-1, tokens)[..., 0]
    q = v.draft_scores.softmax(-1).gather(-1, tokens)[..., 0]
    return torch.rand_like(p) * q < p


def next_token(v: Verification, n: torch.Tensor, do_sample: bool) -> torch.Tensor:
    """The target's token after the n accepted candidates: its own choice, or, after a rejected sample, a draw from
    norm(max(p - q, 0)) (arXiv 2211.17192, algorithm 1). Shape `(B, 1)`, as n."""
    if not do_sample or v.draft_scores is None or v.draft_scores.shape[1] == 0:
        return v.target_tokens.gather(-1, n)
    k, vocabulary = v.draft_scores.shape[1:]

    def probabilities(scores: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        return scores.gather(1, position[..., None].expand(-1, -1, vocabulary))[:, 0].softmax(-1)

    p = probabilities(v.target_scores, n)
    residual = (p - probabilities(v.draft_scores, n.clamp(max=k - 1))).clamp(min=0)
    # After a fully accepted window there is nothing to subtract; where p equals q up to rounding, nothing remains
    use_residual = (n < (k if v.counts is None else v.counts)) & (residual.sum(-1, keepdim=True) > 0)
    return sample(torch.where(use_residual, residual, p))
