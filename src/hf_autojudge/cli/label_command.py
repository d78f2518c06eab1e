"""`hf-autojudge label`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm

from hf_autojudge.cli import options
from hf_autojudge.cli.loading import EMBEDDED, load_models, load_task, load_tokenizer
from hf_autojudge.cli.output import console

METHODS = ("autojudge", "selfjudge", "annotated")


def label(
    out: Annotated[Path, typer.Argument(help="Folder of the labels; an interrupted run continues where it stopped.")],
    target: options.Target = EMBEDDED,
    draft: options.Draft = EMBEDDED,
    task: options.TaskName = None,
    dataset: options.Dataset = None,
    max_samples: options.MaxSamples = None,
    max_new_tokens: options.MaxNewTokens = None,
    method: Annotated[str, typer.Option(help=", ".join(METHODS) + ".")] = METHODS[0],
    rollouts: Annotated[int, typer.Option(help="autojudge: sampled continuations per swap, for soft labels.")] = 0,
    temperature: Annotated[float, typer.Option(help="autojudge: of the rollouts.")] = 0.7,
    seed: Annotated[int, typer.Option(help="autojudge: of the rollouts.")] = 0,
    threshold: Annotated[float, typer.Option(help="selfjudge: important above this loss of log-likelihood.")] = 5.0,
    suffix: Annotated[int, typer.Option(help="selfjudge: number of tokens after the swap that are scored.")] = 20,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts labelled at the same time, per worker.")] = 16,
    allow_code_execution: options.AllowCode = False,
    engine: Annotated[str, typer.Option(help="local, or ray (several machines; needs the extra ray).")] = "local",
    workers: Annotated[int, typer.Option(min=1, help="ray: processes, each with its own copy of the models.")] = 2,
    gpus_per_worker: Annotated[
        float | None, typer.Option(min=0, help="ray: GPUs per worker. Default: 1 if the cluster has GPUs, else 0.")
    ] = None,
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    dtype: options.Dtype = "auto",
) -> None:
    """Find out which mismatches are important. The default method swaps in the draft's token, lets the target finish
    the answer, and compares the outcomes.

    Example: `hf-autojudge label labels --target Qwen/Qwen2.5-7B-Instruct --draft Qwen/Qwen2.5-0.5B-Instruct --task
    gsm8k --max-samples 500`
    """
    from hf_autojudge import labeling

    if engine not in ("local", "ray"):
        raise ValueError(f"--engine must be local or ray; got {engine!r}.")
    if method not in METHODS:
        raise ValueError(f"--method must be one of {', '.join(METHODS)}; got {method!r}.")
    annotated = method == "annotated"
    labelled_task = load_task("annotated_answers" if annotated else task, dataset, target, allow_code_execution)
    load = partial(load_models, target, None if annotated else draft, device, dtype, device_map)
    models = load() if engine == "local" else None
    samples = labelled_task.load("train", max_samples)
    if method == "autojudge":
        chosen: Any = labeling.AutoJudge(rollouts, temperature, seed)
    elif method == "selfjudge":
        chosen = labeling.SelfJudge(threshold, suffix)
    else:
        chosen = labeling.Annotated(samples, models[2] if models else load_tokenizer(target))
    if models:
        labels = labeling.label_samples(*models, labelled_task, samples, out, max_new_tokens, chosen, batch_size)
    else:
        from hf_autojudge.labeling.ray import label_samples_with_ray

        labels = label_samples_with_ray(
            load,
            labelled_task,
            samples,
            out,
            workers=workers,
            gpus_per_worker=gpus_per_worker,
            max_new_tokens=max_new_tokens,
            method=chosen,
            batch_size=batch_size,
        )
    for _ in tqdm(labels, total=len(samples), desc="Labelling", unit="prompt"):
        pass
    stored = labeling.LabelStore(out).labelled()
    mismatches = [mismatch for prompt in stored for mismatch in prompt.mismatches]
    share = sum(mismatch.important for mismatch in mismatches) / max(1, len(mismatches))
    console.print(f"{out}: {len(stored)} prompts, {len(mismatches)} mismatches, {share:.1%} important.")
