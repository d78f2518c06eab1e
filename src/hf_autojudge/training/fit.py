"""The second verb: fit a head on labelled mismatches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hf_autojudge.judges import AutoJudgeHead
from hf_autojudge.judges.configuration_autojudge import FEATURES
from hf_autojudge.labeling.features import MismatchFeatures
from hf_autojudge.training.logistic import Standardiser, fit_logistic, roc_auc

C_GRID: tuple[float, ...] = (*(10 ** (-k / 2) for k in range(14, 0, -1)), 1.0, 3.0, 10.0, 50.0, 100.0)
"""The grid of the AutoJudge authors' training script: half-decades from 1e-7 to 10^-0.5, then 1, 3, 10, 50, 100."""


@dataclass(frozen=True)
class FitResult:
    """A fitted head and how it was chosen.

    Attributes:
        head ([`AutoJudgeHead`])
        auc (`float`): ROC-AUC on the validation prompts.
        c (`float`): The chosen inverse penalty.
        grid (`list[dict]`): `c`, `train_auc`, `validation_auc` for each value tried.
        validation_scores (`torch.FloatTensor` of shape `(M,)`): Importance of the validation mismatches.
        validation_important (`torch.BoolTensor` of shape `(M,)`): Their labels.
        n_train, n_validation (`int`): Mismatches.
        share_important (`float`): Of all mismatches.
    """

    head: AutoJudgeHead
    auc: float
    c: float
    grid: list[dict[str, float]]
    validation_scores: torch.Tensor
    validation_important: torch.Tensor
    n_train: int
    n_validation: int
    share_important: float

    @property
    def features(self) -> tuple[str, ...]:
        """What the head reads."""
        return tuple(self.head.config.features)

    def metrics(self) -> dict[str, Any]:
        """Plain numbers, ready for JSON."""
        names = ("auc", "c", "n_train", "n_validation", "share_important", "grid")
        return {name: getattr(self, name) for name in names} | {"features": list(self.features)}


def split_prompts(prompt: torch.Tensor, validation_share: float, seed: int) -> torch.Tensor:
    """Mask of the mismatches whose prompt falls to validation: shape `(N,)`, bool. No prompt is on both sides.

    Raises:
        ValueError: If there are fewer than two prompts with mismatches.
    """
    prompts = prompt.unique()
    if len(prompts) < 2:
        raise ValueError(
            f"Fitting needs mismatches of at least 2 prompts, to validate on prompts not fitted on; got "
            f"{len(prompts)}."
        )
    order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(seed))
    count = min(max(1, round(validation_share * len(prompts))), len(prompts) - 1)
    return torch.isin(prompt, prompts[order[:count]])


def fit(
    data: MismatchFeatures,
    features: Sequence[str] = FEATURES[:2],
    c_grid: Sequence[float] = C_GRID,
    validation_share: float = 0.1,
    balanced: bool = False,
    seed: int = 0,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    **config: Any,
) -> FitResult:
    """Standardise, fit an L2 logistic regression for each C, keep the one of best validation ROC-AUC (AutoJudge, arXiv
    2504.20039, section 3). Of equal AUCs the strongest penalty wins.

    Args:
        data ([`MismatchFeatures`]): From `collect_features`.
        features (`Sequence[str]`, *optional*, defaults to `("draft_token.draft", "draft_token.target")`): What the
            head reads.
        c_grid (`Sequence[float]`, *optional*): Inverse penalties to try; the AutoJudge authors' by default.
        validation_share (`float`, *optional*, defaults to `0.1`): Share of the prompts kept for validation.
        balanced (`bool`, *optional*, defaults to `False`): Weigh the two classes equally.
        seed (`int`, *optional*, defaults to `0`): Of the split.
        device (`str` or `torch.device`, *optional*, defaults to `"cpu"`): Where to fit.
        dtype (`torch.dtype`, *optional*, defaults to `torch.float32`): Or `torch.float64`.
        config: Further fields of [`AutoJudgeConfig`].

    Raises:
        ValueError: If a side of the split has labels of one class only, or a feature is not in the data.
    """
    missing = [name for name in features if name not in data.states]
    if missing or not features:
        raise ValueError(f"The data holds the features {sorted(data.states)}; asked for {list(features)}.")
    held_out = split_prompts(data.prompt, validation_share, seed)
    for name, labels in (("training", data.important[~held_out]), ("validation", data.important[held_out])):
        positives = int(labels.sum())
        if positives in (0, len(labels)):
            raise ValueError(
                f"The {name} side has {positives} important and {len(labels) - positives} unimportant mismatches; "
                "fitting needs both kinds, so label more prompts."
            )
    x, y = data.matrix(features).to(device, dtype), data.important.to(device)
    held_out = held_out.to(device)
    x_train, y_train, y_validation = x[~held_out], y[~held_out], y[held_out]
    standardise = Standardiser.fit(x_train)
    z_train, z_validation = standardise(x_train), standardise(x[held_out])
    weights = None
    if balanced:
        share = y_train.double().mean()
        weights = torch.where(y_train, 0.5 / share, 0.5 / (1 - share)).to(dtype)

    grid: list[dict[str, float]] = []
    solutions: list[tuple[torch.Tensor, torch.Tensor]] = []
    for c in sorted(c_grid):
        start = solutions[-1] if solutions else None  # the last one is close
        weight, bias = fit_logistic(z_train, y_train, c, weights, start)
        solutions.append((weight, bias))
        row = {
            "c": float(c),
            "train_auc": roc_auc(z_train @ weight + bias, y_train),
            "validation_auc": roc_auc(z_validation @ weight + bias, y_validation),
        }
        grid.append(row)
    best = max(range(len(grid)), key=lambda i: grid[i]["validation_auc"])  # the first of equals
    weight, bias = solutions[best]
    head = AutoJudgeHead.from_linear(
        weight.cpu(),
        bias.cpu(),
        standardise.mean.cpu(),
        standardise.scale.cpu(),
        features=features,
        draft_hidden_size=data.states["draft_token.draft"].shape[-1],
        target_hidden_size=data.states["draft_token.target"].shape[-1],
        **config,
    )
    return FitResult(
        head=head,
        auc=grid[best]["validation_auc"],
        c=grid[best]["c"],
        grid=grid,
        validation_scores=(z_validation @ weight + bias).sigmoid().float().cpu(),
        validation_important=y_validation.cpu(),
        n_train=len(y_train),
        n_validation=len(y_validation),
        share_important=float(data.important.double().mean()),
    )
