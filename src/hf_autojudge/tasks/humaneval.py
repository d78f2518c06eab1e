"""HumanEval (Chen et al., arXiv 2107.03374): Python functions to complete. The outcome is whether the tests pass."""

from __future__ import annotations

import re

from transformers import PreTrainedTokenizerBase

from hf_autojudge.tasks.base import Sample, Task
from hf_autojudge.tasks.data import load_samples
from hf_autojudge.tasks.programs import fenced_code, join, program_task
from hf_autojudge.tasks.prompts import prompt_ids

HUB = "openai/openai_humaneval"


def prompt(sample: Sample, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of the function's head and docstring, with an instruction if the tokenizer has a chat template."""
    head = sample["prompt"]
    chat = f"Complete this Python function. Write all of it in one ```python block.\n\n```python\n{head}```"
    return prompt_ids(tokenizer, chat, head)


def program(sample: Sample, answer: str) -> str:
    """The sample's head, the answer's code and the tests.

    The head alone is a valid function, since its docstring is a body. So an answer that defines the whole function
    replaces it and can use the head's imports and helpers, and an answer that is only a body continues it.
    """
    head, name = sample["prompt"], sample["entry_point"]
    code = fenced_code(answer, [name])
    if code is None and f"def {name}(" not in answer:
        code = re.split(r"\n(?=\S)", answer, maxsplit=1)[0]  # base models continue with other code after the body
        # Tokenizers such as Llama 2's drop the first space of a text; restore the docstring's indentation
        docstring = head.rstrip().rpartition("\n")[2]
        indent = docstring[: len(docstring) - len(docstring.lstrip())]
        if 0 < len(code) - len(code.lstrip(" ")) < len(indent):
            code = indent + code.lstrip(" ")
    return join(head, answer if code is None else code, f"\n{sample['test']}\ncheck({name})")


def humaneval_task(dataset: str = HUB, max_new_tokens: int = 512, allow_code_execution: bool = False) -> Task:
    """The HumanEval task. It runs generated programs in a sandbox (see `hf_autojudge.tasks.sandbox.program`).

    Args:
        dataset (`str`, *optional*, defaults to `"openai/openai_humaneval"`): A data set on the Hub, or a local file
            with the columns `prompt`, `test` and `entry_point`, which is used for whichever split is requested. The
            default has only a test split: use other problems, such as MBPP's, for labels and thresholds.
        max_new_tokens (`int`, *optional*, defaults to `512`): Maximum length of an answer, in tokens.
        allow_code_execution (`bool`, *optional*, defaults to `False`): Whether generated programs may be run.

    Raises:
        ValueError: If running programs is allowed neither here nor by `HF_ALLOW_CODE_EVAL=1` in the environment.
            `load` raises it for a split that the data set does not have.
    """

    def load(split: str, max_samples: int | None) -> list[Sample]:
        if dataset == HUB and split != "test":
            raise ValueError(
                f"{HUB} has a test split only, and no {split!r}; use the task mbpp, or name a local file of other "
                "problems."
            )
        return load_samples(dataset, split, max_samples, columns=("prompt", "test", "entry_point"))

    return program_task("humaneval", prompt, program, load, max_new_tokens, allow_code_execution)
