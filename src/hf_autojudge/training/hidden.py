"""A head with one hidden layer: AdamW on minibatches, stopped by the validation prompts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, gelu, linear

from hf_autojudge.training.auc import roc_auc
from hf_autojudge.training.rows import Rows

BATCH = 256
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.1
EPOCHS = 100  # at most
PATIENCE = 8  # epochs without a better validation AUC


@dataclass(frozen=True)
class HiddenLayerFit:
    """The network of the best epoch.

    Attributes:
        parameters (`list[torch.Tensor]`): Hidden weight `(hidden size, D)` and bias `(hidden size,)`, output weight
            `(hidden size,)` and bias `(1,)`; in the rows' dtype.
        epochs (`list[dict]`): `epoch`, `train_loss` (mean over the epoch), `validation_auc`.
        scores (`torch.Tensor` of shape `(M,)`): Logits of the validation rows.
    """

    parameters: list[torch.Tensor]
    epochs: list[dict[str, float]]
    scores: torch.Tensor


def fit_hidden_layer(
    train: Rows,
    y: torch.Tensor,
    validation: Rows,
    important: torch.Tensor,
    hidden_size: int,
    sample_weight: torch.Tensor | None = None,
    seed: int = 0,
) -> HiddenLayerFit:
    """Minimise the mean of `weight * log-loss` of `linear(gelu(hidden(z)))`, and keep the epoch of best validation
    ROC-AUC, the first of equals. The same seed gives the same network on the same device and number of threads.

    Args:
        train, validation ([`Rows`]): Standardised. Held rows are drawn in random order; rows that are read anew come
            block by block, in random order within a block.
        y (`torch.Tensor` of shape `(N,)`): Labels in [0, 1] of the training rows.
        important (`torch.BoolTensor` of shape `(M,)`): Labels of the validation rows.
        hidden_size (`int`)
        sample_weight (`torch.Tensor` of shape `(N,)`, *optional*): Defaults to ones.
        seed (`int`, *optional*, defaults to `0`): Of the first weights and the order of rows.
    """
    _, first = next(train.blocks())
    dtype, device = first.dtype, first.device
    generator = torch.Generator().manual_seed(seed)

    def uniform(inputs: int, *shape: int) -> torch.Tensor:  # as torch.nn.Linear begins
        return ((2 * torch.rand(shape, generator=generator) - 1) * inputs**-0.5).to(device, dtype).requires_grad_()

    width = train.width
    parameters = [
        uniform(width, hidden_size, width),
        uniform(width, hidden_size),
        uniform(hidden_size, hidden_size),
        uniform(hidden_size, 1),
    ]

    def logits(z: torch.Tensor) -> torch.Tensor:
        return gelu(linear(z, parameters[0], parameters[1])) @ parameters[2] + parameters[3]

    y = y.to(device, dtype)
    weights = torch.ones_like(y) if sample_weight is None else sample_weight.to(device, dtype)
    weights = weights / weights.mean()
    optimizer = torch.optim.AdamW(parameters, LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    epochs: list[dict[str, float]] = []
    best = HiddenLayerFit([], [], y)
    best_auc = -1.0
    waited = 0
    for epoch in range(1, EPOCHS + 1):
        losses = torch.zeros((), dtype=torch.float64, device=device)
        with torch.enable_grad():
            for rows, z in train.blocks(size=len(train)):
                for some in torch.randperm(len(z), generator=generator).to(device).split(BATCH):
                    each = binary_cross_entropy_with_logits(logits(z[some]), y[rows][some], reduction="none")
                    loss = (weights[rows][some] * each).mean()
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    losses += loss.detach() * len(some)
        with torch.no_grad():
            scores = torch.cat([logits(z) for _, z in validation.blocks()])
        auc = roc_auc(scores, important.to(device))
        epochs.append({"epoch": epoch, "train_loss": float(losses) / len(train), "validation_auc": auc})
        if auc > best_auc:
            best_auc, waited = auc, 0
            best = HiddenLayerFit([p.detach().clone() for p in parameters], epochs, scores)
        else:
            waited += 1
        if waited == PATIENCE:
            break
    return best
