"""Labelling by several workers gives the local engine's store, whatever dies on the way."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from itertools import islice
from pathlib import Path

import pytest

pytest.importorskip("ray")
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray

from hf_autojudge.labeling import AutoJudge, LabelStore, label_samples
from hf_autojudge.labeling.ray import ATTEMPTS, _Attempts, _Work, _Worker, label_samples_with_ray
from hf_autojudge.tasks import Task
from tests.conftest import make_pair

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import this file

ROWS = [{"number": i, "ids": [3 + i, 4, 5 + i]} for i in range(16)]


class Tokenizer:
    def decode(self, ids, skip_special_tokens):
        return str(sum(ids) % 3)


def load():
    return *make_pair("llama", 3), Tokenizer()


def same(row, one, other):
    return one == other


def make_task(same_outcome=same):
    return Task("t", lambda row, _: row["ids"], same_outcome, lambda split, limit: ROWS, 16)


def on_cluster(folder, same_outcome=same, **options):
    return label_samples_with_ray(
        load, make_task(same_outcome), ROWS, folder, **{"batch_size": 2, "block_size": 4} | options
    )


def locally(folder):
    return label_samples(*load(), make_task(), ROWS, folder, batch_size=4)


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert len(list(locally(folder))) == len(ROWS)
    return LabelStore(folder)


def assert_same(folder, whole):
    store = LabelStore(folder)
    assert store.settings == whole.settings
    assert store.labelled() == whole.labelled()


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_store_is_the_local_one(tmp_path, whole):
    found = list(on_cluster(tmp_path))
    assert sorted(found, key=lambda item: item.prompt) == whole.labelled()
    assert_same(tmp_path, whole)


def log(folder, row):
    with open(folder / f"{os.getpid()}.log", "a") as file:
        file.write(f"{row['number']}\n")


def logged(folder):
    return {int(path.stem): path.read_text().split() for path in folder.glob("*.log")}


def kill_once(folder, row, one, other):
    """Kills the worker at row 7 when others of its block are done, once."""
    log(folder, row)
    marker = folder / "killed"
    if row["number"] == 7 and not marker.exists():
        prompts = folder / "labels" / "prompts"
        marker.write_text(f"{os.getpid()} " + " ".join(str(int(path.stem)) for path in prompts.glob("[0-9]*")))
        os.kill(os.getpid(), signal.SIGKILL)
    return same(row, one, other)


def test_a_killed_worker_costs_only_its_prompts_in_flight(tmp_path, whole):
    found = list(on_cluster(tmp_path / "labels", partial(kill_once, tmp_path)))
    killed, *done = (tmp_path / "killed").read_text().split()
    seen = logged(tmp_path)
    assert len(found) == len(ROWS) and len(seen) == 3
    mine = set(done) & set(seen.pop(int(killed)))
    assert mine and not any(mine & set(rows) for rows in seen.values())
    assert_same(tmp_path / "labels", whole)


def die(row, one, other):
    raise SystemExit


def test_prompts_that_kill_every_worker_are_given_up(tmp_path, whole):
    """The deaths themselves are left out: each costs the start of a process."""
    LabelStore(tmp_path, whole.settings)
    prompts = {row["number"]: (row["ids"], row) for row in ROWS}
    work = ray.put(_Work(load, make_task(die), tmp_path, 16, AutoJudge(), 2, prompts))
    worker = _Worker(work, ray.remote(num_cpus=0)(_Attempts).remote())
    for _ in range(ATTEMPTS):
        with pytest.raises(SystemExit):
            worker({"indices": [4, 7]})
    (found,) = worker({"indices": [4, 7]})
    assert f"died {ATTEMPTS} times at the prompts [4, 7]" in str(found["found"].error)
    worker.done = {4, 7}
    for _ in range(ATTEMPTS + 1):
        assert worker({"indices": [4, 7]}) == [{"found": None}] * 2


def fail(folder, row, one, other):
    log(folder, row)
    if row["number"] == 2:
        raise KeyError("no such answer")
    return same(row, one, other)


def test_errors_of_the_task_reach_the_caller_once(tmp_path):
    with pytest.raises(KeyError, match="^'no such answer'$") as caught:
        list(on_cluster(tmp_path / "labels", partial(fail, tmp_path), workers=1))
    assert "in fail" in str(caught.value.__cause__)
    assert sum(rows.count("2") for rows in logged(tmp_path).values()) == 1
    wait_for(lambda: not any(alive(pid) for pid in logged(tmp_path)))


def fail_to_load():
    raise OSError("no such model")


def test_what_cannot_begin(tmp_path, whole):
    with pytest.raises(OSError, match="^no such model$"):
        list(label_samples_with_ray(fail_to_load, make_task(), ROWS, tmp_path))
    with pytest.raises(ValueError, match="max_new_tokens was 16 and is now 15"):
        next(on_cluster(whole.folder, max_new_tokens=15))
    assert list(on_cluster(whole.folder)) == [None] * len(ROWS)
    with pytest.raises(ValueError, match="workers must be at least 1; got 0"):
        next(on_cluster(tmp_path, workers=0))


def test_engines_take_turns(tmp_path, whole):
    def left():
        return len(ROWS) - len(LabelStore(tmp_path).done())

    assert len(list(islice(locally(tmp_path), 3))) == 3
    begun = left()
    run = on_cluster(tmp_path, workers=1, block_size=2)
    found = list(islice(run, len(ROWS) - begun + 1))
    run.close()
    assert found[:-1] == [None] * (len(ROWS) - begun) and found[-1] is not None and 0 < left() < begun
    assert sum(item is not None for item in locally(tmp_path)) > 0
    assert_same(tmp_path, whole)


def slowly(folder, row, one, other):
    log(folder, row)
    time.sleep(0.05)
    return same(row, one, other)


def test_a_killed_driver_leaves_nothing_behind_but_labels(tmp_path, whole):
    script = textwrap.dedent(
        """
        import sys
        from functools import partial
        from pathlib import Path
        from tests.labeling.test_cluster import on_cluster, slowly

        folder = Path(sys.argv[1])
        for _ in on_cluster(folder / "labels", partial(slowly, folder), workers=1, block_size=2):
            print("done", flush=True)
        """
    )
    driver = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert driver.stdout.readline() == "done\n"
    driver.kill()
    driver.wait()
    driver.stdout.close()
    workers = logged(tmp_path)
    assert workers
    wait_for(lambda: not any(alive(pid) for pid in workers))
    assert 0 < len(LabelStore(tmp_path / "labels").done()) < len(ROWS)
    assert len(list(locally(tmp_path / "labels"))) == len(ROWS)
    assert_same(tmp_path / "labels", whole)


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "hf_autojudge.labeling.ray")
    with pytest.raises(ImportError, match=r"pip install 'hf_autojudge\[ray\]'"):
        import hf_autojudge.labeling.ray  # noqa: F401
