"""`hf-autojudge label`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated

import typer

from hf_autojudge.cli.arguments import EMBEDDED, ModelArguments, TaskArguments
from hf_autojudge.cli.loading import load_models, load_task, load_tokenizer
from hf_autojudge.cli.options import Group, with_options
from hf_autojudge.cli.output import console
from hf_autojudge.training import JudgeTrainer, JudgeTrainingArguments


@with_options(
    models=Group(ModelArguments),
    task=Group(TaskArguments),
    args=Group(
        JudgeTrainingArguments,
        *("output_dir", "labels_dir", "max_new_tokens", "method", "outcome", "rollouts", "temperature"),
        *("max_log_likelihood_drop", "num_suffix_tokens", "seed", "report_to", "run_name"),
        max_samples="max_train_samples",
        batch_size="label_batch_size",
    ),
)
def label(
    args: JudgeTrainingArguments,
    models: ModelArguments,
    task: TaskArguments,
    engine: Annotated[str, typer.Option(help="local, or ray (several workers; needs the extra ray).")] = "local",
    workers: Annotated[int, typer.Option(min=1, help="Number of processes, each with the models (ray).")] = 2,
    gpus_per_worker: Annotated[
        float | None,
        typer.Option(min=0, help="Number of GPUs per worker (ray). Default: 1 if there are any, else 0."),
    ] = None,
) -> None:
    """Find out which mismatches are important. The default method swaps in the draft's token, lets the target finish
    the answer, and compares the outcomes. An interrupted run continues where it stopped.

    Example: `hf-autojudge label --target-model-name-or-path Qwen/Qwen2.5-7B-Instruct --draft-model-name-or-path
    Qwen/Qwen2.5-0.5B-Instruct --task gsm8k --max-samples 500`
    """
    if engine not in ("local", "ray"):
        raise ValueError(f"--engine must be local or ray; got {engine!r}.")
    target = models.target_model_name_or_path or EMBEDDED
    draft = models.draft_model_name_or_path or (EMBEDDED if target == EMBEDDED else None)
    annotated = args.method == "annotated"
    if draft is None and not annotated:
        raise ValueError("Name the draft, too, with --draft-model-name-or-path.")
    models = replace(models, target_model_name_or_path=target, draft_model_name_or_path=None if annotated else draft)
    labelled_task = load_task(task, target, "annotated_answers" if annotated else None, measure=False)
    labelled_task.load("train", 1)  # a wrong data set is found before the models are loaded
    if engine == "local":
        store = JudgeTrainer(*load_models(models), labelled_task, args).label()
    else:
        from hf_autojudge.labeling.ray import label_samples_with_ray

        samples = labelled_task.load("train", args.max_train_samples)
        store = label_samples_with_ray(
            partial(load_models, models),
            labelled_task,
            samples,
            args.labels_folder,
            workers=workers,
            gpus_per_worker=gpus_per_worker,
            method=args.labeling_method(samples, load_tokenizer(models)),
            max_new_tokens=args.max_new_tokens,
            batch_size=args.label_batch_size,
        )
    stored = store.labelled()
    mismatches = [mismatch for prompt in stored for mismatch in prompt.mismatches]
    share = sum(mismatch.important for mismatch in mismatches) / max(1, len(mismatches))
    found = f"{len(mismatches)} mismatches, {share:.1%} important"
    if store.settings.get("outcome") == "correct":
        found += f", {sum(mismatch.helpful for mismatch in mismatches)} helpful (a wrong answer became right)"
    console.print(f"{store.folder}: {len(stored)} prompts, {found}.")
    console.print(f"Next: hf-autojudge fit --output-dir {args.output_dir}")
