"""Models, tasks, ways to label, rules and judges by name: what the command line's arguments mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from hf_autojudge.judges import Judge
    from hf_autojudge.labeling.methods.base import LabelingMethod
    from hf_autojudge.tasks import Task

EMBEDDED = "embedded"
TASKS = ("gsm8k", "math", "mbpp", "humaneval", "multiple_choice", "word_problems", "annotated_answers")
METHODS = ("autojudge", "selfjudge", "annotated")


def load_models(
    target: str, draft: str | None, device: str = "auto", dtype: str = "auto", device_map: str | None = None
) -> tuple[Any, Any, Any]:
    """Target, draft and tokenizer, from the Hub, from folders, or the embedded pair.

    Args:
        target (`str`)
        draft (`str`, *optional*): `None` loads none.
        device (`str`, *optional*, defaults to `"auto"`): A GPU if there is one.
        dtype (`str`, *optional*, defaults to `"auto"`): As stored; or `"float32"`, `"bfloat16"`, `"float16"`.
        device_map (`str`, *optional*): Spread the target over several devices, as `from_pretrained` does (`"auto"`;
            needs accelerate). The draft goes to the target's first device.

    Raises:
        ValueError: If only one of the two is the embedded pair's, or the dtype or the device is unknown.
    """
    from transformers import AutoModelForCausalLM

    from hf_autojudge.demo.embedded import load_pair

    dtypes: dict[str, Any] = {
        "auto": "auto",
        "float32": torch.float32,
        "bfloat16": torch.bfloat16,
        "float16": torch.float16,
    }
    if dtype not in dtypes:
        raise ValueError(f"--dtype must be one of {', '.join(dtypes)}; got {dtype!r}.")
    place = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        torch.zeros(1, device=place)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {device} cannot be used here: {error}") from error
    if EMBEDDED in (target, draft):
        if draft not in (target, None):
            raise ValueError("Name both --target and --draft, or neither (for the embedded pair).")
        pair = load_pair(place, torch.float32 if dtype == "auto" else dtypes[dtype])
        return pair if draft else (pair[0], None, pair[2])
    load = AutoModelForCausalLM.from_pretrained
    if device_map is None:
        loaded = load(target, dtype=dtypes[dtype]).to(place)
    else:
        loaded = load(target, dtype=dtypes[dtype], device_map=device_map)
        place = loaded.device
    drafting = None if draft is None else load(draft, dtype=dtypes[dtype]).to(place).eval()
    return loaded.eval(), drafting, load_tokenizer(target)


def load_tokenizer(target: str) -> Any:
    """The target's tokenizer."""
    from transformers import AutoTokenizer

    from hf_autojudge.demo.embedded import PAIR

    return AutoTokenizer.from_pretrained(PAIR / "target" if target == EMBEDDED else target)


def load_task(name: str | None, data: str | None, target: str, allow_code_execution: bool = False) -> Task:
    """The task of a name; the embedded pair's by default for that pair, else GSM8K.

    Raises:
        ValueError: If there is no such task, or it runs generated code and that was not allowed.
    """
    from hf_autojudge import tasks
    from hf_autojudge.demo.task import word_problems_task

    name = name or ("word_problems" if target == EMBEDDED else "gsm8k")
    if name not in TASKS:
        raise ValueError(f"--task must be one of {', '.join(TASKS)}; got {name!r}. Your own task: see the README.")
    if name == "word_problems":
        return word_problems_task()
    if name == "annotated_answers" and data is None:
        raise ValueError("--task annotated_answers needs --data, a file of rows with prompt, answer and wrong.")
    options: dict[str, Any] = {} if data is None else {"data": data}
    if name in ("mbpp", "humaneval"):
        options["allow_code_execution"] = allow_code_execution
    return getattr(tasks, f"{name}_task")(**options)


def task_to_measure(name: str | None, head: Any) -> str | None:
    """The task to measure a head on: the one named, else that of its labels.

    Raises:
        ValueError: If the labels have none.
    """
    name = name or head.config.task
    if name == "annotated_answers":
        raise ValueError(
            "A judge made from marked answers has no task of its own to be measured on: name one with --task, for "
            "instance gsm8k."
        )
    return name


def load_labeling_method(method: str, rows: Any, tokenizer: Any, **options: Any) -> LabelingMethod:
    """A way to label by its name.

    Args:
        method (`str`): Of [`METHODS`].
        rows, tokenizer: For `"annotated"`: all rows, and the target's tokenizer.
        options: All settings of all ways; each takes its own.

    Raises:
        ValueError: If there is no such method, or a setting is out of range.
    """
    from hf_autojudge.labeling import Annotated, AutoJudge, SelfJudge

    if method == "autojudge":
        return AutoJudge(**{name: options[name] for name in ("rollouts", "temperature", "seed")})
    if method == "selfjudge":
        return SelfJudge(**{name: options[name] for name in ("threshold", "suffix")})
    if method == "annotated":
        return Annotated(rows, tokenizer)
    raise ValueError(f"--method must be one of {', '.join(METHODS)}; got {method!r}.")


def parse_rule(text: str) -> Judge:
    """`topk:4` or `kl:0.5` as a rule.

    Raises:
        ValueError: If it is neither.
    """
    from hf_autojudge import KLRule, TopKRule

    kind, _, number = text.partition(":")
    try:
        if kind == "topk":
            return TopKRule(int(number))
        if kind == "kl":
            return KLRule(float(number))
    except ValueError as error:
        raise ValueError(f"--rule {text}: {error}") from error
    raise ValueError(f"--rule must look like topk:4 or kl:0.5; got {text!r}.")


def load_judge(judge: str | Path) -> Any:
    """The head in a folder or of the Hub.

    Raises:
        ValueError: If there is none.
    """
    from hf_autojudge import AutoJudgeHead

    try:
        return AutoJudgeHead.from_pretrained(judge)
    except OSError as error:
        raise ValueError(f"{judge} is neither a judge's folder nor a repository that can be read: {error}") from error
