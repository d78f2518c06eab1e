"""A head with one hidden layer: AdamW on minibatches, with early stopping on the validation prompts."""

from __future__ import annotations

import torch
from sklearn.metrics import roc_auc_score
from torch.nn.functional import binary_cross_entropy_with_logits, gelu, linear

from hf_autojudge.training.feature_matrix import FeatureMatrix
from hf_autojudge.training.reliability import best_calibrated, log_loss

BATCH_SIZE = 256  # an eighth of the training rows if that is less, but at least SMALLEST_BATCH_SIZE
SMALLEST_BATCH_SIZE = 16
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.1
ROUND_STEPS = 50  # a round is as many epochs as take this many steps, as one epoch of few rows changes little
MAX_ROUNDS = 100
PATIENCE = 8  # rounds after the chosen one before training stops


def fit_hidden_layer(
    train: FeatureMatrix,
    y: torch.Tensor,
    validation: FeatureMatrix,
    important: torch.Tensor,
    hidden_size: int,
    sample_weight: torch.Tensor | None = None,
    shift: float = 0.0,
    seed: int = 0,
) -> tuple[list[torch.Tensor], list[dict[str, float]], torch.Tensor]:
    """Minimize the mean of `weight * log-loss` of `linear(gelu(hidden(z)))`, and choose the round by
    [`best_calibrated`] on the validation rows. The same seed gives the same network on the same device with the same
    number of threads.

    Args:
        train, validation ([`FeatureMatrix`]): Training rows in memory are drawn in random order, rows that are read in
            every pass in random order within each block.
        y (`torch.Tensor` of shape `(N,)`): Labels in [0, 1] of the training rows.
        important (`torch.BoolTensor` of shape `(M,)`): Labels of the validation rows.
        hidden_size (`int`): Width of the hidden layer.
        sample_weight (`torch.Tensor` of shape `(N,)`, *optional*): Defaults to ones.
        shift (`float`, *optional*, defaults to `0.0`): Added to the output's bias after training, before the choice.
        seed (`int`, *optional*, defaults to `0`): Of the initial weights and the order of rows.

    Returns:
        Of the chosen round, the parameters in the matrix's dtype (hidden weight of shape `(hidden_size, D)` and bias
        `(hidden_size,)`, output weight `(hidden_size,)` and bias `(1,)`); a dict for each round with `epoch` (its
        last), `train_loss` (its mean), `validation_auc` and `validation_log_loss`; and the chosen round's validation
        logits, shape `(M,)`.
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
    rounds: list[dict[str, float]] = []
    kept: dict[int, tuple[list[torch.Tensor], torch.Tensor]] = {}  # parameters and scores of rounds to choose from
    chosen = epoch = 0
    while len(rounds) < MAX_ROUNDS and len(rounds) - chosen <= PATIENCE:
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
            scores = torch.cat([logits(z) for _, z in validation.blocks()]) + shift
        rounds.append(
            {
                "epoch": epoch,
                "train_loss": float(losses) / num_rows,
                "validation_auc": float(roc_auc_score(important, scores.cpu())),
                "validation_log_loss": log_loss(scores, important),
            }
        )
        aucs, log_losses = ([row[name] for row in rounds] for name in ("validation_auc", "validation_log_loss"))
        chosen = best_calibrated(aucs, log_losses)
        # When a later round raises the best AUC, the choice may fall on an earlier one, but only of a higher AUC
        kept[len(rounds) - 1] = ([p.detach().clone() for p in parameters], scores)
        kept = {i: kept[i] for i in kept if aucs[i] >= aucs[chosen]}
    parameters, scores = kept[chosen]
    parameters[3] += shift
    return parameters, rounds, scores
