"""MBPP (Austin et al., arXiv 2108.07732): short Python problems. The outcome is whether the code passes the tests."""

from __future__ import annotations

import re
from functools import partial

from transformers import PreTrainedTokenizerBase

from hf_autojudge.tasks.base import Sample, Task
from hf_autojudge.tasks.data import load_samples
from hf_autojudge.tasks.programs import fenced_code, program_task
from hf_autojudge.tasks.prompts import prompt_ids


def prompt(sample: Sample, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of the problem and its tests, as the paper words them."""
    text = (
        f"You are an expert Python programmer, and here is your task: {sample.get('text') or sample['prompt']} "
        "Your code should pass these tests:\n\n" + "\n".join(sample["test_list"])
    )
    return prompt_ids(tokenizer, f"{text}\n\nWrite the code in one ```python block.", f"{text}\n[BEGIN]\n")


def program(sample: Sample, answer: str) -> str:
    """The answer's code, then the sample's tests. Code outside a block ends at `[DONE]`, as in the paper's prompts."""
    names = set(re.findall(r"\b([A-Za-z_]\w*)\(", "\n".join(sample["test_list"])))
    code = fenced_code(answer, names)
    if code is None:
        code = answer.partition("[DONE]")[0].removeprefix("[BEGIN]")
    # The setup follows the code because it may use the answer's classes; the sanitized version names it `test_imports`
    setup = [*(sample.get("test_imports") or []), sample.get("test_setup_code") or ""]
    return "\n".join([code, *setup, *sample["test_list"]])


def mbpp_task(
    dataset: str = "google-research-datasets/mbpp",
    max_new_tokens: int = 512,
    config: str = "full",
    allow_code_execution: bool = False,
) -> Task:
    """The MBPP task. It runs generated programs in a sandbox (see `hf_autojudge.tasks.sandbox.program`).

    Args:
        dataset (`str`, *optional*, defaults to `"google-research-datasets/mbpp"`): A data set on the Hub with the
            splits `train` and `test`, or a local file with the columns `text` (or `prompt`), `test_list` and
            optionally `test_setup_code` and `test_imports`. A local file is used for whichever split is requested.
        max_new_tokens (`int`, *optional*, defaults to `512`): Maximum length of an answer, in tokens.
        config (`str`, *optional*, defaults to `"full"`): `"full"` (974 problems) or `"sanitized"` (427) on the Hub.
        allow_code_execution (`bool`, *optional*, defaults to `False`): Whether generated programs may be run.

    Raises:
        ValueError: If running programs is allowed neither here nor by `HF_ALLOW_CODE_EVAL=1` in the environment.
    """
    load = partial(load_samples, dataset, config=config, columns=("test_list",))
    return program_task("mbpp", prompt, program, load, max_new_tokens, allow_code_execution)
