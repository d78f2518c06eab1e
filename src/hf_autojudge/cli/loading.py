"""What the arguments of the commands name: models, tasks, rules and judges."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hf_autojudge.judges import AutoJudgeHead, Judge, KLRule, TopKRule

if TYPE_CHECKING:
    from hf_autojudge.tasks import Task

EMBEDDED = "embedded"
TASKS = ("gsm8k", "math", "mbpp", "humaneval", "multiple_choice", "word_problems", "annotated_answers")
DTYPES = ("auto", "float32", "bfloat16", "float16")


def load_models(
    target: str, draft: str | None, device: str = "auto", dtype: str = "auto", device_map: str | None = None
) -> tuple[Any, Any, Any]:
    """Load target, draft and the target's tokenizer, as the options of these names say. `target="embedded"` is the
    pair that ships with the package, which ignores `device_map`; `draft=None` loads no draft. With a `device_map` the
    draft is placed on the target's first device.

    Raises:
        ValueError: If only one of the models is of the embedded pair, or the dtype or the device is unknown.
    """
    from transformers import AutoModelForCausalLM

    from hf_autojudge.demo.embedded import load_pair

    if dtype not in DTYPES:
        raise ValueError(f"--dtype must be one of {', '.join(DTYPES)}; got {dtype!r}.")
    torch_dtype: Any = "auto" if dtype == "auto" else getattr(torch, dtype)
    place = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        torch.zeros(1, device=place)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {device} cannot be used here: {error}") from error
    if EMBEDDED in (target, draft):
        if draft not in (target, None):
            raise ValueError("Name both --target and --draft, or neither (for the embedded pair).")
        target_model, draft_model, tokenizer = load_pair(place, torch.float32 if dtype == "auto" else torch_dtype)
        return target_model, draft_model if draft else None, tokenizer
    load = AutoModelForCausalLM.from_pretrained
    if device_map is None:
        target_model = load(target, dtype=torch_dtype).to(place)
    else:
        target_model = load(target, dtype=torch_dtype, device_map=device_map)
        place = target_model.device
    draft_model = None if draft is None else load(draft, dtype=torch_dtype).to(place).eval()
    return target_model.eval(), draft_model, load_tokenizer(target)


def load_tokenizer(target: str) -> Any:
    """Load the target's tokenizer."""
    from transformers import AutoTokenizer

    from hf_autojudge.demo.embedded import PAIR

    return AutoTokenizer.from_pretrained(PAIR / "target" if target == EMBEDDED else target)


def load_task(
    name: str | None,
    dataset: str | None,
    target: str,
    allow_code_execution: bool = False,
    head: AutoJudgeHead | None = None,
) -> Task:
    """Make a task by its name; by default the one that the labels of `head`, to be measured on it, were made for; else
    `"word_problems"` for the embedded pair and `"gsm8k"` for others.

    Raises:
        ValueError: If there is no such task, it lacks its data set or the consent to run programs, or it is
            `"annotated_answers"`, which has no outcomes, and there is a head to measure.
    """
    from hf_autojudge import tasks
    from hf_autojudge.demo.task import word_problems_task

    name = name or (head and head.config.task) or ("word_problems" if target == EMBEDDED else "gsm8k")
    if name not in TASKS:
        raise ValueError(f"--task must be one of {', '.join(TASKS)}; got {name!r}. Your own task: see the README.")
    if name == "word_problems":
        return word_problems_task()
    if name == "annotated_answers" and head is not None:
        raise ValueError(
            "A judge made from annotated answers has no task to be measured on; name one with --task, for instance "
            "gsm8k."
        )
    if name == "annotated_answers" and dataset is None:
        raise ValueError(
            "--task annotated_answers needs --dataset, a file of samples with the columns prompt, answer and wrong."
        )
    options: dict[str, Any] = {} if dataset is None else {"dataset": dataset}
    if name in ("mbpp", "humaneval"):
        options["allow_code_execution"] = allow_code_execution
    return getattr(tasks, f"{name}_task")(**options)


def parse_rule(text: str) -> Judge:
    """Make a rule from `topk:4` or `kl:0.5`.

    Raises:
        ValueError: If `text` is neither, or its number is out of range.
    """
    kind, _, number = text.partition(":")
    try:
        if kind == "topk":
            return TopKRule(int(number))
        if kind == "kl":
            return KLRule(float(number))
    except ValueError as error:
        raise ValueError(f"--rule {text}: {error}") from error
    raise ValueError(f"--rule must look like topk:4 or kl:0.5; got {text!r}.")


def load_judge(judge: str | Path) -> AutoJudgeHead:
    """Load a trained head from a folder or the Hub.

    Raises:
        ValueError: If there is none.
    """
    try:
        return AutoJudgeHead.from_pretrained(judge)
    except OSError as error:
        raise ValueError(f"{judge} is neither a judge's folder nor a repository that can be read: {error}") from error
