"""Questions with choices, such as MMLU's (Hendrycks et al., arXiv 2009.03300), ARC's (Clark et al., arXiv 1803.05457)
and CommonsenseQA's (Talmor et al., arXiv 1811.00937): the outcome is the chosen letter."""

from __future__ import annotations

import re
from string import ascii_uppercase
from typing import TYPE_CHECKING

from hf_autojudge.tasks.base import Sample, Task
from hf_autojudge.tasks.data import load_samples
from hf_autojudge.tasks.prompts import prompt_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

INSTRUCTION = "Think step by step. End with a line of the form: The answer is (<letter>)."

# Short, all of them, so that a long row of brackets is soon searched
_OPEN = r"(?:\\(?:text|textbf|mathrm|mathbf)\s*\{|[(\[{*_`$\"'“‘ ]){0,8}"
_CLOSE = r"[)\]}*_`\"'”’]{0,8}"
_GAP = r"[^\w\n]{0,8}"
_ALONE = r"(?!\w|['’]\w)"
_SMALL = r"(?<=[(\[{])([a-z])(?=[)\]}])"
_NOUN = r"(?:option|choice|letter)"
# After an A or I, which may be words, nothing further but what gives a reason: not "Answer: A dog"
_THEN = r"(?=\W*(?:$|\n)|\s*[^\w\s]|\s+(?:because|since|as|for|and|or|which|is)\b)"
_STATED = re.compile(  # "The answer is (B)"
    rf"(?:\\boxed\s*\{{|(?i:\banswer|\bchoice|\boption)(?i:\s+is|\s+would be|\s*[:=]|\**\s*:\**)"
    rf"(?i:\s+(?:the\s+)?{_NOUN})?\s*:?)"
    rf"{_OPEN}(?:([B-HJ-Z]){_ALONE}|([AI]){_ALONE}{_THEN}|(?<=\bis )(A){_ALONE}|{_SMALL})"
)
_JUDGED = re.compile(  # "B is correct", "Option B is the best answer"; not "if B is correct"
    rf"(?P<if>\b(?i:if|whether)\s+(?i:{_NOUN}\s+)?)?(?P<or>\b[A-Z]{_CLOSE}\s+(?i:or|nor)\s+(?i:{_NOUN}\s+)?)?"
    rf"{_OPEN}(?<![^\W_])(?:(?P<large>[A-Z]){_ALONE}|(?P<small>{_SMALL})){_CLOSE}(?i:\s+(?:is|would be|must be)\s+(?:"
    r"correct\b|right(?=\W*(?:$|\n)|\s*[.,;:!])"
    rf"|the\s+(?:(?:only|most|best|correct|right|likely|appropriate|accurate|final)\s+)*(?:answer|{_NOUN})\b))"
)
_OR = re.compile(  # after a letter: "(A) or (B)", "A/B"; "A and B" where the sentence ends
    rf"{_GAP}(?:(?i:or)\b|/|(?i:and)\b(?={_GAP}[A-Za-z]\b{_GAP}$)){_GAP}(?i:{_NOUN}\s+)?"
    rf"{_OPEN}(?:[A-Z]{_ALONE}|{_SMALL})",
    re.MULTILINE,
)
_MARKED = re.compile(
    r"\*\*\(?([A-Z])\)?[.:)]?(?:\*\*|\s)|\(([A-Z])\)|^[^\w\n]*([A-Z])[^\w\n]*$|\A\W*([A-Z])[.:)]\s", re.MULTILINE
)


def choices(row: Sample) -> list[str]:
    """The choices' texts: the column `choices`, a list or, with labels, a dictionary with the key `text`."""
    return list(row["choices"]["text"] if isinstance(row["choices"], dict) else row["choices"])


def right_letter(row: Sample) -> str:
    """The letter of the right choice: from `answerKey`, one of the choices' labels, or from `answer`, a number from 0
    on or a letter.

    Raises:
        ValueError: If the row does not say it.
    """
    labels = row["choices"]["label"] if isinstance(row["choices"], dict) else ascii_uppercase[: len(row["choices"])]
    answer = row.get("answerKey", row.get("answer"))
    if isinstance(answer, int) and 0 <= answer < len(labels):
        return ascii_uppercase[answer]
    if answer in list(labels):
        return ascii_uppercase[list(labels).index(answer)]
    raise ValueError(f"The right answer {answer!r} is none of the choices {list(labels)}; use a split with answers.")


def chosen_letter(text: str, number: int = 26) -> str | None:
    """The letter that an answer chooses: the last it states ("The answer is (B)", "Answer: B.", `\\boxed{B}`, "B is
    correct"), else the last it marks ("**B**", "(B)", a line with nothing else, "B. ..." to begin with); `None` if
    there is none of the first `number`, or if it ends with several ("The answer is (A) or (B)")."""
    allowed = ascii_uppercase[:number]
    stated = [
        (found.start(), None if _OR.match(text, found.end()) else letter)
        for found in _STATED.finditer(text)
        if (letter := next(filter(None, found.groups())).upper()) in allowed
    ]
    stated += [
        (found.start(), None if found["or"] else letter)
        for found in _JUDGED.finditer(text)
        if not found["if"] and (letter := (found["large"] or found["small"]).upper()) in allowed
    ]
    if stated:
        return max(stated, key=lambda place: place[0])[1]
    marked = [next(filter(None, found.groups())) for found in _MARKED.finditer(text)]
    return next((letter for letter in reversed(marked) if letter in allowed), None)


def prompt(row: Sample, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The question and its choices, one a line with its letter."""
    lines = [f"{letter}. {choice}" for letter, choice in zip(ascii_uppercase, choices(row), strict=False)]
    text = "\n".join([row["question"], *lines])
    return prompt_ids(tokenizer, f"{text}\n\n{INSTRUCTION}", f"Question: {text}\n\n{INSTRUCTION}\nAnswer:")


def multiple_choice_task(
    data: str = "allenai/ai2_arc", config: str | None = "ARC-Challenge", max_new_tokens: int = 512
) -> Task:
    """The task of choosing a letter.

    Args:
        data (`str`, *optional*, defaults to `"allenai/ai2_arc"`): A data set of the Hub with the splits `train` and
            `test`, or a local file, which then serves every split asked for. Columns: `question`; `choices`, a list
            or a dictionary with `text` and `label`; `answerKey`, a label, or `answer`, a number from 0 on or a letter.
        config (`str`, *optional*, defaults to `"ARC-Challenge"`): Configuration of a data set of the Hub.
        max_new_tokens (`int`, *optional*, defaults to `512`): Length limit of an answer, in tokens.
    """

    def load(split: str, limit: int | None) -> list[Sample]:
        return load_samples(data, split, limit, config=config, columns=("question", "choices"))

    def same_outcome(row: Sample, one: str, other: str) -> bool:
        number = len(choices(row))
        return chosen_letter(one, number) == chosen_letter(other, number)

    def correct(row: Sample, answer: str) -> bool:
        return chosen_letter(answer, len(choices(row))) == right_letter(row)

    return Task("multiple_choice", prompt, same_outcome, load, max_new_tokens, correct=correct)
