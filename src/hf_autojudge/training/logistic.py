"""L2 logistic regression by L-BFGS, in torch, on any device."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Standardiser:
    """Column means and standard deviations: `x -> (x - mean) / scale`, both of shape `(D,)`."""

    mean: torch.Tensor
    scale: torch.Tensor

    @classmethod
    def fit(cls, x: torch.Tensor) -> Standardiser:
        """Of a matrix of shape `(N, D)`. A constant column gets scale 1, as in scikit-learn's `StandardScaler`."""
        scale = x.std(0, correction=0)
        # A constant column has a deviation of rounding errors, not of exactly 0
        tiny = 10 * torch.finfo(x.dtype).eps * x.abs().amax(0)
        return cls(x.mean(0), torch.where(scale > tiny, scale, torch.ones_like(scale)))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean) / self.scale


def fit_logistic(
    x: torch.Tensor,
    y: torch.Tensor,
    c: float = 1.0,
    sample_weight: torch.Tensor | None = None,
    start: tuple[torch.Tensor, torch.Tensor] | None = None,
    max_iter: int = 2000,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Minimise `0.5 * |w|^2 + c * sum(weight * log-loss)`, the objective of scikit-learn's `LogisticRegression`.

    Args:
        x (`torch.Tensor` of shape `(N, D)`): Standardised features; float32 or float64 decides the arithmetic.
        y (`torch.Tensor` of shape `(N,)`): 0 or 1.
        c (`float`, *optional*, defaults to `1.0`): Inverse strength of the penalty; the bias is not penalised.
        sample_weight (`torch.Tensor` of shape `(N,)`, *optional*): Defaults to ones.
        start (`tuple`, *optional*): Weight and bias to start from; zeros by default.
        max_iter (`int`, *optional*, defaults to `2000`): Limit of L-BFGS iterations.

    Returns:
        Weight of shape `(D,)` and bias of shape `()`.
    """
    y = y.to(x.dtype)
    scale = 1.0 / (c * len(y))  # mean instead of sum: gradients stay of order one for every N and c
    weight, bias = (x.new_zeros(x.shape[1]), x.new_zeros(())) if start is None else (t.clone() for t in start)
    parameters = [weight.requires_grad_(), bias.requires_grad_()]
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=max_iter,
        max_eval=2 * max_iter,
        tolerance_grad=1e-7 if x.dtype == torch.float32 else 1e-10,
        tolerance_change=1e-9 if x.dtype == torch.float32 else 1e-14,
        history_size=30,
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        losses = torch.nn.functional.binary_cross_entropy_with_logits(x @ weight + bias, y, weight=sample_weight)
        loss = losses + 0.5 * scale * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return weight.detach(), bias.detach()


def roc_auc(scores: torch.Tensor, labels: torch.Tensor) -> float:
    """Area under the ROC curve: the probability that a positive scores above a negative, ties counted half.

    Args:
        scores (`torch.Tensor` of shape `(N,)`)
        labels (`torch.Tensor` of shape `(N,)`): 0 or 1, or booleans; both must occur.
    """
    labels = labels.bool()
    _, inverse, counts = scores.double().unique(return_inverse=True, return_counts=True)
    rank = (counts.cumsum(0) - (counts - 1) / 2)[inverse]  # average rank among equals, from 1
    positives = int(labels.sum())
    negatives = len(labels) - positives
    return float((rank[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))
