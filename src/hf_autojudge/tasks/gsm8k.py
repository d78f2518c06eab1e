"""GSM8K (Cobbe et al., arXiv 2110.14168): grade-school word problems. The outcome is the final number."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from functools import partial

from transformers import PreTrainedTokenizerBase

from hf_autojudge.tasks.base import Sample, Task
from hf_autojudge.tasks.data import load_samples
from hf_autojudge.tasks.prompts import prompt_ids

INSTRUCTION = "Solve the problem step by step. End with a line of the form: #### <number>"

_NUMBER = r"-?\$?\d[\d,]*(?:\.\d+)?"


def final_number(text: str) -> str | None:
    """The final number of an answer, normalised ("1,200.0" becomes "1200"): the number after the last `####`, else in
    the last `\\boxed{}`, else the last number. `None` if the text has no number."""
    for pattern in (rf"####\s*({_NUMBER})", rf"\\boxed\{{\s*({_NUMBER})", rf"({_NUMBER})"):
        if found := re.findall(pattern, text):
            try:
                number = Decimal(found[-1].replace(",", "").replace("$", ""))
            except InvalidOperation:
                return None
            return str(int(number)) if number == number.to_integral_value() else str(number.normalize())
    return None


def prompt(sample: Sample, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of the question and the instruction."""
    text = f"{sample['question']}\n\n{INSTRUCTION}"
    return prompt_ids(tokenizer, chat=text, plain=f"Question: {text}\nAnswer:")


def same_outcome(_sample: Sample, reference: str, answer: str) -> bool:
    return final_number(reference) == final_number(answer)


def gsm8k_task(dataset: str = "openai/gsm8k", max_new_tokens: int = 400) -> Task:
    """The GSM8K task.

    Args:
        dataset (`str`, *optional*, defaults to `"openai/gsm8k"`): A data set on the Hub with the splits `train` and
            `test`, or a local file (JSON Lines, Parquet, CSV) with the columns `question` and `answer`. A local file
            is used for whichever split is requested: name one file for labelling and another for the evaluation.
            Every 10th training sample belongs to `"validation"`, the others to `"train"`.
        max_new_tokens (`int`, *optional*, defaults to `400`): Maximum length of an answer, in tokens.
    """
    load = partial(load_samples, dataset, config="main", columns=("question", "answer"))
    return Task("gsm8k", prompt, same_outcome, load, max_new_tokens)
