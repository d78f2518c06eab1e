"""The problem generator: determinism, disjoint splits, correct arithmetic, lengths."""

import re
from fractions import Fraction
from itertools import combinations, islice

import pytest

from hf_autojudge.demo.problems import (
    MAX_RESULT,
    SPLITS,
    Problem,
    final_number,
    make_problems,
    problem_stream,
    prompt,
)

CALCULATION = re.compile(r"(\d+) ([-+x/]) (\d+) = (\d+)")
OPERATIONS = {"+": Fraction.__add__, "-": Fraction.__sub__, "x": Fraction.__mul__, "/": Fraction.__truediv__}


def arithmetic(question: str) -> tuple[str, ...]:
    """The numbers and operations of a question, without its names."""
    question = re.sub(r"buys (\d+) boxes", r"\1 boxes", question)
    question = re.sub(r"buys|finds", "gets", re.sub(r"gives away|sells", "loses", question))
    return tuple(re.findall(r"\d+|half|third|quarter|times|boxes|more|fewer|together|gets|loses", question))


@pytest.mark.parametrize("split", SPLITS)
def test_deterministic_by_seed(split):
    assert make_problems(split, 50, seed=3) == make_problems(split, 50, seed=3)
    assert make_problems(split, 50, seed=3) != make_problems(split, 50, seed=4)
    assert make_problems(split, 20, seed=3) == make_problems(split, 50, seed=3)[:20]
    assert make_problems(split, 20, seed=3) == list(islice(problem_stream(split, seed=3), 20))


def test_known_problem():
    """The embedded pair was trained on exactly this stream, so the stream must not change."""
    problem = make_problems("test", 1)[0]
    question = (
        "Ida has 50 hats. Ida buys 2 boxes of 4 hats. Ida keeps only half of the hats. "
        "Tina has 17 more hats than Ida. How many hats do Ida and Tina have together?"
    )
    answer = """\
To start, Ida has 50 hats.
First, we count 2 boxes of 4 hats, so 4 x 2 = 8 hats.
Then, Ida gets 8 more hats, so 8 + 50 = 58 hats.
Then, Ida keeps half of the hats, so 58 / 2 = 29 hats.
Then, Tina has 17 more hats, so 17 + 29 = 46 hats.
Next, we count all hats together, so 29 + 46 = 75 hats.
The answer is 75 hats.
#### 75"""
    assert problem == Problem(question, answer, 75)


def test_splits_are_disjoint():
    """No sequence of numbers and operations is in two splits, whatever the names in the story."""
    sequences = {split: {arithmetic(p.question) for p in make_problems(split, 1500)} for split in SPLITS}
    for one, other in combinations(SPLITS, 2):
        assert sequences[one].isdisjoint(sequences[other])


def test_no_question_twice_in_a_stream():
    problems = make_problems("train", 3000)
    assert len({p.question for p in problems}) == 3000


@pytest.mark.parametrize("wording", ["rule", "random"])
def test_every_calculation_is_correct(wording):
    for problem in make_problems("train", 500, wording=wording):
        found = CALCULATION.findall(problem.answer)
        assert 2 <= len(found) <= 5
        for left, symbol, right, result in found:
            assert OPERATIONS[symbol](Fraction(left), Fraction(right)) == int(result)
        assert problem.result == int(found[-1][-1]) == final_number(problem.answer)
        assert 0 < problem.result <= MAX_RESULT


def test_result_follows_from_the_question_alone():
    """An independent reading of the question, sentence by sentence, gives the same number."""
    parts = {"half": 2, "a third": 3, "a quarter": 4}
    for problem in make_problems("validation", 500):
        name, total = re.match(r"(\w+) has (\d+)", problem.question).groups()
        total = int(total)
        theirs = None
        for sentence in re.split(r"(?<=[.?]) ", problem.question)[1:-1]:
            numbers = [int(n) for n in re.findall(r"\d+", sentence)]
            if " boxes " in sentence:
                total += numbers[0] * numbers[1]
            elif re.search(r"buys|finds|gets", sentence):
                total += numbers[0]
            elif re.search(r"gives away|loses|sells", sentence):
                total -= numbers[0]
            elif " times " in sentence:
                total *= numbers[0]
            elif " keeps only " in sentence:
                total //= parts[re.search(r"only (half|a third|a quarter) of", sentence)[1]]
            else:
                assert sentence.endswith(f"than {name}.")
                theirs = total + numbers[0] if " more " in sentence else total - numbers[0]
        if "together" in problem.question:
            total += theirs
        elif theirs is not None:
            total = theirs
        assert total == problem.result


def test_wording_changes_no_number():
    by_rule, by_chance = (make_problems("train", 300, wording=w) for w in ("rule", "random"))
    assert [(p.question, p.result) for p in by_rule] == [(p.question, p.result) for p in by_chance]
    assert sum(a.answer != b.answer for a, b in zip(by_rule, by_chance, strict=True)) > 250
    for a, b in zip(by_rule, by_chance, strict=True):
        assert [s[-1] for s in CALCULATION.findall(a.answer)] == [s[-1] for s in CALCULATION.findall(b.answer)]


def test_the_rule_is_a_function_of_the_story():
    """Without noise the wording is not random; with noise it rarely departs from the rule."""
    exact, noisy = (make_problems("train", 300, noise=noise) for noise in (0.0, 0.06))
    departures = sum(a.answer != b.answer for a, b in zip(exact, noisy, strict=True))
    assert 30 < departures < 200


def test_lengths():
    lines = [len(p.answer.splitlines()) for p in make_problems("train", 500)]
    assert min(lines) == 5  # opening line, two steps, the answer, the number
    assert max(lines) == 8


def test_prompt_and_final_number():
    problem = make_problems("train", 1)[0]
    assert prompt(problem) == prompt(problem.question)
    assert problem.question in prompt(problem)
    assert final_number(prompt(problem) + problem.answer) == problem.result
    assert final_number("The answer is 7.") is None
    assert final_number("#### 12\n#### 13") == 13
    assert final_number("#### 1x") is None
