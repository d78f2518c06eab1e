"""A head with one hidden layer: AdamW on minibatches, stopped by the validation prompts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sklearn.metrics import roc_auc_score
from torch.nn.functional import binary_cross_entropy_with_logits, gelu, linear

from hf_autojudge.training.feature_matrix import Rows

BATCH = 256  # rows of a step; of few rows an eighth, but at least SMALLEST_BATCH
SMALLEST_BATCH = 16
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.1
# With few rows an epoch is a few steps, after which little can have changed: a round is as many epochs as make
# ROUND_STEPS steps, and one epoch where that has as many
ROUND_STEPS = 50
ROUNDS = 100  # at most
PATIENCE = 8  # rounds without a better network


@dataclass(frozen=True)
class HiddenLayerFit:
    """The network of the best round.

    Attributes:
        parameters (`list[torch.Tensor]`): Hidden weight `(hidden size, D)` and bias `(hidden size,)`, output weight
            `(hidden size,)` and bias `(1,)`; in the rows' dtype.
        rounds (`list[dict]`): Of each round `epoch` (its last), `train_loss` (mean over the round), `validation_auc`.
        scores (`torch.Tensor` of shape `(M,)`): Logits of the validation rows.
    """

    parameters: list[torch.Tensor]
    rounds: list[dict[str, float]]
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
    """Minimise the mean of `weight * log-loss` of `linear(gelu(hidden(z)))`, and keep the round of best validation
    ROC-AUC, of equals the one of least validation loss. The same seed gives the same network on the same device and
    number of threads.

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
    batch = min(BATCH, max(SMALLEST_BATCH, len(train) // 8))
    truth = important.to(device)
    rounds: list[dict[str, float]] = []
    best = HiddenLayerFit([], [], y)
    best_key = (-1.0, 0.0)
    waited = epoch = 0
    while len(rounds) < ROUNDS and waited < PATIENCE:
        losses = torch.zeros((), dtype=torch.float64, device=device)
        steps = seen = 0
        while steps < ROUND_STEPS:
            epoch += 1
            with torch.enable_grad():
                for rows, z in train.blocks(size=len(train)):
                    for some in torch.randperm(len(z), generator=generator).to(device).split(batch):
                        each = binary_cross_entropy_with_logits(logits(z[some]), y[rows][some], reduction="none")
                        loss = (weights[rows][some] * each).mean()
                        optimizer.zero_grad()
                        loss.backward()
                        optimizer.step()
                        losses += loss.detach() * len(some)
                        steps += 1
            seen += len(train)
        with torch.no_grad():
            scores = torch.cat([logits(z) for _, z in validation.blocks()])
        auc = float(roc_auc_score(important, scores.cpu()))
        rounds.append({"epoch": epoch, "train_loss": float(losses) / seen, "validation_auc": auc})
        # The AUC of few rows takes few values, and may be 1 long before the network is done
        key = (auc, -float(binary_cross_entropy_with_logits(scores, truth.to(dtype))))
        waited += 1
        if key > best_key:
            best_key, waited = key, 0
            best = HiddenLayerFit([p.detach().clone() for p in parameters], rounds, scores)
    return best
