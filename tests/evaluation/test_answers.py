"""Answers kept in a folder: a run resumes, a killed one too, and nothing else is mixed in."""

import json
import signal
import subprocess
import sys
import textwrap
import time
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from hf_autojudge import KLRule, TopKRule
from hf_autojudge.evaluation import Frontier, measure_frontier, read_answers
from hf_autojudge.evaluation.answers import Answer, AnswerStore
from hf_autojudge.evaluation.decoder import Decoder
from hf_autojudge.evaluation.identity import describe_judge, trained_for
from hf_autojudge.evaluation.strategies import DecodingStrategy
from hf_autojudge.judges.compose import after, all_of, at_threshold, budget

SETTINGS = {"target": "t", "max_new_tokens": 16}
PROMPTS = [[1, 2], [3], [4, 5, 6]]
RULES = {"top-2": TopKRule(2)}
TOP_2 = DecodingStrategy("top-2", "top-2")


def answer(question, judge="top-2", threshold=None, seconds=None, text="5"):
    return Answer(judge, threshold, question, text, 1, 12, 4, 0, [1, 0, 2], seconds)


def opened(folder, settings=SETTINGS, judges=RULES, prompts=PROMPTS):
    return AnswerStore(folder, settings, judges, prompts)


def without_times(frontier):
    """What must not depend on when and where a run took place."""
    points = [
        {name: value for name, value in vars(p).items() if not name.startswith(("tokens_per_second", "speed_ratio"))}
        for p in frontier.points
    ]
    settings = {k: v for k, v in frontier.settings.items() if k not in ("command", "batch_size", "num_timed")}
    return points, {name: replace(q, seconds=[]) for name, q in frontier.questions.items()}, settings


@pytest.fixture
def decoded(monkeypatch):
    """The name and the number of prompts of each call of the decoder."""
    calls = []

    def decode(self, strategy, prompts, original=Decoder.decode):
        calls.append((strategy.name, len(prompts)))
        return original(self, strategy, prompts)

    monkeypatch.setattr(Decoder, "decode", decode)
    return calls


def test_answers_are_read_again(tmp_path):
    store = opened(tmp_path)
    found = [answer(0, seconds=0.25), answer(1), answer(2, "head", 0.1 + 0.2)]
    store.add(found[:2])
    store.add(found[2:])
    again = opened(tmp_path)
    assert again.of(TOP_2, range(3)) == found[:2]
    assert again.get(DecodingStrategy("any name", "head", 0.1 + 0.2), 2) == found[2]
    assert again.get(DecodingStrategy("any name", "head", 0.3), 2) is None
    assert again.get(TOP_2, 0, timed=True) == found[0] and again.get(TOP_2, 1, timed=True) is None
    again.add([answer(1, seconds=0.5)])
    assert opened(tmp_path).get(TOP_2, 1).seconds == 0.5


def test_without_a_folder_answers_stay_in_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = opened(None)
    store.add([answer(0)])
    assert store.get(TOP_2, 0) == answer(0) and not list(tmp_path.iterdir())


def test_kept_answers_are_read_by_anyone(tmp_path):
    with pytest.raises(ValueError, match="holds no answers"):
        read_answers(tmp_path)
    opened(tmp_path).add([answer(0), answer(1, text="old"), answer(0, "head", 0.5)])
    with (tmp_path / "answers.jsonl").open("a") as file:
        file.write('{"judge": "unfinish\n')
    opened(tmp_path).add([answer(1, text="new")])
    assert read_answers(tmp_path) == [answer(0), answer(1, text="new"), answer(0, "head", 0.5)]


@pytest.mark.parametrize("cut", [1, 2, 30, 200])
def test_an_unfinished_line_is_answered_again(tmp_path, cut):
    opened(tmp_path).add([answer(0), answer(1)])
    path = tmp_path / "answers.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    store = opened(tmp_path)
    assert store.of(TOP_2, range(3)) == [answer(0)] + [answer(1)] * (cut == 1)  # only the end of the line is missing
    store.add([answer(1), answer(2)])
    assert opened(tmp_path).of(TOP_2, range(3)) == [answer(0), answer(1), answer(2)]
    path.write_bytes(b'[1]\n{"prompt": 3}\n\xff\xfe\n\n' + path.read_bytes())
    assert len(opened(tmp_path).of(TOP_2, range(3))) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"settings": SETTINGS | {"max_new_tokens": 15}},
            "max_new_tokens was 16 and is now 15; choose another folder",
        ),
        ({"settings": SETTINGS | {"dtype": "bfloat16"}}, "dtype was None and is now 'bfloat16'"),
        ({"judges": {"top-2": TopKRule(3)}}, r"judge 'top-2' was 'TopKRule\(k=2\)' and is now 'TopKRule\(k=3\)'"),
        ({"prompts": [[1, 2], [3, 3]]}, "Question 1 of .* had another prompt"),
    ],
)
def test_other_settings_are_refused(tmp_path, change, message):
    opened(tmp_path).add([answer(0), answer(1)])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=message):
        opened(tmp_path, **change)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(ValueError, match="target was None and is now 't'"):
        opened(tmp_path)


def test_other_judges_and_more_questions_are_added(tmp_path):
    opened(tmp_path).add([answer(0)])
    store = opened(tmp_path, judges={"kl": KLRule(0.5)}, prompts=[*PROMPTS, [9]])
    assert store.get(TOP_2, 0) == answer(0)
    assert json.loads((tmp_path / "settings.json").read_text())["judges"] == {
        "top-2": "TopKRule(k=2)",
        "kl": "KLRule(tau=0.5, max_target_prob=0.9)",
    }
    assert opened(tmp_path, prompts=PROMPTS[:1]).get(TOP_2, 0) == answer(0)


class Custom:
    """Without a `repr` of its own."""


def test_a_judge_is_described_by_what_it_decides(head):
    other, moved, named = deepcopy(head), deepcopy(head), deepcopy(head)
    with torch.no_grad():
        other.linear.weight[0, 3] += 1e-3
    moved.config.threshold = 0.25
    named.config.task = "sums"
    assert describe_judge(head) == describe_judge(moved) == describe_judge(named) != describe_judge(other)
    swapped = deepcopy(head)
    swapped.config.features = swapped.config.features[::-1]
    assert describe_judge(swapped) != describe_judge(head)
    judges = [after(3, head), after(4, head), after(3, other), all_of(TopKRule(2), head), all_of(head, TopKRule(2))]
    judges += [budget(head, 2.0), budget(head, 2.5), at_threshold(head, 0.25), at_threshold(head, 0.5)]
    assert len({describe_judge(judge) for judge in judges}) == len(judges)
    assert "0x" not in describe_judge(Custom())
    assert trained_for(all_of(TopKRule(2), after(3, named))) == {"sums"} and trained_for(head) == set()


def test_a_run_resumes_with_other_numbers_and_more_strategies(
    tmp_path, decoded, llama_pair, head, task, tokenizer, samples
):
    arguments = (*llama_pair, tokenizer, task, samples)
    options = {"folder": tmp_path, "progress": False}
    expected = measure_frontier(*arguments, {"head": head, "top-2": TopKRule(2)}, [0.5], progress=False)
    measure_frontier(*arguments[:-1], samples[:3], {"head": head}, [0.5], batch_size=2, num_timed=1, **options)
    decoded.clear()
    measure_frontier(*arguments, {"head": head}, [0.5], batch_size=4, num_timed=1, **options)
    assert decoded == [
        (name, size)
        for size in (2, 1)
        for name in ("plain greedy", "draft alone", "threshold 0", "head, threshold 0.5")
    ]
    decoded.clear()
    measure_frontier(*arguments, {"head": head, "top-2": TopKRule(2)}, [0.5], batch_size=4, num_timed=1, **options)
    assert decoded == [("top-2", 1), ("top-2", 1), ("top-2", 4), ("top-2", 1)]  # once to warm up
    found = measure_frontier(*arguments, {"head": head, "top-2": TopKRule(2)}, [0.5], **options)  # all are timed now
    assert without_times(found) == without_times(expected)
    assert all(len(q.seconds) == len(samples) for q in found.questions.values())
    decoded.clear()
    again = measure_frontier(*arguments, {"head": head, "top-2": TopKRule(2)}, [0.5], **options)
    assert not decoded and again == found
    with pytest.raises(ValueError, match="num_assistant_tokens was 4 and is now 5"):
        measure_frontier(*arguments, {"head": head}, [0.5], num_assistant_tokens=5, **options)


SCRIPT = """
    import sys, time
    from dataclasses import replace
    from hf_autojudge import TopKRule
    from hf_autojudge.demo.embedded import load_pair
    from hf_autojudge.demo.task import word_problems_task
    from hf_autojudge.evaluation import measure_frontier

    task = word_problems_task(40)
    measure_frontier(
        *load_pair(), task, task.load("test", 6), {"top-2": TopKRule(2)}, batch_size=2, num_timed=2,
        folder=sys.argv[1], num_assistant_tokens=8, progress=False,
    ).to_json(sys.argv[1] + "/frontier.json")
"""


@pytest.mark.slow
def test_a_killed_run_resumes(tmp_path):
    def start(folder):
        return subprocess.Popen([sys.executable, "-c", textwrap.dedent(SCRIPT), str(folder)])

    assert start(tmp_path / "whole").wait() == 0
    killed = tmp_path / "killed"
    for lines in (3, 9, 20):
        process = start(killed)
        path = killed / "answers.jsonl"
        while not path.exists() or path.read_bytes().count(b"\n") < lines:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (killed / "frontier.json").exists()
    kept = path.read_bytes()
    assert start(killed).wait() == 0
    assert path.read_bytes().startswith(kept)
    whole, resumed = (Frontier.from_json(tmp_path / name / "frontier.json") for name in ("whole", "killed"))
    assert without_times(resumed) == without_times(whole)
    assert len(path.read_bytes().splitlines()) == 26  # 4 strategies on 6 questions, assisted generation on 2
