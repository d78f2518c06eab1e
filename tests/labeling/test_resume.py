"""A search that was stopped goes on from the last mismatch it had labelled, and ends with the same labels."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from hf_autojudge.labeling import AutoJudge, LabelStore, SelfJudge, label_samples
from hf_autojudge.labeling.methods.base import Job
from hf_autojudge.labeling.pair import Pair
from hf_autojudge.labeling.progress import LabelingProgress
from hf_autojudge.tasks import Task
from tests.utils import make_pair, same_outcome, some_prompts, unlike_pair

METHODS = {
    "same": AutoJudge(),
    "rollouts": AutoJudge(rollouts=2),
    "correct": AutoJudge(outcome="correct"),
    "selfjudge": SelfJudge(num_suffix_tokens=5),
}


def make_jobs(pair):
    return [
        Job(i, p.tolist(), pair.limits(i, p.tolist(), 20), same_outcome, is_correct=lambda ids, i=i: sum(ids) % 3 == i)
        for i, p in enumerate(some_prompts(3))
    ]


def assert_same(one, other):
    """SelfJudge's likelihoods depend on the shapes of the passes in their last digits."""
    rounded = [
        replace(item, mismatches=[replace(m, importance=round(m.importance, 4)) for m in item.mismatches])
        for item in (one, other)
    ]
    assert rounded[0] == rounded[1]


@pytest.mark.parametrize("name", METHODS)
def test_continued_from_any_place(name):
    pair = Pair(*unlike_pair("llama"), eos_token_id=[2])
    seen = []
    jobs = [replace(job, on_progress=lambda found, i=job.index: seen.append((i, found))) for job in make_jobs(pair)]
    expected = dict(pair.run(METHODS[name], jobs, 2))
    assert {len(found.mismatches) for _, found in seen} > {0, 1, 2}
    for index, found in seen[::4]:
        new = []
        job = replace(jobs[index], found=found, on_progress=new.append)
        ((_, labels),) = pair.run(METHODS[name], [job], 1, progress=(progress := LabelingProgress(1)))
        assert_same(labels, expected[index])
        assert len(new) == len(progress.labels) == len(labels.mismatches) - len(found.mismatches)
        assert [item.mismatches[: len(found.mismatches)] for item in new] == [found.mismatches] * len(new)


def test_unfinished_searches_in_the_store(tmp_path):
    pair = Pair(*unlike_pair("llama"), eos_token_id=[2])
    store = LabelStore(tmp_path, {"method": "autojudge", "outcome": "same"})
    job = replace(make_jobs(pair)[0], on_progress=lambda found: store.add_unfinished(0, found))
    assert store.unfinished(0, job.prompt) is None
    ((_, labels),) = pair.run(AutoJudge(), [job], 1)
    assert LabelStore(tmp_path).unfinished(0, job.prompt) == labels  # the last mismatch was its last news
    assert store.unfinished(0, [3]) is None
    assert not store.done()
    store.add(0, labels)
    assert store.unfinished(0, job.prompt) is None and store.done() == {0}


SAMPLES = [{"ids": [3 + i, 4, 5 + i]} for i in range(5)]


def label(folder, batch_size):
    """Runs in a forked process, which need not import anything. Every comparison leaves a line."""

    def same(sample, reference, answer):
        time.sleep(0.02)
        with open(folder.with_suffix(".log"), "a") as log:
            log.write(f"{sample['ids']} {answer}\n")
        return reference == answer

    task = Task("t", lambda sample, _: sample["ids"], same, lambda split, max_samples: SAMPLES, 60)
    tokenizer = SimpleNamespace(decode=lambda ids, **_: str(sum(ids) % 3))
    label_samples(*make_pair("llama", 3), tokenizer, task, SAMPLES, folder, batch_size=batch_size, progress=False)


@pytest.mark.slow
def test_a_killed_run_does_no_mismatch_again(tmp_path):
    """Killed whenever some more comparisons were made: each kill costs at most the comparisons that were under way."""
    context = multiprocessing.get_context("fork")

    def start(folder, batch_size):
        process = context.Process(target=label, args=(folder, batch_size))
        process.start()
        return process

    def num_compared(folder):
        log = folder.with_suffix(".log")
        return len(log.read_text().splitlines()) if log.exists() else 0

    expected, killed = tmp_path / "expected", tmp_path / "killed"
    start(expected, 4).join()
    lost = 0
    for attempt in range(20):
        batch_size = (1, 2, 4)[attempt % 3]
        process = start(killed, batch_size)
        before = num_compared(killed)
        while process.is_alive() and num_compared(killed) < before + 1 + attempt % 4:
            time.sleep(0.002)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            lost += batch_size
        process.join()
    final = start(killed, 4)
    final.join()
    assert final.exitcode == 0 and lost >= 10
    assert LabelStore(killed).labelled() == LabelStore(expected).labelled()
    mismatches = sum(len(item.mismatches) for item in LabelStore(expected).labelled())
    assert num_compared(expected) == mismatches > 20
    assert num_compared(killed) <= mismatches + lost
    assert not list((killed / "unfinished").iterdir())
