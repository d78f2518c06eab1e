"""Labelling with Ray gives the same store as labelling locally, even when processes are killed."""

import importlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("ray")
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray

from hf_autojudge.labeling import AutoJudge, LabelStore, label_samples
from hf_autojudge.labeling.ray import MAX_ATTEMPTS, _Attempts, _Work, _Worker, label_samples_with_ray
from hf_autojudge.tasks import Task
from tests.utils import make_pair

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import this file

SAMPLES = [{"number": i, "ids": [3 + i, 4, 5 + i], "answer": str(i % 3)} for i in range(16)]


class Tokenizer:
    def decode(self, ids, skip_special_tokens):
        return str(sum(ids) % 3)


def load():
    return *make_pair("llama", 3), Tokenizer()


def same_outcome(sample, reference, answer):
    return reference == answer


def make_task(same_outcome=same_outcome):
    return Task("t", lambda sample, _: sample["ids"], same_outcome, lambda split, max_samples: SAMPLES, 16)


def label_with_ray(folder, same_outcome=same_outcome, **options):
    options = {"batch_size": 2, "block_size": 4} | options
    return label_samples_with_ray(load, make_task(same_outcome), SAMPLES, folder, **options)


def label_locally(folder, **options):
    return label_samples(*load(), make_task(), SAMPLES, folder, batch_size=4, **options)


class Stopped(Exception):
    pass


def stop_after(count):
    """An `on_prompt` that stops the run after `count` prompts."""
    seen = []

    def on_prompt(progress):
        seen.append(progress.done)
        if len(seen) == count:
            raise Stopped

    return on_prompt


@pytest.fixture(scope="module")
def cluster():
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def expected(cluster, tmp_path_factory):
    folder = tmp_path_factory.mktemp("expected")
    assert len(label_locally(folder).done()) == len(SAMPLES)
    return LabelStore(folder)


def assert_same(folder, expected):
    store = LabelStore(folder)
    assert store.settings == expected.settings
    assert store.labelled() == expected.labelled()


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def log(folder, sample):
    with open(folder / f"{os.getpid()}.log", "a") as file:
        file.write(f"{sample['number']}\n")


def read_logs(folder):
    """Numbers of the samples whose outcomes each process compared, by its id."""
    return {int(path.stem): path.read_text().split() for path in folder.glob("*.log")}


@pytest.mark.slow
def test_the_store_equals_the_local_one(tmp_path, expected):
    done = []
    store = label_with_ray(tmp_path, on_prompt=lambda progress: done.append((progress.done, len(progress.labels))))
    labelled = expected.labelled()
    assert store.labelled() == labelled
    assert [count for count, _ in done] == list(range(1, len(SAMPLES) + 1))
    assert done[-1][1] == sum(len(item.mismatches) for item in labelled)
    assert_same(tmp_path, expected)


@pytest.mark.slow
def test_labels_for_correctness_equal_the_local_ones(cluster, tmp_path):
    method = AutoJudge(outcome="correct")
    local = label_locally(tmp_path / "local", method=method)
    assert_same(label_with_ray(tmp_path / "ray", method=method).folder, local)
    assert any(mismatch.helpful for item in local.labelled() for mismatch in item.mismatches)


def test_a_task_without_right_answers_is_refused(tmp_path):
    samples = [{"number": 0, "ids": [3, 4]}]
    with pytest.raises(ValueError, match="sample 0 no `answer`"):
        label_samples_with_ray(load, make_task(), samples, tmp_path / "labels", method=AutoJudge(outcome="correct"))
    assert not (tmp_path / "labels").exists()


def kill_once(folder, sample, reference, answer):
    """Kills the worker once, at sample 7, when others of its block are done."""
    log(folder, sample)
    marker = folder / "killed"
    if sample["number"] == 7 and not marker.exists():
        prompts = folder / "labels" / "prompts"
        marker.write_text(f"{os.getpid()} " + " ".join(str(int(path.stem)) for path in prompts.glob("[0-9]*")))
        os.kill(os.getpid(), signal.SIGKILL)
    return same_outcome(sample, reference, answer)


@pytest.mark.slow
def test_a_killed_worker_costs_only_its_unfinished_prompts(tmp_path, expected):
    store = label_with_ray(tmp_path / "labels", partial(kill_once, tmp_path))
    killed, *done = (tmp_path / "killed").read_text().split()
    logs = read_logs(tmp_path)
    assert len(store.done()) == len(SAMPLES) and len(logs) == 3
    finished = set(done) & set(logs.pop(int(killed)))
    assert finished and not any(finished & set(numbers) for numbers in logs.values())
    assert_same(tmp_path / "labels", expected)


def die(sample, reference, answer):
    raise SystemExit


@pytest.mark.slow
def test_prompts_that_kill_every_worker_are_given_up(tmp_path, expected):
    """Calls the worker in this process, because each real death costs the start of another process."""
    LabelStore(tmp_path, expected.settings)
    prompts = {sample["number"]: (sample["ids"], sample) for sample in SAMPLES}
    work = ray.put(_Work(load, make_task(die), tmp_path, 16, AutoJudge(), 2, prompts))
    worker = _Worker(work, ray.remote(num_cpus=0)(_Attempts).remote())
    for _ in range(MAX_ATTEMPTS):
        with pytest.raises(SystemExit):
            worker({"indices": [4, 7]})
    (row,) = worker({"indices": [4, 7]})
    assert f"died {MAX_ATTEMPTS} times at the prompts [4, 7]" in str(row["result"].error)
    worker.done = {4, 7}
    for _ in range(MAX_ATTEMPTS + 1):
        assert worker({"indices": [4, 7]}) == [{"index": 4, "result": None}, {"index": 7, "result": None}]


def fail(folder, sample, reference, answer):
    log(folder, sample)
    if sample["number"] == 2:
        raise KeyError("no such answer")
    return same_outcome(sample, reference, answer)


@pytest.mark.slow
def test_errors_of_the_task_reach_the_caller_once(tmp_path, cluster):
    with pytest.raises(KeyError, match="^'no such answer'$") as caught:
        label_with_ray(tmp_path / "labels", partial(fail, tmp_path), workers=1)
    assert "in fail" in str(caught.value.__cause__)
    assert sum(numbers.count("2") for numbers in read_logs(tmp_path).values()) == 1
    wait_for(lambda: not any(is_alive(pid) for pid in read_logs(tmp_path)))


def fail_to_load():
    raise OSError("no such model")


@pytest.mark.slow
def test_runs_that_cannot_start(tmp_path, expected):
    with pytest.raises(OSError, match="^no such model$"):
        label_samples_with_ray(fail_to_load, make_task(), SAMPLES, tmp_path)
    with pytest.raises(ValueError, match="max_new_tokens was 16 and is now 15"):
        label_with_ray(expected.folder, max_new_tokens=15)
    assert len(label_with_ray(expected.folder, on_prompt=stop_after(1)).done()) == len(SAMPLES)  # nothing to do
    with pytest.raises(ValueError, match="workers must be at least 1; got 0"):
        label_with_ray(tmp_path, workers=0)


@pytest.mark.slow
def test_local_and_ray_runs_resume_each_other(tmp_path, expected):
    def num_missing():
        return len(SAMPLES) - len(LabelStore(tmp_path).done())

    with pytest.raises(Stopped):
        label_locally(tmp_path, on_prompt=stop_after(3))
    before = num_missing()
    assert before == len(SAMPLES) - 3
    with pytest.raises(Stopped):
        label_with_ray(tmp_path, workers=1, block_size=2, on_prompt=stop_after(1))
    assert 0 < num_missing() < before
    label_locally(tmp_path)
    assert_same(tmp_path, expected)


def compare_slowly(folder, sample, reference, answer):
    log(folder, sample)
    time.sleep(0.05)
    return same_outcome(sample, reference, answer)


@pytest.mark.slow
def test_a_killed_driver_leaves_only_labels(tmp_path, expected):
    script = textwrap.dedent(
        """
        import sys
        from functools import partial
        from pathlib import Path
        from tests.labeling.test_ray import compare_slowly, label_with_ray

        folder = Path(sys.argv[1])
        def on_prompt(progress):
            print("done", flush=True)

        label_with_ray(
            folder / "labels", partial(compare_slowly, folder), workers=1, block_size=2, on_prompt=on_prompt
        )
        """
    )
    driver = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert driver.stdout.readline() == "done\n"
    driver.kill()
    driver.wait()
    driver.stdout.close()
    workers = read_logs(tmp_path)
    assert workers
    wait_for(lambda: not any(is_alive(pid) for pid in workers))
    assert 0 < len(LabelStore(tmp_path / "labels").done()) < len(SAMPLES)
    assert len(label_locally(tmp_path / "labels").done()) == len(SAMPLES)
    assert_same(tmp_path / "labels", expected)


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    for module in ("hf_autojudge.cluster", "hf_autojudge.labeling.ray", "hf_autojudge.evaluation.ray"):
        monkeypatch.delitem(sys.modules, module, raising=False)
        with pytest.raises(ImportError, match=r"pip install 'hf_autojudge\[ray\]'"):
            importlib.import_module(module)
