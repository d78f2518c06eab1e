"""`hf-autojudge calibrate`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from hf_autojudge.cli import options
from hf_autojudge.cli.loading import EMBEDDED, load_judge, load_models, load_task
from hf_autojudge.cli.output import console


def calibrate(
    judge: options.JudgeFolder,
    target: options.Target = EMBEDDED,
    draft: options.Draft = EMBEDDED,
    task: options.TaskName = None,
    dataset: options.Dataset = None,
    max_samples: options.MaxSamples = None,
    allow_code_execution: options.AllowCode = False,
    max_accuracy_drop: Annotated[float, typer.Option(help="Largest drop, as a share: 0.01 is one point.")] = 0.01,
    confidence: Annotated[float, typer.Option(help="One-sided confidence that the drop is not larger.")] = 0.9,
    max_new_tokens: options.MaxNewTokens = None,
    num_assistant_tokens: options.NumAssistantTokens = None,
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    dtype: options.Dtype = "auto",
) -> None:
    """Choose the judge's threshold by task accuracy on validation samples, and write it into the judge."""
    from hf_autojudge.hub import save_judge
    from hf_autojudge.training import calibrate_threshold

    head = load_judge(judge)
    measured_task = load_task(task, dataset, target, allow_code_execution, head)
    choice, measured = calibrate_threshold(
        head,
        *load_models(target, draft, device, dtype, device_map),
        measured_task,
        measured_task.load("validation", max_samples),
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
