"""Questions with choices, such as MMLU's (Hendrycks et al., arXiv 2009.03300), ARC's (Clark et al., arXiv 1803.05457)
and CommonsenseQA's (Talmor et al., arXiv 1811.00937). The outcome is the chosen letter."""

from __future__ import annotations

import re
from functools import partial
from string import ascii_uppercase

from transformers import PreTrainedTokenizerBase

from hf_autojudge.tasks.base import Sample, Task
from hf_autojudge.tasks.data import load_samples
from hf_autojudge.tasks.prompts import prompt_ids

INSTRUCTION = "Think step by step. End with a line of the form: The answer is (<letter>)."

# Every repetition is bounded, so that the search of a long run of brackets takes linear time
_OPEN = r"(?:\\(?:text|textbf|mathrm|mathbf)\s*\{|[(\[{*_`$\"'“‘ ]){0,8}"
_CLOSE = r"[)\]}*_`\"'”’]{0,8}"
_GAP = r"[^\w\n]{0,8}"
_ALONE = r"(?!\w|['’]\w)"
_SMALL = r"(?<=[(\[{])([a-z])(?=[)\]}])"
_NOUN = r"(?:option|choice|letter)"
# A and I may be words: accept them only before the end, punctuation or a reason, so not in "Answer: A dog"
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
_OR = re.compile(  # after a letter: "(A) or (B)", "A/B", or "A and B" at the end of a line
    rf"{_GAP}(?:(?i:or)\b|/|(?i:and)\b(?={_GAP}[A-Za-z]\b{_GAP}$)){_GAP}(?i:{_NOUN}\s+)?"
    rf"{_OPEN}(?:[A-Z]{_ALONE}|{_SMALL})",
    re.MULTILINE,
)
_MARKED = re.compile(
    r"\*\*\(?([A-Z])\)?[.:)]?(?:\*\*|\s)|\(([A-Z])\)|^[^\w\n]*([A-Z])[^\w\n]*$|\A\W*([A-Z])[.:)]\s", re.MULTILINE
)


def choices(sample: Sample) -> list[str]:
    """The column `choices`: a list of strings, or a dictionary with the keys `text` and `label`."""
    return list(sample["choices"]["text"] if isinstance(sample["choices"], dict) else sample["choices"])


def correct_letter(sample: Sample) -> str:
    """The letter of the correct choice: from `answerKey`, one of the labels, or from `answer`, a zero-based index or a
    letter.

    Raises:
        ValueError: If the sample does not name one of its choices as the answer.
    """
    given = sample["choices"]
    labels = list(given["label"] if isinstance(given, dict) else ascii_uppercase[: len(given)])
    answer = sample.get("answerKey", sample.get("answer"))
    if isinstance(answer, int) and 0 <= answer < len(labels):
        return ascii_uppercase[answer]
    if answer in labels:
        return ascii_uppercase[labels.index(answer)]
    raise ValueError(f"The correct answer {answer!r} is none of the choices {labels}; use a split with answers.")


def chosen_letter(text: str, number: int = 26) -> str | None:
    """The letter that an answer chooses: the last one it states ("The answer is (B)", "Answer: B.", `\\boxed{B}`,
    "B is correct"), else the last one it marks ("**B**", "(B)", a line with nothing else, "B. ..." at the beginning);
    `None` if it chooses none of the first `number` letters or states several at its end ("The answer is (A) or (B)").
    """
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


def prompt(sample: Sample, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of the question, one line for each choice with its letter, and the instruction."""
    lines = [f"{letter}. {choice}" for letter, choice in zip(ascii_uppercase, choices(sample), strict=False)]
    text = "\n".join([sample["question"], *lines])
    return prompt_ids(tokenizer, f"{text}\n\n{INSTRUCTION}", f"Question: {text}\n\n{INSTRUCTION}\nAnswer:")


def same_outcome(sample: Sample, reference: str, answer: str) -> bool:
    number = len(choices(sample))
    return chosen_letter(reference, number) == chosen_letter(answer, number)


def correct(sample: Sample, answer: str) -> bool:
    return chosen_letter(answer, len(choices(sample))) == correct_letter(sample)


def multiple_choice_task(
    dataset: str = "allenai/ai2_arc", config: str | None = "ARC-Challenge", max_new_tokens: int = 512
) -> Task:
    """The task of choosing a letter.

    Args:
        dataset (`str`, *optional*, defaults to `"allenai/ai2_arc"`): A data set on the Hub with the splits `train` and
            `test`, or a local file, which is used for whichever split is requested. Columns: `question`; `choices`
            (a list, or a dictionary with `text` and `label`); `answerKey` (a label) or `answer` (a zero-based index or
            a letter).
        config (`str`, *optional*, defaults to `"ARC-Challenge"`): Configuration of a data set on the Hub.
        max_new_tokens (`int`, *optional*, defaults to `512`): Maximum length of an answer, in tokens.
    """
    load = partial(load_samples, dataset, config=config, columns=("question", "choices"))
    return Task("multiple_choice", prompt, same_outcome, load, max_new_tokens, correct=correct)
