"""`hf-autojudge fit`."""

from __future__ import annotations

from hf_autojudge.cli.arguments import ModelArguments
from hf_autojudge.cli.loading import load_models, recorded
from hf_autojudge.cli.options import Group, with_options
from hf_autojudge.cli.output import console
from hf_autojudge.labeling import LabelStore
from hf_autojudge.training import JudgeTrainer, JudgeTrainingArguments


@with_options(
    models=Group(ModelArguments),
    args=Group(
        JudgeTrainingArguments,
        *("output_dir", "labels_dir", "hidden_size", "soft_labels", "validation_share", "balanced"),
        *("num_assistant_tokens", "seed", "report_to", "run_name", "push_to_hub", "hub_model_id", "hub_private_repo"),
        feature="features",
    ),
)
def fit(args: JudgeTrainingArguments, models: ModelArguments) -> None:
    """Train the head on labels: logistic regression on hidden states, over a grid of penalties."""
    models = recorded(models, LabelStore(args.labels_folder).settings, args.labels_folder)
    result = JudgeTrainer(*load_models(models), args=args).fit()
    chosen = f"hidden layer of {args.hidden_size}" if result.c is None else f"C = {result.c:.3g}"
    console.print(
        f"{args.output_dir}: validation AUC {result.auc:.3f}, log-loss {result.log_loss:.3f}, Brier score "
        f"{result.brier_score:.3f} ({chosen}), {result.n_train} + {result.n_validation} mismatches, "
        f"{result.share_important:.1%} important."
    )
    console.print(f"Next: hf-autojudge calibrate --output-dir {args.output_dir}")
