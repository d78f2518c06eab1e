"""MATH: final expressions, and comparing them in a separate process."""

import threading

import pytest

from hf_autojudge.tasks import math_task
from hf_autojudge.tasks.competition_math import MathComparer, boxed


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"so \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{1}, no, \boxed{ 2 }", "2"),
        (r"\boxed{1", None),
        ("none", None),
        (r"\boxed{}", ""),
        (r"\boxed{5.}", "5"),
        (r"\boxed{0.33...}", "0.33..."),
    ],
)
def test_boxed(text, content):
    assert boxed(text) == content


def test_outcomes(prompt_of):
    pytest.importorskip("math_verify")
    task, sample = math_task(), {"problem": "Halve 1.", "solution": r"It is $\boxed{\frac{1}{2}}$."}
    assert task.is_correct(r"\boxed{0.5}", sample) and task.is_correct(r"Thus \boxed{\dfrac12}", sample)
    assert task.same_outcome(sample, r"\boxed{5}", r"so \boxed{5.}")
    assert not task.is_correct(r"\boxed{2}", sample) and not task.is_correct("I do not know", sample)
    assert task.same_outcome(sample, r"\boxed{\{1, 2\}}", r"\boxed{\{2,1\}}")
    assert task.same_outcome(sample, "nothing", "none at all")
    assert not task.same_outcome(sample, "nothing", r"\boxed{1}")
    assert task.same_outcome(sample, r"a \boxed{9^{9^{9^9}}}", r"b \boxed{9^{9^{9^9}}}")  # never parsed
    found = []
    powers = (sample, r"\boxed{2^{10}}", r"\boxed{1024}")
    thread = threading.Thread(target=lambda: found.append(task.same_outcome(*powers)))
    thread.start()
    thread.join()
    assert found == [True]
    assert sample["problem"] in prompt_of(task, sample) and "boxed" in prompt_of(task, sample, chat=False)


@pytest.mark.slow
def test_endless_comparison_is_stopped():
    pytest.importorskip("math_verify")
    comparer = MathComparer(seconds=1.0)
    assert not comparer.same(r"\boxed{9^{9^{9^9}}}", r"\boxed{7}")
    assert comparer.same(r"\boxed{7}", r"\boxed{7.0}")  # by a new process
    assert comparer._process is not None
    comparer._process.kill()
    comparer._process.wait()
    assert not comparer.same(r"\boxed{7}", r"\boxed{7}")
    assert comparer.same(r"\boxed{7}", r"\boxed{7}")


def test_needs_math_verify(monkeypatch):
    monkeypatch.setattr("hf_autojudge.tasks.competition_math.find_spec", lambda _: None)
    with pytest.raises(ImportError, match="pip install"):
        math_task()
