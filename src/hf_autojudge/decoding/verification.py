"""Which candidate tokens are accepted, and which token follows them: functions without state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessorList

from hf_autojudge.decoding.block_verification import block_probabilities, block_run
from hf_autojudge.decoding.candidates import Candidates
from hf_autojudge.decoding.logits import process, sample
from hf_autojudge.decoding.sequences import Sequences
from hf_autojudge.judges import Judge, Window
from hf_autojudge.judges.base import Read, spent_with
from hf_autojudge.runners.base import to_device


@dataclass(frozen=True)
class Verification:
    """One round, verified but not yet accepted.

    Attributes:
        window ([`Window`]): What judges read.
        target_scores (`torch.FloatTensor` of shape `(B, K + 1, V)`): What the candidates are verified against: the
            target's processed logits, or the logarithm of a mixture.
        draft_scores (`torch.FloatTensor` of shape `(B, K, V)`, *optional*): The processed logits the candidates were
            drawn from; `None` if they are compared with the target's own choices.
        target_tokens (`torch.LongTensor` of shape `(B, K + 1)`): The target's own choices: argmax, or drawn from its
            scores.
    """

    window: Window
    target_scores: torch.Tensor
    draft_scores: torch.Tensor | None
    target_tokens: torch.Tensor


def verify(
    candidates: Candidates,
    sequences: Sequences,
    logits: torch.Tensor,
    hidden: torch.Tensor | None,
    processors: LogitsProcessorList,
    do_sample: bool,
    judge: Judge,
    reads: frozenset[Read],
    spent: torch.Tensor | None = None,
) -> Verification:
    """Score a round's candidates with the target, from its logits and last hidden states after the last token of
    `sequences` and after each candidate: shapes `(B, K + 1, V)` and `(B, K + 1, H)`. `reads` are the judge's, `spent`
    is the window's."""
    scores = process(processors, sequences, [candidates.tokens], logits) if processors else logits
    tokens, k, device = candidates.tokens, candidates.tokens.shape[1], logits.device
    read = {
        "target_hidden": hidden,
        "draft_hidden": candidates.hidden,
        "target_logits": logits,
        "draft_logits": candidates.logits,
        "num_candidates": None if min(candidates.counts) == k else to_device(candidates.counts, device)[:, None],
        "tokens": sequences.aligned() if "tokens" in reads else None,
        "num_new_tokens": to_device(sequences.num_new_tokens, device)[:, None] if "num_new_tokens" in reads else None,
        "spent": spent,
    }
    if "draft_scores" in reads and k:
        assert candidates.scores is not None
        window = Window(tokens, tokens, **read)  # the target has not chosen yet
        scores = torch.cat([_mixture(judge, window, scores[:, :k], candidates.scores), scores[:, k:]], dim=1)
    draft_scores = candidates.scores if candidates.sampled else None
    if do_sample and draft_scores is None and hasattr(judge, "passes") and k:
        # The source is sure of its candidates: q is 1 for each
        draft_scores = torch.full_like(scores[:, :k], -torch.inf).scatter(-1, tokens[..., None], 0.0)
    if do_sample and draft_scores is None:
        target_tokens = sample(scores.softmax(-1))[..., 0]
    else:
        target_tokens = scores.argmax(-1)
    if draft_scores is None:
        passed = tokens == target_tokens[:, :-1]
    else:
        passed = _sampled_test(judge, tokens, scores, draft_scores)
    window = Window(tokens, target_tokens[:, :-1], passed=passed, **read)
    return Verification(window, scores, draft_scores, target_tokens)


def _mixture(judge: Any, window: Window, target_scores: torch.Tensor, draft_scores: torch.Tensor) -> torch.Tensor:
    """The logarithm of the [`Mixture`] at each candidate; the target's scores after a sequence's last one, and where
    one of the distributions is unknown."""
    p, q = target_scores.softmax(-1), draft_scores.softmax(-1)
    known = window.is_candidate & (p + q).isfinite().all(-1)
    weight = judge.target_weight(window, p, q).where(known, 1.0)[..., None]
    return (weight * p + (1 - weight) * q).log().where(weight < 1, target_scores)


def _sampled_test(
    judge: Any, candidates: torch.Tensor, target_scores: torch.Tensor, draft_scores: torch.Tensor
) -> torch.Tensor:
    """Accept x with probability min(1, p(x) / q(x)) (Leviathan et al., arXiv 2211.17192, algorithm 1), or by the
    judge's own [`SamplingTest`]."""
    tokens = candidates[..., None]
    p = target_scores[:, :-1].softmax(-1).gather(-1, tokens)[..., 0]
    q = draft_scores.softmax(-1).gather(-1, tokens)[..., 0]
    u = torch.rand_like(p)
    return judge.passes(p, q, u) if hasattr(judge, "passes") else u * q < p


def accepted_run(v: Verification, judge: Judge, threshold: float | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Accept what passes the standard test, or else what the judge accepts.

    Returns:
        Length of the leading run of accepted candidates, `torch.LongTensor` of shape `(B, 1)`; and which candidates
        passed the standard test, `torch.BoolTensor` of shape `(B, K)`.
    """
    passed = v.window.passed
    assert passed is not None
    if passed.shape[1] == 0:
        return v.target_tokens.new_zeros(len(passed), 1), passed
    sampled = v.draft_scores is not None
    if v.draft_scores is not None and hasattr(judge, "verify_block"):
        return block_run(v.window, v.target_scores, v.draft_scores), torch.ones_like(passed)
    accepted = passed if sampled and hasattr(judge, "passes") else passed | judge.accept(v.window, threshold)
    if v.window.num_candidates is not None:
        accepted = accepted & v.window.is_candidate
    return accepted.long().cumprod(-1).sum(-1, keepdim=True), passed


def next_token(v: Verification, n: torch.Tensor, do_sample: bool, judge: Judge) -> torch.Tensor:
    """The target's token after the n accepted candidates: its own choice, or, after a rejected sample, a draw from
    norm(max(p - q, 0)) (arXiv 2211.17192, algorithm 1) or what the judge has instead of it. Shape `(B, 1)`, as n."""
    if not do_sample or v.draft_scores is None or v.draft_scores.shape[1] == 0:
        return v.target_tokens.gather(-1, n)
    k, vocabulary = v.draft_scores.shape[1:]

    def probabilities(scores: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        return scores.gather(1, position[..., None].expand(-1, -1, vocabulary))[:, 0].softmax(-1)

    p = probabilities(v.target_scores, n)
    rejected = n.clamp(max=k - 1)
    if getattr(judge, "residual_without_candidate", False):
        residual = p.scatter(-1, v.window.draft_tokens.gather(-1, rejected), 0.0)
    else:
        weight: Any = 1.0
        if hasattr(judge, "verify_block"):
            weight = block_probabilities(v.window, v.target_scores, v.draft_scores).gather(-1, n).to(p.dtype)
        residual = (weight * p - probabilities(v.draft_scores, rejected)).clamp(min=0)
    # After a fully accepted window there is nothing to subtract; where p equals q up to rounding, nothing remains
    use_residual = (n < v.window.is_candidate.sum(-1, keepdim=True)) & (residual.sum(-1, keepdim=True) > 0)
    return sample(torch.where(use_residual, residual, p))


def spent_after(v: Verification, n: torch.Tensor, judge: Any) -> torch.Tensor:
    """What each sequence of a [`Spender`] has spent after its n accepted candidates: shape `(B, num_budgets)`."""
    assert v.window.spent is not None
    if v.window.draft_tokens.shape[1] == 0:
        return v.window.spent
    total = torch.cat([v.window.spent[:, None], spent_with(v.window, judge.costs(v.window))], dim=1)
    return total.gather(1, n[..., None].expand(-1, -1, total.shape[-1]))[:, 0]
