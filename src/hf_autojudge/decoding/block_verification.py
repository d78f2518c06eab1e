"""Block verification (Sun et al., arXiv 2403.10444, algorithm 2): sampled candidates are verified together.

Checked against vLLM's `rejection_sampler_utils.py` and NVIDIA's plain torch version of it.
"""

from __future__ import annotations

import torch

from hf_autojudge.judges import Window


def block_probabilities(window: Window, target_scores: torch.Tensor, draft_scores: torch.Tensor) -> torch.Tensor:
    """b_0 = 1 and b_i = min(1, b_(i-1) p(x_i) / q(x_i)), in float64 (they underflow otherwise): shape `(B, K + 1)`."""
    tokens = window.draft_tokens[..., None]
    log_p = target_scores[:, :-1].double().log_softmax(-1).gather(-1, tokens)[..., 0]
    log_q = draft_scores.double().log_softmax(-1).gather(-1, tokens)[..., 0]
    total = torch.nn.functional.pad((log_p - log_q).cumsum(-1), (1, 0))
    # A random walk that is held below 0: what it has lost to the barrier is its largest value so far
    log_b = total - total.cummax(-1).values
    return log_b.nan_to_num(nan=-torch.inf).exp()  # once p(x) = 0, b stays 0


def block_run(window: Window, target_scores: torch.Tensor, draft_scores: torch.Tensor) -> torch.Tensor:
    """Number of accepted candidates, shape `(B, 1)`: the last i with u_i < h_i, the probability that the block is
    accepted up to i; 0 always is."""
    b = block_probabilities(window, target_scores, draft_scores)
    p, q = target_scores[:, 1:-1].double().softmax(-1), draft_scores[:, 1:].double().softmax(-1)
    residual = (b[:, 1:-1, None] * p - q).clamp(min=0).sum(-1)  # mass that is left after i candidates, 0 < i < K
    inner = residual / (residual + 1 - b[:, 1:-1])
    h = torch.cat([inner.where(b[:, 1:-1] < 1, 1.0), b[:, -1:]], dim=-1)
    if window.num_candidates is not None:  # the last candidate of each sequence has nothing after it
        place = torch.arange(1, h.shape[1] + 1, device=h.device)
        h = b[:, 1:].where(place == window.num_candidates, h).where(place <= window.num_candidates, -1.0)
    accepted = torch.rand_like(h) < h  # u may be 0, so that <= would accept what is impossible
    places = torch.arange(1, h.shape[1] + 1, device=h.device)
    return (places * accepted).amax(-1, keepdim=True)
