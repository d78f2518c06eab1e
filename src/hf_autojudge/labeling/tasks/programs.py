"""Answers that are programs: the consent to run them, the code in a text, and whether it passes."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from functools import lru_cache

from hf_autojudge.labeling.tasks.sandbox import run_program

THREADS = os.cpu_count() or 1
"""How many programs a task runs at the same time."""

_BLOCK = re.compile(r"^[ \t]*```[ \t]*(\w*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)


def check_consent(task: str, allow_code_execution: bool) -> None:
    """Raises a `ValueError` unless generated programs may be run: by the argument, or by `HF_ALLOW_CODE_EVAL=1` in the
    environment (as for `evaluate`'s `code_eval`)."""
    if not allow_code_execution and os.environ.get("HF_ALLOW_CODE_EVAL") != "1":
        raise ValueError(
            f"The task {task} runs programs that models wrote (contained, see labeling/tasks/sandbox.py); allow it "
            "with allow_code_execution=True (on the command line: --allow-code-execution) or the environment variable "
            "HF_ALLOW_CODE_EVAL=1."
        )


def fenced_code(text: str, names: Collection[str]) -> str | None:
    """The code of an answer: of its blocks between ``` fences (marked Python or not marked), the last that defines
    one of `names`, as models correct themselves and then show how to use it; else the first; `None` without any."""
    blocks = [code for language, code in _BLOCK.findall(text) if language.lower() in ("", "python", "python3", "py")]
    defined = re.compile(
        rf"^[ \t]*(?:async[ \t]+def|def|class)[ \t]+(?:{'|'.join(map(re.escape, names))})\b", re.MULTILINE
    )
    defining = [block for block in blocks if names and defined.search(block)]
    return defining[-1] if defining else blocks[0] if blocks else None


@lru_cache(maxsize=4096)
def passes(program: str) -> bool:
    """Whether a program with its tests runs to its end; the last 4,096 programs are remembered, as the reference of a
    search is compared again and again."""
    return run_program(program).passed
