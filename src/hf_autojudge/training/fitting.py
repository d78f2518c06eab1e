"""Fit a head on the features of labelled mismatches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from sklearn.metrics import roc_auc_score

from hf_autojudge.judges import AutoJudgeHead
from hf_autojudge.judges.configuration_autojudge import FEATURES, SCALARS
from hf_autojudge.training.feature_matrix import FeatureMatrix, Standardizer, free_memory, read_blocks
from hf_autojudge.training.features import MismatchFeatures
from hf_autojudge.training.logistic import logistic_path
from hf_autojudge.training.mlp import fit_hidden_layer
from hf_autojudge.training.reliability import best_calibrated, brier_score, log_loss, reliability_curve

C_GRID: tuple[float, ...] = (*(10 ** (-k / 2) for k in range(14, 0, -1)), 1.0, 3.0, 10.0, 50.0, 100.0)
"""The grid of the AutoJudge authors' training script: half-decades from 1e-7 to 10^-0.5, then 1, 3, 10, 50, 100."""


@dataclass(frozen=True)
class FitResult:
    """A fitted head and the measurements it was chosen by.

    Attributes:
        head ([`AutoJudgeHead`]): The fitted head.
        auc (`float`): ROC-AUC on the validation prompts.
        log_loss (`float`): Mean negative log-likelihood of the validation labels, in nats.
        c (`float`, *optional*): The chosen inverse penalty; `None` with a hidden layer.
        grid (`list[dict]`): `c`, `train_auc`, `validation_auc` and `validation_log_loss` of each value tried; with a
            hidden layer `epoch`, `train_loss`, `validation_auc` and `validation_log_loss` of each training round (one
            epoch; several if there are few mismatches).
        validation_scores (`torch.FloatTensor` of shape `(M,)`): Importance of the validation mismatches.
        validation_important (`torch.BoolTensor` of shape `(M,)`): Their labels.
        n_train, n_validation (`int`): Number of mismatches.
        share_important (`float`): Share of important ones among all mismatches.
    """

    head: AutoJudgeHead
    auc: float
    log_loss: float
    c: float | None
    grid: list[dict[str, float]]
    validation_scores: torch.Tensor
    validation_important: torch.Tensor
    n_train: int
    n_validation: int
    share_important: float

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features that the head reads."""
        return tuple(self.head.config.features)

    @property
    def brier_score(self) -> float:
        """Mean squared difference between the importance and the label (0 or 1) of the validation mismatches."""
        return brier_score(self.validation_scores, self.validation_important)

    @property
    def reliability(self) -> list[dict[str, float]]:
        """Of ten bins of validation mismatches, in ascending order of importance: `importance` (mean), `important`
        (share) and `count`."""
        return reliability_curve(self.validation_scores, self.validation_important)

    def metrics(self) -> dict[str, Any]:
        """The figures of the fit, serializable as JSON."""
        figures = ("auc", "log_loss", "brier_score", "c", "n_train", "n_validation", "share_important")
        names = (*figures, "reliability", "grid")
        return {name: getattr(self, name) for name in names} | {"features": list(self.features)}


def split_prompts(prompt: torch.Tensor, validation_share: float, seed: int) -> torch.Tensor:
    """From the prompt of each mismatch (int64, shape `(N,)`), which mismatches are kept for validation (bool, shape
    `(N,)`): those of a random share of the prompts. Each side gets at least one prompt, and none is on both sides.

    Raises:
        ValueError: If there are fewer than two prompts with mismatches.
    """
    prompts = prompt.unique()
    if len(prompts) < 2:
        raise ValueError(
            "Fitting needs mismatches of at least 2 prompts, so that one can be kept for validation; got "
            f"{len(prompts)}."
        )
    order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(seed))
    count = min(max(1, round(validation_share * len(prompts))), len(prompts) - 1)
    return torch.isin(prompt, prompts[order[:count]])


def fit_head(
    data: MismatchFeatures | Sequence[MismatchFeatures],
    features: Sequence[str] | None = None,
    c_grid: Sequence[float] = C_GRID,
    validation_share: float = 0.1,
    balanced: bool = False,
    soft_labels: bool = False,
    sample_weight: torch.Tensor | None = None,
    hidden_size: int = 0,
    seed: int = 0,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    hold: bool | None = None,
    **config: Any,
) -> FitResult:
    """Standardize the features, fit an L2-regularized logistic regression for each C, and choose one by the validation
    prompts: of those whose ROC-AUC is within 0.002 of the best, the one with the smallest log-loss. With
    `hidden_size`, fit a head with one hidden layer instead, and choose its training round likewise.

    AutoJudge (arXiv 2504.20039, section 3) takes the best AUC. Many penalties have nearly the same, while under the
    strongest of them all importances are nearly equal; the log-loss decides between them, so that the importance is a
    probability.

    Args:
        data ([`MismatchFeatures`] or a sequence of them): From `collect_features` or `store_features`.
        features (`Sequence[str]`, *optional*): Features the head reads; by default `("draft_token.draft",
            "draft_token.target")`, for data without draft states the latter alone.
        c_grid (`Sequence[float]`, *optional*): Inverse penalties to try; the AutoJudge authors' by default. Not used
            with a hidden layer.
        validation_share (`float`, *optional*, defaults to `0.1`): Share of the prompts kept for validation.
        balanced (`bool`, *optional*, defaults to `False`): Give both classes the same total weight in the fit.
            Afterwards the bias is shifted by the log-odds of the share of important mismatches (prior correction, King
            and Zeng, "Logistic regression in rare events data", 2001, section 4.1), so that the importance is a
            probability in the data, not in balanced data. The head's threshold, unless it is given, is that share:
            0.5 before the shift.
        soft_labels (`bool`, *optional*, defaults to `False`): Fit on the labels' `importance` in [0, 1]. AUCs are
            always measured on the binary labels.
        sample_weight (`torch.Tensor` of shape `(N,)`, *optional*): Non-negative weights of all mismatches, in order.
        hidden_size (`int`, *optional*, defaults to `0`): Width of the hidden layer; 0 for a linear head.
        seed (`int`, *optional*, defaults to `0`): Of the split, and of training the hidden layer.
        device (`str` or `torch.device`, *optional*, defaults to `"cpu"`): Where to fit.
        dtype (`torch.dtype`, *optional*, defaults to `torch.float32`): Arithmetic of the fit; or `torch.float64`.
        hold (`bool`, *optional*): Keep a standardized copy of the features on the device, instead of reading them
            in every pass. By default `True` if the copy takes at most 80% of the free memory.
        config: Further fields of [`AutoJudgeConfig`].

    Raises:
        ValueError: If a side of the split has labels of one class only, or the training side once weighted; a feature
            is not in the data; features, soft labels or weights are not finite; a soft label is outside [0, 1]; a
            weight is negative, or there is not one for each mismatch; or `c_grid` is empty or holds a value that is
            not positive and finite.
    """
    parts = [data] if isinstance(data, MismatchFeatures) else [part for part in data if len(part)]
    known = parts[0].states if parts else {}
    if features is None:
        features = [name for name in FEATURES[:2] if name in known]
    if not features or not set(features).issubset(known):
        raise ValueError(f"The data holds the features {sorted(known)}; asked for {list(features)}.")
    c_grid = sorted(map(float, c_grid))
    if not hidden_size and not (c_grid and all(0 < c < math.inf for c in c_grid)):
        raise ValueError(f"c_grid needs one value or more, each positive and finite; got {c_grid}.")
    important = torch.cat([part.important for part in parts])
    held_out = split_prompts(torch.cat([part.prompt for part in parts]), validation_share, seed)
    for name, labels in (("training", important[~held_out]), ("validation", important[held_out])):
        positives = int(labels.sum())
        if positives in (0, len(labels)):
            raise ValueError(
                f"The {name} side has {positives} important and {len(labels) - positives} unimportant mismatches; "
                "fitting needs both kinds, so label more prompts."
            )
    y = torch.cat([part.soft_labels for part in parts]) if soft_labels else important.float()
    if wrong := int((~((y >= 0) & (y <= 1))).sum()):  # also counts NaN
        raise ValueError(f"{wrong} of {len(y)} soft labels are not numbers in [0, 1].")
    if sample_weight is not None:
        if sample_weight.shape != y.shape:
            raise ValueError(
                f"sample_weight needs one weight for each of {len(y)} mismatches; its shape is "
                f"{tuple(sample_weight.shape)}."
            )
        if wrong := int((~(sample_weight.isfinite() & (sample_weight >= 0))).sum()):
            raise ValueError(f"{wrong} of {len(y)} weights in sample_weight are negative or not finite.")
        sample_weight = sample_weight.cpu()[~held_out]
    y, weights, share = _weighted(y[~held_out], sample_weight, balanced)
    shift = 0.0
    if balanced:
        shift = math.log(share / (1 - share))
        config.setdefault("threshold", share)

    # This pass checks the training rows; only the few validation rows are left to check
    standardizer = Standardizer.fit(read_blocks(parts, features, ~held_out, device, dtype, check=True))
    if hold is None:
        size = len(important) * len(standardizer.mean) * dtype.itemsize
        hold = size <= 0.8 * free_memory(device)
    train, validation = (
        FeatureMatrix(
            partial(read_blocks, parts, features, side, device, dtype, check), int(side.sum()), standardizer, hold
        )
        for side, check in ((~held_out, False), (held_out, True))
    )
    c: float | None = None
    hidden: tuple[torch.Tensor, torch.Tensor] | None = None
    if hidden_size:
        parameters, grid, scores = fit_hidden_layer(
            train, y, validation, important[held_out], hidden_size, weights, shift, seed
        )
        hidden_weight, hidden_bias, weight, bias = (p.cpu() for p in parameters)
        hidden = (hidden_weight, hidden_bias)
    else:
        solutions = logistic_path(train, y, c_grid, weights)
        stacked = (torch.stack([w for w, _ in solutions], dim=1), torch.stack([b for _, b in solutions]) + shift)
        train_scores, validation_scores = train.scores(*stacked).T.cpu(), validation.scores(*stacked).T.cpu()
        grid = [
            {
                "c": value,
                "train_auc": float(roc_auc_score(important[~held_out], train_score)),
                "validation_auc": float(roc_auc_score(important[held_out], score)),
                "validation_log_loss": log_loss(score, important[held_out]),
            }
            for value, train_score, score in zip(c_grid, train_scores, validation_scores, strict=True)
        ]
    chosen = best_calibrated(*([row[name] for row in grid] for name in ("validation_auc", "validation_log_loss")))
    if not hidden_size:
        c, scores = c_grid[chosen], validation_scores[chosen]
        weight, bias = stacked[0][:, chosen].cpu(), stacked[1][chosen].cpu()
    sizes = {name.split(".")[1]: known[name].shape[-1] for name in known if name not in SCALARS}
    head = AutoJudgeHead.from_linear(
        weight,
        bias,
        standardizer.mean.cpu(),
        standardizer.scale.cpu(),
        features=features,
        draft_hidden_size=sizes.get("draft", 0),
        target_hidden_size=sizes.get("target", 0),
        hidden=hidden,
        **config,
    )
    return FitResult(
        head=head,
        auc=grid[chosen]["validation_auc"],
        log_loss=grid[chosen]["validation_log_loss"],
        c=c,
        grid=grid,
        validation_scores=scores.sigmoid().float().cpu(),
        validation_important=important[held_out],
        n_train=len(train),
        n_validation=len(validation),
        share_important=float(important.double().mean()),
    )


def _weighted(
    y: torch.Tensor, weights: torch.Tensor | None, balanced: bool
) -> tuple[torch.Tensor, torch.Tensor | None, float]:
    """Labels and weights of the training mismatches after balancing, and the share of important ones before; no
    weights are equal weights. A soft label counts toward both classes, so balancing changes the label too.

    Raises:
        ValueError: If the weighted labels are of one class only.
    """
    given = torch.ones_like(y) if weights is None else weights.to(y.dtype)
    one, zero = (float((given.double() * side).sum()) for side in (y, 1 - y))
    if min(one, zero) <= 1e-12 * (one + zero):  # a sum this small may be a rounding error
        raise ValueError(
            f"The training side's labels, weighted, sum to {one:.3g} important and {zero:.3g} unimportant; fitting "
            "needs both kinds."
        )
    share = one / (one + zero)
    if not balanced:
        return y, weights, share
    positive, negative = given * y * (0.5 / share), given * (1 - y) * (0.5 / (1 - share))
    total = positive + negative
    return torch.where(total > 0, positive / total, y), total, share
