"""GSM8K (Cobbe et al., arXiv 2110.14168): grade-school word problems; the outcome is the final number."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from hf_autojudge.tasks.base import Sample, Task
from hf_autojudge.tasks.data import load_samples
from hf_autojudge.tasks.prompts import prompt_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

INSTRUCTION = "Solve the problem step by step. End with a line of the form: #### <number>"
VALIDATION_SHARE = 10  # every 10th training row is kept for thresholds

_NUMBER = r"-?\$?\d[\d,]*(?:\.\d+)?"


def final_number(text: str) -> str | None:
    """The final number of an answer, normalised ("1,200.0" -> "1200"): what follows the last `####`, else the last
    `\\boxed{}`, else the last number of the text; `None` if there is no number."""
    for pattern in (rf"####\s*({_NUMBER})", rf"\\boxed\{{\s*({_NUMBER})", rf"({_NUMBER})"):
        if found := re.findall(pattern, text):
            try:
                number = Decimal(found[-1].replace(",", "").replace("$", ""))
            except InvalidOperation:
                return None
            return str(int(number)) if number == number.to_integral_value() else str(number.normalize())
    return None


def prompt(row: Sample, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The question, through the tokenizer's chat template where it has one."""
    text = f"{row['question']}\n\n{INSTRUCTION}"
    return prompt_ids(tokenizer, chat=text, plain=f"Question: {text}\nAnswer:")


def gsm8k_task(data: str = "openai/gsm8k", max_new_tokens: int = 400) -> Task:
    """The GSM8K task.

    Args:
        data (`str`, *optional*, defaults to `"openai/gsm8k"`): A data set of the Hub with the splits `train` and
            `test`, or a local file (JSON Lines, Parquet, CSV) with the columns `question` and `answer`, which then
            serves every split asked for, so name a training file for mining and a test file for the report. Of
            training rows, every 10th is `"validation"` and the others are `"train"`.
        max_new_tokens (`int`, *optional*, defaults to `400`): Length limit of an answer, in tokens.
    """

    def load(split: str, limit: int | None) -> list[Sample]:
        columns = ("question", "answer")
        return load_samples(data, split, limit, config="main", validation_share=VALIDATION_SHARE, columns=columns)

    def same_outcome(_row: Sample, one: str, other: str) -> bool:
        return final_number(one) == final_number(other)

    return Task("gsm8k", prompt, same_outcome, load, max_new_tokens)
