"""AutoJudge's search with `outcome="correct"` equals a plain sequential reference, and its labels know their store."""

from types import SimpleNamespace

import pytest
import torch

from hf_autojudge.labeling import AutoJudge, LabelStore, SelfJudge, find_important_tokens, label_samples
from hf_autojudge.labeling.methods.autojudge import _seed
from hf_autojudge.labeling.methods.base import Job
from hf_autojudge.labeling.noise import Noise
from hf_autojudge.labeling.pair import Pair
from hf_autojudge.labeling.progress import LabelingProgress
from hf_autojudge.tasks import Task
from tests.reference import run
from tests.utils import ARCHITECTURES, make_pair, some_prompts, unlike_pair

EOS = {2, 5}


def is_right(index, answer):
    """The target's own answer is right for some prompts and wrong for others."""
    return (sum(answer) + index) % 3 == 0


def first_large(answer):
    """An outcome that is settled as soon as it is written."""
    return next((token for token in answer if token > 35), None)


def first_large_is_right(index, answer):
    return first_large(answer) is not None and first_large(answer) % 3 == index % 3


def reference_search(target, draft, index, prompt, right, max_new_tokens, rollouts=0, temperature=1.0):
    """One token and one full forward pass at a time. Mismatches are tuples: position, the target's token, the draft's,
    important, helpful, importance."""
    start, limit = len(prompt), len(prompt) + max_new_tokens

    def finish(text, noise=None):
        text = list(text)
        while len(text) < limit and not (len(text) > start and text[-1] in EOS):
            logits = run(target, text)[0][-1:]
            chosen = logits.argmax(-1) if noise is None else noise.choose(logits, torch.tensor([len(text) - 1]))
            text.append(int(chosen))
        return text

    current = finish(prompt)
    reference = current[start:]
    mismatches, border = [], start
    while True:
        for position in range(border, len(current)):
            choice = int(run(draft, current[:position])[0][-1].argmax())
            if choice != current[position]:
                break
        else:
            return mismatches, reference, current[start:]
        swapped = [*current[:position], choice]
        alternative = finish(swapped)
        before, after = right(index, current[start:]), right(index, alternative[start:])
        important, helpful = before and not after, after and not before
        completions = [alternative]
        for rollout in range(rollouts):
            completions.append(finish(swapped, Noise(_seed(0, index, position - start, rollout), temperature)))
        num_wrong = sum(not right(index, completion[start:]) for completion in completions)
        importance = num_wrong / len(completions) if before else 0.0
        mismatches.append((position - start, current[position], choice, important, helpful, importance))
        if not important:
            current = alternative
        border = position + 1


def search(pair, prompts, right, max_new_tokens, batch_size, settled=None, threads=0, progress=None, **options):
    pair = Pair(*pair, eos_token_id=sorted(EOS))
    jobs = [
        Job(
            i,
            prompt.tolist(),
            pair.limits(i, prompt.tolist(), max_new_tokens),
            same_outcome=None,  # never called
            settled=settled,
            is_correct=lambda answer, i=i: right(i, answer),
        )
        for i, prompt in enumerate(prompts)
    ]
    method = AutoJudge(outcome="correct", **options)
    return [plain(item) for _, item in sorted(pair.run(method, jobs, batch_size, threads, progress))]


def plain(item):
    found = [
        (m.position, m.target_token, m.draft_token, m.important, m.helpful, m.importance) for m in item.mismatches
    ]
    return found, item.reference, item.response


@pytest.mark.parametrize(
    ("architecture", "n"), [*((a, 6) for a in ARCHITECTURES), pytest.param("llama", 50, marks=pytest.mark.slow)]
)
def test_labels_equal_the_sequential_reference(architecture, n):
    pair = unlike_pair(architecture)
    prompts = some_prompts(n)
    expected = [reference_search(*pair, i, p.tolist(), is_right, 14) for i, p in enumerate(prompts)]
    for batch_size in (1, 4, 16):
        assert search(pair, prompts, is_right, 14, batch_size) == expected
    assert search(pair, prompts, is_right, 14, 4, threads=3) == expected
    kinds = {(important, helpful) for found, _, _ in expected for *_, important, helpful, _ in found}
    assert kinds == {(True, False), (False, True), (False, False)}
    assert {is_right(i, reference) for i, (_, reference, _) in enumerate(expected)} == {True, False}


def test_a_response_that_became_right_is_protected():
    """It is compared with the current response, not with the wrong reference."""
    results = search(unlike_pair("llama"), some_prompts(30), is_right, 14, 8)
    protected = 0
    for index, (found, reference, response) in enumerate(results):
        helpful = [i for i, mismatch in enumerate(found) if mismatch[4]]
        important = [i for i, mismatch in enumerate(found) if mismatch[3]]
        was_right = is_right(index, reference)
        assert len(helpful) <= (not was_right)
        assert is_right(index, response) == bool(was_right or helpful)
        if not was_right:
            assert all(helpful and i > helpful[0] for i in important)
            protected += len(important)
    assert protected


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_settled_answers_are_dropped_without_changing_labels(architecture):
    pair = unlike_pair(architecture)
    prompts = some_prompts(6)
    expected = [reference_search(*pair, i, p.tolist(), first_large_is_right, 20) for i, p in enumerate(prompts)]
    written = []
    for settled in (None, lambda answer: first_large(answer) is not None):
        progress = LabelingProgress(6)
        assert search(pair, prompts, first_large_is_right, 20, 1, settled, progress=progress) == expected
        written.append(progress.speculation.written)
        assert search(pair, prompts, first_large_is_right, 20, 5, settled) == expected
    assert written[1] < written[0]
    rights = {first_large_is_right(i, reference) for i, (_, reference, _) in enumerate(expected)}
    assert rights == {True, False} and any(m[4] for found, _, _ in expected for m in found)


def test_soft_labels_equal_the_sequential_reference():
    pair = unlike_pair("llama")
    prompts = some_prompts(4)
    options = {"rollouts": 2, "temperature": 1.0}
    expected = [
        reference_search(*pair, i, p.tolist(), first_large_is_right, 12, **options) for i, p in enumerate(prompts)
    ]
    for batch_size, settled in ((1, None), (4, None), (4, lambda answer: first_large(answer) is not None)):
        assert search(pair, prompts, first_large_is_right, 12, batch_size, settled, **options) == expected
    assert len({m[5] for found, _, _ in expected for m in found}) > 2
    assert {first_large_is_right(i, reference) for i, (_, reference, _) in enumerate(expected)} == {True, False}


def test_rightness_by_the_reference_is_the_same_outcome():
    pair = unlike_pair("qwen3")
    prompts = some_prompts(8)

    def same(a, b):
        return sum(a) % 3 == sum(b) % 3

    expected = find_important_tokens(*pair, prompts, same, 14, sorted(EOS), 4)
    references = [item.reference for item in expected]
    found = search(pair, prompts, lambda i, answer: same(references[i], answer), 14, 4)
    assert found == [plain(item) for item in expected]
    assert not any(m.helpful for item in expected for m in item.mismatches)


def test_progress_counts_every_mismatch():
    progress = LabelingProgress(9)
    results = search(unlike_pair("llama"), some_prompts(9), is_right, 14, 4, progress=progress)
    labels = [mismatch[3] for found, _, _ in results for mismatch in found]
    assert progress.done == 9 and sorted(progress.labels) == sorted(labels)


TOKENIZER = SimpleNamespace(decode=lambda ids, **_: str(sum(ids) % 3))
SAMPLES = [{"ids": [3 + i, 4, 5 + i], "answer": str(i % 3)} for i in range(6)]


def make_task(**options):
    def same(sample, reference, answer):
        return reference == answer

    return Task("t", lambda sample, _: sample["ids"], same, lambda split, max_samples: SAMPLES, 12, **options)


def label(folder, samples=SAMPLES, method=None, **task_options):
    pair = make_pair("llama", 3)
    task = make_task(**task_options)
    return label_samples(*pair, TOKENIZER, task, samples, folder, method=method, progress=False)


def test_the_answers_of_a_task(tmp_path):
    by_answer = label(tmp_path / "a", method=AutoJudge(outcome="correct"))
    assert by_answer.settings["outcome"] == "correct"
    without = [{"ids": sample["ids"], "number": sample["answer"]} for sample in SAMPLES]
    by_function = label(
        tmp_path / "b", without, AutoJudge(outcome="correct"), correct=lambda sample, text: text == sample["number"]
    )
    assert by_function.labelled() == by_answer.labelled()
    assert LabelStore(tmp_path / "a").labelled() == by_answer.labelled()
    assert any(m.helpful for item in by_answer.labelled() for m in item.mismatches)


@pytest.mark.parametrize("missing", [{}, {"answer": None}])
def test_a_task_without_right_answers_is_refused(tmp_path, missing):
    samples = [*SAMPLES[:2], {"ids": [3, 4]} | missing]
    with pytest.raises(ValueError, match=r"the task t has no function `correct` and sample 2 no `answer`; use"):
        label(tmp_path / "labels", samples, AutoJudge(outcome="correct"))
    assert not (tmp_path / "labels").exists()
    assert len(label(tmp_path / "labels", samples).done()) == 3  # the default outcome needs none


def test_outcomes_do_not_mix(tmp_path):
    label(tmp_path, SAMPLES[:1])
    with pytest.raises(ValueError, match="outcome was 'same' and is now 'correct'"):
        label(tmp_path, method=AutoJudge(outcome="correct"))
    with pytest.raises(ValueError, match="outcome was 'same' and is now 'correct'"):
        label(tmp_path, method=AutoJudge(rollouts=2, outcome="correct"))
    assert "outcome" not in SelfJudge().settings()


def test_bad_input():
    with pytest.raises(ValueError, match="outcome must be 'same' or 'correct'; got 'right'"):
        AutoJudge(outcome="right")
    with pytest.raises(ValueError, match="needs the right answer to prompt 0; use label_samples"):
        find_important_tokens(*unlike_pair("llama"), [[3, 4]], None, 5, outcome="correct")
