"""`hf-autojudge generate`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from hf_autojudge.cli import options
from hf_autojudge.cli.loading import EMBEDDED, load_judge, load_models
from hf_autojudge.cli.output import console


def generate(
    judge: options.JudgeFolder,
    prompt: Annotated[str, typer.Argument(help="The prompt; `-` reads standard input.")],
    target: options.Target = EMBEDDED,
    draft: options.Draft = EMBEDDED,
    threshold: Annotated[float | None, typer.Option(help="Overrides the judge's own.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Maximum length of the answer.")] = 256,
    num_assistant_tokens: options.NumAssistantTokens = None,
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    dtype: options.Dtype = "auto",
) -> None:
    """Generate with a judge, and print the answer and what the judge did."""
    from transformers import TextStreamer

    head = load_judge(judge)
    target_model, draft_model, tokenizer = load_models(target, draft, device, dtype, device_map)
    text = sys.stdin.read() if prompt == "-" else prompt
    inputs = tokenizer(text, return_tensors="pt").to(target_model.device)
    output = target_model.generate(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        assistant_model=draft_model,
        judge=head,
        judge_threshold=threshold,
        num_assistant_tokens=num_assistant_tokens,
        max_new_tokens=max_new_tokens,
        streamer=TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True),
        return_dict_in_generate=True,
    )
    stats = output.judge_stats
    console.print(
        f"{stats.new_tokens} tokens in {stats.rounds} rounds: {stats.accepted_per_target_call:.2f} accepted per "
        f"target call, {stats.accepted_by_judge} mismatches accepted by the judge, "
        f"{stats.new_tokens / stats.seconds:.0f} tokens/s.",
        style="dim",
    )
