"""`hf-autojudge evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_autojudge.cli import options
from hf_autojudge.cli.loading import EMBEDDED, load_judge, load_models, load_task, parse_rule
from hf_autojudge.cli.output import console


def evaluate(
    judge: options.JudgeFolder,
    target: options.Target = EMBEDDED,
    draft: options.Draft = EMBEDDED,
    task: options.TaskName = None,
    dataset: options.Dataset = None,
    max_samples: options.MaxSamples = None,
    allow_code_execution: options.AllowCode = False,
    threshold: Annotated[
        list[float] | None, typer.Option(help="Repeatable. Default: the judge's own and those of its table.")
    ] = None,
    rule: Annotated[list[str] | None, typer.Option(help="Also measure a rule: topk:4, kl:0.5. Repeatable.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of frontier.json and frontier.png. Default: the judge's.")
    ] = None,
    max_new_tokens: options.MaxNewTokens = None,
    num_assistant_tokens: options.NumAssistantTokens = None,
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    dtype: options.Dtype = "auto",
) -> None:
    """Measure accuracy against speed on the test samples: plain greedy, assisted generation, the judge, rules."""
    from hf_autojudge.evaluation import measure_frontier, plot_frontier
    from hf_autojudge.hub import write_card

    head = load_judge(judge)
    measured_task = load_task(task, dataset, target, allow_code_execution, head)
    thresholds = threshold or sorted({head.threshold, *(row["threshold"] for row in head.config.thresholds)})
    rules = {name: parse_rule(name) for name in rule or []}
    target_model, draft_model, tokenizer = load_models(target, draft, device, dtype, device_map)
    frontier = measure_frontier(
        target_model,
        draft_model,
        {"AutoJudge": head, **rules},
        measured_task,
        thresholds,
        tokenizer=tokenizer,
        max_samples=max_samples,
        max_new_tokens=max_new_tokens,
        num_assistant_tokens=num_assistant_tokens,
    )
    folder = out or judge
    folder.mkdir(parents=True, exist_ok=True)
    frontier.to_json(folder / "frontier.json")
    plot_frontier(frontier, folder / "frontier.png")
    write_card(judge)
    console.print(frontier.table())
    console.print(f"Written: {folder / 'frontier.json'}, {folder / 'frontier.png'}, {judge / 'README.md'}")
