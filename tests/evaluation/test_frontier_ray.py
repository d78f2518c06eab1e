"""Measuring with Ray gives the same frontier and the same folder as measuring locally, even if workers are killed."""

import os
import signal
import sys
from functools import partial

import pytest

pytest.importorskip("ray")
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray

from hf_autojudge import TopKRule
from hf_autojudge.evaluation import measure_frontier
from hf_autojudge.evaluation import ray as evaluation_ray
from hf_autojudge.evaluation.ray import measure_frontier_with_ray
from hf_autojudge.tasks import Task
from tests.utils import make_pair, random_head

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import this file

SAMPLES = [{"number": i, "ids": [3 + i, 4, 5 + i, *range(6, 6 + i % 3)]} for i in range(9)]
JUDGES = {"head": random_head(("draft_token.draft", "draft_token.target"), 0)[1], "top-2": TopKRule(2)}


class Tokenizer:
    pad_token_id = 0

    def decode(self, ids, skip_special_tokens):
        return " ".join(map(str, ids))


def load():
    return *make_pair("llama", 3), Tokenizer()


def is_correct(sample, answer):
    return sum(map(int, answer.split())) % 3 == 0


def make_task(correct=is_correct):
    return Task("t", lambda sample, _: sample["ids"], None, lambda split, n: SAMPLES[:n], 16, correct)


def with_ray(folder=None, correct=is_correct, judges=JUDGES, **options):
    options = {"batch_size": 3, "num_timed": 2, "progress": False} | options
    return measure_frontier_with_ray(load, make_task(correct), SAMPLES, judges, [0.5], folder=folder, **options)


def locally(folder=None, **options):
    options = {"batch_size": 3, "num_timed": 2, "progress": False} | options
    return measure_frontier(*load(), make_task(), SAMPLES, JUDGES, [0.5], folder=folder, **options)


def assert_same(found, expected):
    assert [p.name for p in found.points] == [p.name for p in expected.points]
    for point, other in zip(found.points, expected.points, strict=True):
        for name, value in vars(other).items():
            if not name.startswith(("tokens_per_second", "speed_ratio")):
                assert getattr(point, name) == value, (point.name, name)
        ours, theirs = found.questions[point.name], expected.questions[point.name]
        assert (ours.correct, ours.new_tokens, ours.target_calls) == (
            theirs.correct,
            theirs.new_tokens,
            theirs.target_calls,
        )
        assert len(ours.seconds) == len(theirs.seconds) == found.settings["num_timed"]


@pytest.fixture(scope="module")
def cluster():
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.slow
def test_the_frontier_equals_the_local_one_and_folders_are_interchangeable(cluster, tmp_path):
    expected = locally(tmp_path / "local")
    assert_same(with_ray(tmp_path / "ray"), expected)
    names = {"settings.json", "answers.jsonl"}
    assert {p.name for p in (tmp_path / "ray").iterdir()} == {p.name for p in (tmp_path / "local").iterdir()} == names
    settings = [(tmp_path / name / "settings.json").read_bytes() for name in ("ray", "local")]
    assert settings[0] == settings[1]
    lines = [(tmp_path / name / "answers.jsonl").read_bytes() for name in ("ray", "local")]
    assert len(lines[0].splitlines()) == len(lines[1].splitlines()) == 5 * 9 + 2
    assert locally(tmp_path / "ray").questions == with_ray(tmp_path / "ray").questions
    assert with_ray(tmp_path / "local").questions == expected.questions
    assert [
        (tmp_path / name / "answers.jsonl").read_bytes() for name in ("ray", "local")
    ] == lines  # nothing was asked


def kill_once(folder, sample, answer):
    """Kills the worker once, at sample 7."""
    marker = folder / "killed"
    if sample["number"] == 7 and not marker.exists():
        marker.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    return is_correct(sample, answer)


def kill_always(sample, answer):
    os.kill(os.getpid(), signal.SIGKILL)


def fail(sample, answer):
    raise KeyError("no such answer")


@pytest.mark.slow
def test_a_killed_worker_answers_its_block_again(cluster, tmp_path):
    found = with_ray(tmp_path / "answers", partial(kill_once, tmp_path))
    assert (tmp_path / "killed").exists()
    assert_same(found, locally())


@pytest.mark.slow
def test_runs_that_fail(cluster, tmp_path, monkeypatch):
    with pytest.raises(KeyError, match="no such answer"):
        with_ray(correct=fail)
    monkeypatch.setattr(evaluation_ray, "MAX_ATTEMPTS", 1)
    with pytest.raises(RuntimeError, match="Ray's workers failed"):
        with_ray(correct=kill_always, workers=1)
    with pytest.raises(ValueError, match="workers must be at least 1; got 0"):
        with_ray(workers=0)
    with pytest.raises(ValueError, match="There are no samples"):
        measure_frontier_with_ray(load, make_task(), [], JUDGES, [0.5])
    locally(tmp_path)
    with pytest.raises(ValueError, match="judge 'top-2' was 'TopKRule"):
        with_ray(tmp_path, judges={"top-2": TopKRule(3)})
