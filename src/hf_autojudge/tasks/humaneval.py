"""HumanEval (Chen et al., arXiv 2107.03374): Python functions to complete; the outcome is whether the tests pass."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hf_autojudge.tasks.base import Sample, Task
from hf_autojudge.tasks.data import load_samples
from hf_autojudge.tasks.programs import THREADS, check_consent, fenced_code, join, passes
from hf_autojudge.tasks.prompts import prompt_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HUB = "openai/openai_humaneval"


def prompt(row: Sample, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The function's head and docstring: to be completed in a chat, else to be continued."""
    chat = f"Complete this Python function. Write all of it in one ```python block.\n\n```python\n{row['prompt']}```"
    return prompt_ids(tokenizer, chat, row["prompt"])


def program(row: Sample, answer: str) -> str:
    """The row's head, the answer's code and the tests.

    The head is a function of its own (a docstring is a body), so code that defines the function anew replaces it and
    still finds the head's imports and helpers, and a bare body continues it.
    """
    code = fenced_code(answer, [row["entry_point"]])
    if code is None and f"def {row['entry_point']}(" not in answer:
        code = re.split(r"\n(?=\S)", answer, maxsplit=1)[0]  # base models go on with other code after the body
        # Tokenizers such as Llama 2's drop a space where a text begins; the body stands where the docstring does
        head = row["prompt"].rstrip().rpartition("\n")[2]
        indent = head[: len(head) - len(head.lstrip())]
        if 0 < len(code) - len(code.lstrip(" ")) < len(indent):
            code = indent + code.lstrip(" ")
    return join(row["prompt"], answer if code is None else code, f"\n{row['test']}\ncheck({row['entry_point']})")


def humaneval_task(data: str = HUB, max_new_tokens: int = 512, allow_code_execution: bool = False) -> Task:
    """The HumanEval task. It runs the models' programs, contained (see [`sandbox.run_program`]).

    Args:
        data (`str`, *optional*, defaults to `"openai/openai_humaneval"`): A data set of the Hub, or a local file with
            the columns `prompt`, `test` and `entry_point`, which then serves every split asked for. The default has
            a test split only: mine labels and choose thresholds on other problems, such as MBPP's.
        max_new_tokens (`int`, *optional*, defaults to `512`): Length limit of an answer, in tokens.
        allow_code_execution (`bool`, *optional*, defaults to `False`): Consent to run generated programs.

    Raises:
        ValueError: Without consent, given here or by `HF_ALLOW_CODE_EVAL=1`; by `load` for a split that is not there.
    """
    check_consent("humaneval", allow_code_execution)

    def load(split: str, limit: int | None) -> list[Sample]:
        if data == HUB and split != "test":
            raise ValueError(
                f"{HUB} has a test split only, and no {split!r}; use the task mbpp, or name a local file of other "
                "problems."
            )
        return load_samples(data, split, limit, columns=("prompt", "test", "entry_point"))

    def same_outcome(row: Sample, one: str, other: str) -> bool:
        return one == other or passes(program(row, one)) == passes(program(row, other))

    def correct(row: Sample, answer: str) -> bool:
        return passes(program(row, answer))

    return Task("humaneval", prompt, same_outcome, load, max_new_tokens, correct=correct, threads=THREADS)
