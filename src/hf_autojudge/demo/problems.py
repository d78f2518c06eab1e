"""Synthetic grade-school word problems: the task of the embedded pair.

A problem is a short story about a running total, with two to five calculations and one correct result, which the
generator computes. The worked answer has one sentence for each calculation and ends in `#### <result>`.

The calculations follow from the question. Their *wording* does not: each sentence has up to three choices (its opening
word, its phrase, the order of the operands of `+` and `x`), and a hidden rule makes them from the names in the story.
A model trained on `wording="rule"` learns the rule; one trained on `wording="random"` cannot. The two models then
disagree both where it does not matter (the wording) and where it does (a wrong number or operation), which is what a
judge has to tell apart.
"""

import random
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple

Wording = Literal["rule", "random"]

NAMES: list[str] = """
    Adam Amy Ann Ben Bob Carl Clara Dan Emma Eva Fred Gus Helen Ida Ivan Jim Joe Julia Kim Leo Lily Luke Max Mia Ned
    Nina Omar Pam Paul Rosa Sam Tina Tom Vera Will Zoe
""".split()
ITEMS: list[str] = """
    apples badges balls beads bells books bricks cards coins cookies crayons cups dolls eggs flags hats keys lamps
    lemons marbles masks mugs nuts pears pens plums ribbons rings roses seeds shells stamps stars stones tickets
    toys
""".split()
OPENERS = ("Then", "Next")
FRACTIONS = {2: "half", 3: "a third", 4: "a quarter"}
MAX_TOTAL = 150  # of a running total
MAX_RESULT = 200  # of a final number

# A hash of a story's numbers and operations, modulo 100, decides its split.
SPLITS: dict[str, range] = {
    "pretrain": range(70),  # training the embedded pair
    "train": range(70, 84),  # labels for a judge
    "validation": range(84, 92),  # thresholds
    "test": range(92, 100),  # evaluation
}


@dataclass(frozen=True)
class Problem:
    """One word problem.

    Attributes:
        question (`str`): The story and its question.
        answer (`str`): The complete worked answer, without an end-of-sequence token. Its last line is `#### <result>`.
        result (`int`): The correct final number.
    """

    question: str
    answer: str
    result: int


class _Step(NamedTuple):
    """One calculation of a worked answer, `left symbol right = result`, and the phrases that can introduce it."""

    kind: str
    left: int
    symbol: str
    right: int
    result: int
    phrases: tuple[str, str]


class _Story(NamedTuple):
    """A problem before its answer is worded. `plan` holds only numbers and operations: no names, no wording."""

    name: str
    items: str
    start: int
    question: str
    plan: str
    steps: list[_Step]


def make_problems(split: str, n: int, seed: int = 0, wording: Wording = "rule", noise: float = 0.0) -> list[Problem]:
    """The first `n` problems of [`problem_stream`], with the same arguments."""
    return list(islice(problem_stream(split, seed, wording, noise), n))


def problem_stream(split: str, seed: int = 0, wording: Wording = "rule", noise: float = 0.0) -> Iterator[Problem]:
    """An infinite stream of distinct problems of one split.

    The arithmetic of two splits is disjoint, not only their text: a sequence of numbers and operations belongs to
    exactly one split, whatever the names in the story.

    Args:
        split (`str`): One of `"pretrain"`, `"train"`, `"validation"`, `"test"`.
        seed (`int`, *optional*, defaults to `0`): Streams with equal arguments are equal. The questions depend only on
            `split` and `seed`.
        wording (`str`, *optional*, defaults to `"rule"`): What words the answers: the hidden `"rule"` or `"random"`.
        noise (`float`, *optional*, defaults to `0.0`): With `wording="rule"`, the probability that a choice is made at
            random anyway. Training on it teaches a model to continue correctly after another wording.

    Yields:
        [`Problem`]
    """
    stories = random.Random(f"stories/{split}/{seed}")
    wordings = random.Random(f"wordings/{split}/{seed}")
    noise = 1.0 if wording == "random" else noise
    seen: set[str] = set()
    while True:
        story = _draw_story(stories)
        result = story.steps[-1].result
        in_split = zlib.crc32(story.plan.encode()) % 100 in SPLITS[split]
        if in_split and result <= MAX_RESULT and story.question not in seen:
            seen.add(story.question)
            yield Problem(story.question, _write_answer(story, noise, wordings), result)


def prompt(problem: Problem | str) -> str:
    """The prompt of a problem or of a question, as a string to tokenize with special tokens."""
    question = problem.question if isinstance(problem, Problem) else problem
    return f"Question: {question}\nAnswer:\n"


def final_number(text: str) -> int | None:
    """The number in the last line `#### <number>` of an answer; `None` if there is none."""
    found = re.findall(r"^#### (\d+)\s*$", text, flags=re.MULTILINE)
    return int(found[-1]) if found else None


def _draw_story(rng: random.Random) -> _Story:
    """Draw a story with two to five steps. Every total is within 2..`MAX_TOTAL`, and every division is exact."""
    name, friend = rng.sample(NAMES, 2)
    items = rng.choice(ITEMS)
    start = total = rng.randint(3, 60)
    n_steps = rng.randint(2, 5)
    ending = rng.choice(("total", "total", "compare", "join"))
    n_moves = n_steps - {"total": 0, "compare": 1, "join": 2}[ending]

    sentences = [f"{name} has {start} {items}."]
    plan = [str(start)]
    steps: list[_Step] = []
    while len(steps) < n_moves:
        moves = ["add", "subtract", "times", "share"]
        if len(steps) + 2 <= n_moves:
            moves.append("boxes")
        kind = rng.choice(moves)
        if kind in ("add", "subtract"):
            number = rng.randint(2, 40)
            new = [_add(name, items, total, number) if kind == "add" else _subtract(name, items, total, number)]
            verb = rng.choice(("buys", "finds", "gets") if kind == "add" else ("gives away", "loses", "sells"))
            sentence = f"{name} {verb} {number} {items}."
        elif kind == "times":
            number = rng.randint(2, 5)
            phrases = (f"{name} has {number} times as many {items}", f"we count {number} times as many {items}")
            new = [_Step("times", total, "x", number, total * number, phrases)]
            sentence = f"Soon {name} has {number} times as many {items}."
        elif kind == "share":
            divisors = [k for k in FRACTIONS if total % k == 0]
            if not divisors:
                continue
            number = rng.choice(divisors)
            part = FRACTIONS[number]
            phrases = (f"{name} keeps {part} of the {items}", f"we count {part} of the {items}")
            new = [_Step("share", total, "/", number, total // number, phrases)]
            sentence = f"{name} keeps only {part} of the {items}."
        else:
            number, size = rng.randint(2, 5), rng.randint(2, 12)
            phrases = (f"the {number} boxes hold {size} {items} each", f"we count {number} boxes of {size} {items}")
            boxes = _Step("boxes", number, "x", size, number * size, phrases)
            new = [boxes, _add(name, items, total, boxes.result)]
            sentence = f"{name} buys {number} boxes of {size} {items}."
        if not 2 <= new[-1].result <= MAX_TOTAL:
            continue
        total = new[-1].result
        steps += new
        plan.append(" ".join([kind, *re.findall(r"\d+|half|third|quarter", sentence)]))
        sentences.append(sentence)

    if ending == "total":
        sentences.append(f"How many {items} does {name} have now?")
    else:
        number = rng.randint(2, 20)
        more = rng.random() < 0.5 or total - number < 2
        word = "more" if more else "fewer"
        theirs = total + number if more else total - number
        phrases = (f"{friend} has {number} {word} {items}", f"we count {number} {word} {items} for {friend}")
        steps.append(_Step("compare", total, "+" if more else "-", number, theirs, phrases))
        plan.append(f"{ending} {word} {number}")
        sentences.append(f"{friend} has {number} {word} {items} than {name}.")
        if ending == "compare":
            sentences.append(f"How many {items} does {friend} have?")
        else:
            phrases = (f"{name} and {friend} put all {items} together", f"we count all {items} together")
            steps.append(_Step("join", total, "+", theirs, total + theirs, phrases))
            sentences.append(f"How many {items} do {name} and {friend} have together?")
    return _Story(name, items, start, " ".join(sentences), ", ".join(plan), steps)


def _add(name: str, items: str, total: int, number: int) -> _Step:
    phrases = (f"{name} gets {number} more {items}", f"we count {number} more {items}")
    return _Step("add", total, "+", number, total + number, phrases)


def _subtract(name: str, items: str, total: int, number: int) -> _Step:
    phrases = (f"{name} loses {number} {items}", f"we count {number} fewer {items}")
    return _Step("subtract", total, "-", number, total - number, phrases)


def _write_answer(story: _Story, noise: float, rng: random.Random) -> str:
    """Word the answer: each choice follows the hidden rule or, with probability `noise`, chance."""

    def variant(n: int, *key: object) -> int:
        by_rule = zlib.crc32("/".join(map(str, key)).encode()) % n
        return rng.randrange(n) if rng.random() < noise else by_rule

    lines = [f"To start, {story.name} has {story.start} {story.items}."]
    for i, step in enumerate(story.steps):
        opener = OPENERS[variant(len(OPENERS), "opener", story.items, i)] if i else "First"
        phrase = step.phrases[variant(len(step.phrases), "phrase", story.name, step.kind)]
        left, right = step.left, step.right
        if step.symbol in "+x" and variant(2, "order", story.name, i):
            left, right = right, left
        lines.append(f"{opener}, {phrase}, so {left} {step.symbol} {right} = {step.result} {story.items}.")
    result = story.steps[-1].result
    lines += [f"The answer is {result} {story.items}.", f"#### {result}"]
    return "\n".join(lines)
