"""The command line: label, fit, calibrate, evaluate, generate, import, demo."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

from hf_autojudge.cli.options import (
    EMBEDDED,
    METHODS,
    TASKS,
    load_judge,
    load_labeling_method,
    load_models,
    load_task,
    load_tokenizer,
    parse_rule,
    task_to_measure,
)

try:
    import typer
    from rich.console import Console
    from tqdm import tqdm
except ImportError as error:
    raise SystemExit(f"The command line needs more packages ({error}): pip install 'hf_autojudge[demo]'") from error

app = typer.Typer(
    name="hf-autojudge",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Train and use judges: assisted generation that keeps the draft's harmless mismatches.\n\n"
    "The four verbs, in order: **label** (mine which mismatches matter) → **fit** (train the head) → **calibrate** "
    "(choose its threshold) → **evaluate** (accuracy against speed). Without `--target` and `--draft` every verb runs "
    "on the small pair that ships with the package. Start with `hf-autojudge demo`.",
)
console = Console(width=max(116, Console().width))  # the frontier's table needs that much

Target = Annotated[str, typer.Option(help="The target model: Hub repository or folder.")]
Draft = Annotated[str, typer.Option(help="The draft model: Hub repository or folder.")]
TaskName = Annotated[
    str | None,
    typer.Option("--task", help=", ".join(TASKS) + ". By default gsm8k; the embedded pair's word_problems."),
]
AllowCode = Annotated[
    bool, typer.Option(help="Run programs that the models write (mbpp, humaneval), each in a closed process.")
]
DeviceMap = Annotated[str | None, typer.Option(help="auto spreads the target over several GPUs (needs accelerate).")]
Data = Annotated[str | None, typer.Option(help="Rows: a Hub data set or a .jsonl/.parquet/.csv file.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Use only the first so many rows.")]
MaxNewTokens = Annotated[int | None, typer.Option(min=1, help="Length limit of an answer; the task's by default.")]
NumAssistantTokens = Annotated[int | None, typer.Option(min=1, help="Candidate tokens a round.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, ... ; auto takes a GPU if there is one.")]
Dtype = Annotated[str, typer.Option(help="auto (as stored), float32, bfloat16 or float16.")]
JudgeArgument = Annotated[Path, typer.Argument(help="A judge's folder.")]


@app.command()
def label(
    out: Annotated[Path, typer.Argument(help="Folder of the labels; an interrupted run goes on where it stopped.")],
    target: Target = EMBEDDED,
    draft: Draft = EMBEDDED,
    task: TaskName = None,
    data: Data = None,
    limit: Limit = None,
    max_new_tokens: MaxNewTokens = None,
    method: Annotated[str, typer.Option(help=", ".join(METHODS) + ".")] = METHODS[0],
    rollouts: Annotated[int, typer.Option(help="autojudge: sampled continuations of each swap, for soft labels.")] = 0,
    temperature: Annotated[float, typer.Option(help="Of the rollouts.")] = 0.7,
    seed: Annotated[int, typer.Option(help="Of the rollouts.")] = 0,
    threshold: Annotated[float, typer.Option(help="selfjudge: important above this loss of log-likelihood.")] = 5.0,
    suffix: Annotated[int, typer.Option(help="selfjudge: tokens after the swap that count.")] = 20,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts at the same time, on each worker.")] = 16,
    allow_code_execution: AllowCode = False,
    engine: Annotated[str, typer.Option(help="local, or ray (several machines; needs the extra ray).")] = "local",
    workers: Annotated[int, typer.Option(min=1, help="ray: processes, each with the models loaded.")] = 2,
    gpus_per_worker: Annotated[
        float | None, typer.Option(min=0, help="ray: GPUs of each worker; 1 by default where there are any.")
    ] = None,
    device: Device = "auto",
    device_map: DeviceMap = None,
    dtype: Dtype = "auto",
) -> None:
    """Find out which mismatches matter. By default: put in the draft's token, let the target finish, and compare the
    outcomes.

    Example: `hf-autojudge label labels --target Qwen/Qwen2.5-7B-Instruct --draft Qwen/Qwen2.5-0.5B-Instruct --task
    gsm8k --limit 500`
    """
    from hf_autojudge.labeling import LabelStore
    from hf_autojudge.labeling import label_samples as run

    if engine not in ("local", "ray"):
        raise ValueError(f"--engine must be local or ray; got {engine!r}.")
    annotated = method == "annotated"
    chosen = load_task("annotated_answers" if annotated else task, data, target, allow_code_execution)
    load = partial(load_models, target, None if annotated else draft, device, dtype, device_map)
    models = load() if engine == "local" else None
    rows = chosen.load("train", limit)
    settings = {
        "rollouts": rollouts,
        "temperature": temperature,
        "seed": seed,
        "threshold": threshold,
        "suffix": suffix,
    }
    method = load_labeling_method(method, rows, models[2] if models else load_tokenizer(target), **settings)
    if models:
        running = run(*models, chosen, rows, out, max_new_tokens, method, batch_size)
    else:
        from hf_autojudge.labeling.ray import label_samples_with_ray

        running = label_samples_with_ray(
            load,
            chosen,
            rows,
            out,
            workers=workers,
            gpus_per_worker=gpus_per_worker,
            max_new_tokens=max_new_tokens,
            method=method,
            batch_size=batch_size,
        )
    for _ in tqdm(running, total=len(rows), desc="Labelling", unit="prompt"):
        pass
    stored = LabelStore(out).labelled()
    labelled = [m for item in stored for m in item.mismatches]
    share = sum(m.important for m in labelled) / max(1, len(labelled))
    console.print(f"{out}: {len(stored)} prompts, {len(labelled)} mismatches, {share:.1%} important.")


@app.command("import")
def import_(
    records: Annotated[
        Path, typer.Argument(help="Labels of the AutoJudge authors' scripts: JSON, Arrow, safetensors.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder of the labels.")],
    target: Annotated[str, typer.Option(help="The target they were made with: Hub repository or folder.")],
    draft: Annotated[str, typer.Option(help="The draft they were made with.")],
    task: Annotated[str, typer.Option(help="Name of their task.")] = "gsm8k",
) -> None:
    """Bring in labels that the AutoJudge authors' scripts have mined, to fit a judge on them."""
    from hf_autojudge.labeling import import_labels

    store = import_labels(records, out, target, draft, task)
    console.print(f"{out}: {len(store.done())} prompts. Next: hf-autojudge fit {out}")


@app.command()
def fit(
    labels: Annotated[Path, typer.Argument(help="Folder of labels.")],
    out: Annotated[Path, typer.Argument(help="Folder of the judge.")],
    target: Target = EMBEDDED,
    draft: Draft = EMBEDDED,
    features: Annotated[
        str | None,
        typer.Option(
            help="What the head reads, comma-separated: draft_token or previous, dot draft or target; scalar.kl, "
            "scalar.entropy, scalar.logprob, scalar.rank, scalar.margin. By default both models' states at the "
            "draft's token, or the target's alone where labels were made without a draft."
        ),
    ] = None,
    hidden_size: Annotated[int, typer.Option(min=0, help="Width of a hidden layer; 0 for a linear head.")] = 0,
    soft_labels: Annotated[bool, typer.Option(help="Fit on shares of rollouts instead of yes and no.")] = False,
    validation_share: Annotated[float, typer.Option(help="Share of the prompts kept for validation.")] = 0.1,
    balanced: Annotated[
        bool | None,
        typer.Option(
            help="Weigh important and unimportant mismatches equally; by default for annotated answers only."
        ),
    ] = None,
    num_assistant_tokens: NumAssistantTokens = None,
    seed: Annotated[int, typer.Option(help="Of the split.")] = 0,
    device: Device = "auto",
    device_map: DeviceMap = None,
    dtype: Dtype = "auto",
) -> None:
    """Train the head on labels: logistic regression on hidden states, over a grid of penalties."""
    from hf_autojudge.hub import save_judge
    from hf_autojudge.labeling import LabelStore
    from hf_autojudge.training import fit_store

    if not 0 < validation_share < 1:
        raise ValueError(f"--validation-share must lie between 0 and 1; got {validation_share}.")
    made_with = LabelStore(labels).settings
    pair = load_models(target, draft if made_with["draft"] else None, device, dtype, device_map)[:2]
    result = fit_store(
        *pair,
        labels,
        num_assistant_tokens,
        features=features.split(",") if features else None,
        hidden_size=hidden_size,
        soft_labels=soft_labels,
        validation_share=validation_share,
        balanced=made_with["method"] == "annotated" if balanced is None else balanced,
        seed=seed,
        device=str(pair[0].device),
    )
    save_judge(out, result.head, fit=result.metrics())
    chosen = f"hidden layer of {hidden_size}" if result.c is None else f"C = {result.c:.3g}"
    console.print(
        f"{out}: validation AUC {result.auc:.3f} ({chosen}), {result.n_train} + {result.n_validation} "
        f"mismatches, {result.share_important:.1%} important. Next: hf-autojudge calibrate {out}"
    )


@app.command()
def calibrate(
    judge: JudgeArgument,
    target: Target = EMBEDDED,
    draft: Draft = EMBEDDED,
    task: TaskName = None,
    data: Data = None,
    limit: Limit = None,
    allow_code_execution: AllowCode = False,
    max_accuracy_drop: Annotated[float, typer.Option(help="Largest drop, as a share: 0.01 is one point.")] = 0.01,
    confidence: Annotated[float, typer.Option(help="That the drop is within the limit, one-sided.")] = 0.9,
    max_new_tokens: MaxNewTokens = None,
    num_assistant_tokens: NumAssistantTokens = None,
    device: Device = "auto",
    device_map: DeviceMap = None,
    dtype: Dtype = "auto",
) -> None:
    """Choose the judge's threshold by task accuracy on validation prompts, and write it into the judge."""
    from dataclasses import asdict

    from hf_autojudge.hub import save_judge
    from hf_autojudge.training import calibrate_threshold as run

    head = load_judge(judge)
    chosen = load_task(task_to_measure(task, head), data, target, allow_code_execution)
    choice, measured = run(
        head,
        *load_models(target, draft, device, dtype, device_map),
        chosen,
        chosen.load("validation", limit),
        max_accuracy_drop,
        confidence,
        max_new_tokens=max_new_tokens,
        num_assistant_tokens=num_assistant_tokens,
    )
    head.config.threshold = choice.threshold
    save_judge(judge, head, calibration=asdict(choice) | {"settings": measured.settings})
    console.print(measured.table())
    console.print(choice.reason)
    console.print(f"{judge}: threshold {choice.threshold:.4g} written. Next: hf-autojudge evaluate {judge}")


@app.command()
def evaluate(
    judge: JudgeArgument,
    target: Target = EMBEDDED,
    draft: Draft = EMBEDDED,
    task: TaskName = None,
    data: Data = None,
    limit: Limit = None,
    allow_code_execution: AllowCode = False,
    threshold: Annotated[
        list[float] | None, typer.Option(help="Repeatable; the judge's own and its table's by default.")
    ] = None,
    rule: Annotated[list[str] | None, typer.Option(help="Also measure a rule: topk:4, kl:0.5; repeatable.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of frontier.json and .png; the judge's by default.")] = None,
    max_new_tokens: MaxNewTokens = None,
    num_assistant_tokens: NumAssistantTokens = None,
    device: Device = "auto",
    device_map: DeviceMap = None,
    dtype: Dtype = "auto",
) -> None:
    """Measure accuracy against speed on the test prompts: plain greedy, assisted generation, the judge, rules."""
    from hf_autojudge.evaluation import measure_frontier, plot_frontier
    from hf_autojudge.hub import write_card

    head = load_judge(judge)
    chosen = load_task(task_to_measure(task, head), data, target, allow_code_execution)
    thresholds = threshold or sorted({head.threshold, *(row["threshold"] for row in head.config.thresholds)})
    rules = {text: parse_rule(text) for text in rule or []}
    models = load_models(target, draft, device, dtype, device_map)
    found = measure_frontier(
        *models[:2],
        {"AutoJudge": head, **rules},
        chosen,
        thresholds,
        tokenizer=models[2],
        limit=limit,
        max_new_tokens=max_new_tokens,
        num_assistant_tokens=num_assistant_tokens,
    )
    folder = out or judge
    folder.mkdir(parents=True, exist_ok=True)
    found.to_json(folder / "frontier.json")
    plot_frontier(found, folder / "frontier.png")
    write_card(judge)
    console.print(found.table())
    console.print(f"Written: {folder / 'frontier.json'}, {folder / 'frontier.png'}, {judge / 'README.md'}")


@app.command()
def generate(
    judge: JudgeArgument,
    prompt: Annotated[str, typer.Argument(help="The prompt's text; `-` reads standard input.")],
    target: Target = EMBEDDED,
    draft: Draft = EMBEDDED,
    threshold: Annotated[float | None, typer.Option(help="Overrides the judge's own.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length limit of the answer.")] = 256,
    num_assistant_tokens: NumAssistantTokens = None,
    device: Device = "auto",
    device_map: DeviceMap = None,
    dtype: Dtype = "auto",
) -> None:
    """Generate with a judge, and print what it did."""
    from transformers import TextStreamer

    head = load_judge(judge)
    models = load_models(target, draft, device, dtype, device_map)
    text = sys.stdin.read() if prompt == "-" else prompt
    inputs = models[2](text, return_tensors="pt").to(models[0].device)
    output = models[0].generate(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        assistant_model=models[1],
        judge=head,
        judge_threshold=threshold,
        num_assistant_tokens=num_assistant_tokens,
        max_new_tokens=max_new_tokens,
        streamer=TextStreamer(models[2], skip_prompt=True, skip_special_tokens=True),
        return_dict_in_generate=True,
    )
    stats = output.judge_stats
    console.print(
        f"{stats.new_tokens} tokens in {stats.rounds} rounds: {stats.accepted_per_target_call:.2f} accepted per "
        f"target call, {stats.accepted_by_judge} mismatches kept by the judge, {stats.new_tokens / stats.seconds:.0f} "
        "tokens/s.",
        style="dim",
    )


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of everything the demo writes.")] = Path("autojudge-demo"),
    minutes: Annotated[float, typer.Option(min=0.2, help="Time to spend; more time, more problems.")] = 4.5,
    num_assistant_tokens: Annotated[int, typer.Option(min=1, help="Candidate tokens a round.")] = 32,
) -> None:
    """The whole main job on the embedded pair: label → fit → calibrate → evaluate → one answer side by side."""
    import torch

    from hf_autojudge.demo.run import run_demo

    torch.set_num_threads(1)  # for models this small, threads wait for each other longer than they compute
    run_demo(out, minutes * 60, num_assistant_tokens, console)


def main() -> None:
    """Entry point: errors in one line; exit code 2 for bad arguments and inputs."""
    try:
        code = app(standalone_mode=False)
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        # typer's usage errors have this method; their classes moved between its versions
        usage = getattr(error, "format_message", None)
        if usage is None and not isinstance(error, (ValueError, OSError, ImportError)):
            raise
        message = usage() if usage else str(error)
        print("Error: " + " ".join(message.split()), file=sys.stderr)
        code = 2
    sys.exit(code)


if __name__ == "__main__":
    main()
