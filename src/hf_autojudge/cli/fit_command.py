"""`hf-autojudge fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_autojudge.cli import options
from hf_autojudge.cli.loading import EMBEDDED, load_models
from hf_autojudge.cli.output import console


def fit(
    labels: Annotated[Path, typer.Argument(help="Folder of the labels.")],
    out: Annotated[Path, typer.Argument(help="Folder of the judge.")],
    target: options.Target = EMBEDDED,
    draft: options.Draft = EMBEDDED,
    features: Annotated[
        str | None,
        typer.Option(
            help="What the head reads, comma-separated: draft_token or previous, dot draft or target; scalar.kl, "
            "scalar.entropy, scalar.logprob, scalar.rank, scalar.margin. Default: both models' hidden states at the "
            "draft's token, or only the target's if the labels were made without a draft."
        ),
    ] = None,
    hidden_size: Annotated[int, typer.Option(min=0, help="Width of a hidden layer; 0 for a linear head.")] = 0,
    soft_labels: Annotated[bool, typer.Option(help="Fit on the shares from rollouts instead of hard labels.")] = False,
    validation_share: Annotated[float, typer.Option(help="Share of the prompts held out for validation.")] = 0.1,
    balanced: Annotated[
        bool | None,
        typer.Option(help="Weigh important and unimportant mismatches equally. Default: only for annotated answers."),
    ] = None,
    num_assistant_tokens: options.NumAssistantTokens = None,
    seed: Annotated[int, typer.Option(help="Of the validation split.")] = 0,
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    dtype: options.Dtype = "auto",
) -> None:
    """Train the head on labels: logistic regression on hidden states, over a grid of penalties."""
    from hf_autojudge.hub import save_judge
    from hf_autojudge.labeling import LabelStore
    from hf_autojudge.training import fit_store

    if not 0 < validation_share < 1:
        raise ValueError(f"--validation-share must lie between 0 and 1; got {validation_share}.")
    made_with = LabelStore(labels).settings
    target_model, draft_model, _ = load_models(
        target, draft if made_with["draft"] else None, device, dtype, device_map
    )
    result = fit_store(
        target_model,
        draft_model,
        labels,
        num_assistant_tokens,
        features=features.split(",") if features else None,
        hidden_size=hidden_size,
        soft_labels=soft_labels,
        validation_share=validation_share,
        balanced=made_with["method"] == "annotated" if balanced is None else balanced,
        seed=seed,
        device=str(target_model.device),
    )
    save_judge(out, result.head, fit=result.metrics())
    chosen = f"hidden layer of {hidden_size}" if result.c is None else f"C = {result.c:.3g}"
    console.print(
        f"{out}: validation AUC {result.auc:.3f} ({chosen}), {result.n_train} + {result.n_validation} "
        f"mismatches, {result.share_important:.1%} important. Next: hf-autojudge calibrate {out}"
    )
