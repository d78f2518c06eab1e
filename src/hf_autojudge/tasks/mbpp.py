"""MBPP (Austin et al., arXiv 2108.07732): short Python problems; the outcome is whether the code passes the tests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hf_autojudge.tasks.base import Sample, Task
from hf_autojudge.tasks.data import load_samples
from hf_autojudge.tasks.programs import THREADS, check_consent, fenced_code, passes
from hf_autojudge.tasks.prompts import prompt_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def prompt(row: Sample, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The problem and its tests, in the paper's words."""
    text = (
        f"You are an expert Python programmer, and here is your task: {row.get('text') or row['prompt']} "
        "Your code should pass these tests:\n\n" + "\n".join(row["test_list"])
    )
    return prompt_ids(tokenizer, f"{text}\n\nWrite the code in one ```python block.", f"{text}\n[BEGIN]\n")


def program(row: Sample, answer: str) -> str:
    """The code of an answer, then the row's tests. Code without fences ends at `[DONE]`, as in the paper's prompts."""
    names = set(re.findall(r"\b([A-Za-z_]\w*)\(", "\n".join(row["test_list"])))
    code = fenced_code(answer, names)
    if code is None:
        code = answer.partition("[DONE]")[0].removeprefix("[BEGIN]")
    # `test_setup_code` makes objects of the answer's classes; `test_imports` is its name in the sanitized version
    return "\n".join([code, *(row.get("test_imports") or []), row.get("test_setup_code") or "", *row["test_list"]])


def mbpp_task(
    data: str = "google-research-datasets/mbpp",
    max_new_tokens: int = 512,
    config: str = "full",
    allow_code_execution: bool = False,
) -> Task:
    """The MBPP task. It runs the models' programs, contained (see [`sandbox.run_program`]).

    Args:
        data (`str`, *optional*, defaults to `"google-research-datasets/mbpp"`): A data set of the Hub with the splits
            `train` and `test`, or a local file with the columns `text` (or `prompt`) and `test_list` (and possibly
            `test_setup_code`, `test_imports`), which then serves every split asked for.
        max_new_tokens (`int`, *optional*, defaults to `512`): Length limit of an answer, in tokens.
        config (`str`, *optional*, defaults to `"full"`): `"full"` (974 problems) or `"sanitized"` (427) on the Hub.
        allow_code_execution (`bool`, *optional*, defaults to `False`): Consent to run generated programs.

    Raises:
        ValueError: Without consent, given here or by `HF_ALLOW_CODE_EVAL=1`.
    """
    check_consent("mbpp", allow_code_execution)

    def load(split: str, limit: int | None) -> list[Sample]:
        return load_samples(data, split, limit, config=config, columns=("test_list",))

    def same_outcome(row: Sample, one: str, other: str) -> bool:
        return one == other or passes(program(row, one)) == passes(program(row, other))

    def correct(row: Sample, answer: str) -> bool:
        return passes(program(row, answer))

    return Task("mbpp", prompt, same_outcome, load, max_new_tokens, correct=correct, threads=THREADS)
