"""`hf-autojudge generate`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from hf_autojudge.cli.arguments import ModelArguments
from hf_autojudge.cli.loading import load_judge, load_models, recorded
from hf_autojudge.cli.options import Group, with_options
from hf_autojudge.cli.output import notes
from hf_autojudge.judges.base import check_threshold


@with_options(
    models=Group(ModelArguments),
)
def generate(
    judge: Annotated[str, typer.Argument(help="Folder or Hub repository of the judge.")],
    prompt: Annotated[str, typer.Argument(help="The prompt; `-` reads standard input.")],
    models: ModelArguments,
    judge_revision: Annotated[str, typer.Option(help="Branch, tag or commit of the judge.")] = "main",
    threshold: Annotated[
        float | None,
        typer.Option(help="Importance, between 0 and 1, below which a mismatch is accepted. Default: the judge's."),
    ] = None,
    chat_template: Annotated[
        bool, typer.Option(help="Format the prompt as a user's message, if the tokenizer has a chat template.")
    ] = True,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Maximum length of the answer, in tokens.")] = 256,
    num_assistant_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Number of candidate tokens in a round. Default: the models', then the judge's."),
    ] = None,
) -> None:
    """Generate with a judge, and print the answer and what the judge did."""
    from transformers import TextStreamer

    if threshold is not None:
        check_threshold(threshold)
    head = load_judge(judge, judge_revision)
    target, draft, tokenizer = load_models(recorded(models, head.config.to_dict(), judge))
    text = sys.stdin.read() if prompt == "-" else prompt
    inputs: Any
    if chat_template and tokenizer.chat_template:
        messages = [{"role": "user", "content": text}]
        inputs = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
    else:
        inputs = tokenizer(text, return_tensors="pt")
    output = target.generate(
        input_ids=inputs["input_ids"].to(target.device),
        attention_mask=inputs["attention_mask"].to(target.device),
        assistant_model=draft,
        tokenizer=tokenizer,
        assistant_tokenizer=tokenizer,  # the vocabularies may be padded differently
        judge=head,
        judge_threshold=threshold,
        num_assistant_tokens=num_assistant_tokens,
        max_new_tokens=max_new_tokens,
        streamer=TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True),
        return_dict_in_generate=True,
    )
    stats = output.judge_stats
    notes.print(
        f"{stats.new_tokens} tokens in {stats.rounds} rounds: {stats.accepted_per_target_call:.2f} accepted per "
        f"target call, {stats.accepted_by_judge} mismatches accepted by the judge, "
        f"{stats.new_tokens / stats.seconds:.0f} tokens/s.",
        style="dim",
    )
