"""A head with one hidden layer: AdamW on minibatches, with early stopping on the validation prompts."""

from __future__ import annotations

import torch
from sklearn.metrics import roc_auc_score
from torch.nn.functional import binary_cross_entropy_with_logits, gelu, linear

from hf_autojudge.training.feature_matrix import FeatureMatrix

BATCH_SIZE = 256  # an eighth of the training rows if that is less, but at least SMALLEST_BATCH_SIZE
SMALLEST_BATCH_SIZE = 16
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.1
ROUND_STEPS = 50  # a round is as many epochs as take this many steps, as one epoch of few rows changes little
MAX_ROUNDS = 100
PATIENCE = 8  # rounds without improvement before training stops


def fit_hidden_layer(
    train: FeatureMatrix,
    y: torch.Tensor,
    validation: FeatureMatrix,
    important: torch.Tensor,
    hidden_size: int,
    sample_weight: torch.Tensor | None = None,
    seed: int = 0,
) -> tuple[list[torch.Tensor], list[dict[str, float]], torch.Tensor]:
    """Minimize the mean of `weight * log-loss` of `linear(gelu(hidden(z)))`, and keep the round with the best
    validation ROC-AUC; among equal AUCs, the one with the smallest validation loss. The same seed gives the same
    network on the same device with the same number of threads.

    Args:
        train, validation ([`FeatureMatrix`]): Training rows in memory are drawn in random order, rows that are read in
            every pass in random order within each block.
        y (`torch.Tensor` of shape `(N,)`): Labels in [0, 1] of the training rows.
        important (`torch.BoolTensor` of shape `(M,)`): Labels of the validation rows.
        hidden_size (`int`): Width of the hidden layer.
        sample_weight (`torch.Tensor` of shape `(N,)`, *optional*): Defaults to ones.
        seed (`int`, *optional*, defaults to `0`): Of the initial weights and the order of rows.

    Returns:
        Of the best round, the parameters in the matrix's dtype (hidden weight of shape `(hidden_size, D)` and bias
        `(hidden_size,)`, output weight `(hidden_size,)` and bias `(1,)`); a dict for each round with `epoch` (its
        last), `train_loss` (its mean) and `validation_auc`; and the best round's validation logits, shape `(M,)`.
    """
    _, first = next(train.blocks())
    dtype, device = first.dtype, first.device
    generator = torch.Generator().manual_seed(seed)

    def uniform(inputs: int, *shape: int) -> torch.Tensor:  # the initialization of `torch.nn.Linear`
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
    batch_size = min(BATCH_SIZE, max(SMALLEST_BATCH_SIZE, len(train) // 8))
    validation_labels = important.to(device, dtype)
    rounds: list[dict[str, float]] = []
    best: tuple[list[torch.Tensor], torch.Tensor] = ([], y)
    best_key = (-1.0, 0.0)
    waited = epoch = 0
    while len(rounds) < MAX_ROUNDS and waited < PATIENCE:
        losses = torch.zeros((), dtype=torch.float64, device=device)
        steps = num_rows = 0
        while steps < ROUND_STEPS:
            epoch += 1
            with torch.enable_grad():
                for rows, z in train.blocks(size=len(train)):
                    for batch in torch.randperm(len(z), generator=generator).to(device).split(batch_size):
                        each = binary_cross_entropy_with_logits(logits(z[batch]), y[rows][batch], reduction="none")
                        loss = (weights[rows][batch] * each).mean()
                        optimizer.zero_grad()
                        loss.backward()
                        optimizer.step()
                        losses += loss.detach() * len(batch)
                        steps += 1
            num_rows += len(train)
        with torch.no_grad():
            scores = torch.cat([logits(z) for _, z in validation.blocks()])
        auc = float(roc_auc_score(important, scores.cpu()))
        rounds.append({"epoch": epoch, "train_loss": float(losses) / num_rows, "validation_auc": auc})
        # The AUC of few rows takes few values and can reach 1 early, so the loss decides between equal AUCs, which can
        # differ in the last bits
        key = (round(auc, 12), -float(binary_cross_entropy_with_logits(scores, validation_labels)))
        waited += 1
        if key > best_key:
            best_key, waited = key, 0
            best = ([p.detach().clone() for p in parameters], scores)
    return best[0], rounds, best[1]
