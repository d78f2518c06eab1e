"""Label stores: nothing is lost or written twice when runs are killed."""

import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, List

from hf_autojudge.labeling import LabelledPrompt, LabelStore, Mismatch, label_samples
from hf_autojudge.labeling.store import FEATURES
from hf_autojudge.tasks import Task
from tests.utils import make_pair

SETTINGS = {"target": "a", "max_new_tokens": 5}


def labelled(index):
    mismatches = [
        Mismatch(position=p, target_token=p, draft_token=index, important=p % 2 == 0) for p in range(index % 3)
    ]
    return LabelledPrompt(prompt=[1, index], mismatches=mismatches, reference=[5] * index, response=[6, 7])


def test_round_trip_in_order(tmp_path):
    store = LabelStore(tmp_path / "labels", SETTINGS)
    for index in (4, 0, 2):
        store.add(index, labelled(index))
    store.add(2, labelled(2))
    assert store.done() == {0, 2, 4}
    again = LabelStore(tmp_path / "labels")
    assert again.labelled() == [labelled(0), labelled(2), labelled(4)]
    assert again.load()["index"][:] == [0, 2, 4]


def test_packed_labels_are_one_file_and_may_grow(tmp_path):
    store = LabelStore(tmp_path, SETTINGS)
    with pytest.raises(ValueError, match="holds no labels"):
        store.pack()
    for index in (4, 0, 2):
        store.add(index, labelled(index))
    assert store.pack() == tmp_path / "labels.parquet"
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["labels.parquet", "manifest.json"]
    assert store.done() == {0, 2, 4} and LabelStore(tmp_path).labelled() == [labelled(0), labelled(2), labelled(4)]
    store.add(1, labelled(1))
    store.add(2, labelled(5))  # labelled again
    grown = [labelled(0), labelled(1), labelled(5), labelled(4)]
    assert store.labelled() == grown and store.prompts() == {0: [1, 0], 1: [1, 1], 2: [1, 5], 4: [1, 4]}
    store.pack()
    assert LabelStore(tmp_path).labelled() == grown and not list((tmp_path / "prompts").iterdir())


def test_answers_cut_off_at_the_limit_are_counted(tmp_path):
    store = LabelStore(tmp_path, SETTINGS)
    for index, reference in enumerate(([5, 5, 5, 5, 5], [5, 5, 5, 5, 2], [5, 2], [5, 5, 5, 5, 7])):
        store.add(index, LabelledPrompt([1], [], reference, reference))
    assert store.num_cut_off({2}) == 2 and store.num_cut_off({2, 7}) == 1 and store.num_cut_off(()) == 3
    annotated = LabelStore(tmp_path / "annotated", SETTINGS | {"max_new_tokens": None})
    annotated.add(0, LabelledPrompt([1], [], [5] * 5, [5] * 5))
    assert annotated.num_cut_off({2}) == 0


def test_cut_off_answers_are_told_once_at_the_end(tmp_path, caplog):
    samples = [{"ids": [3 + i, 4, 5]} for i in range(4)]
    pair = make_pair("llama", 3)
    task = Task("t", lambda sample, _: sample["ids"], lambda *_: True, None, 40)
    texts = SimpleNamespace(decode=lambda ids, skip_special_tokens: "")
    for limit, count in ((2, 4), (1, 1)):
        store = label_samples(*pair, texts, task, samples[:count], tmp_path / str(limit), max_new_tokens=limit)
        (message,) = [record.getMessage() for record in caplog.records if "cut off" in record.getMessage()]
        assert message.startswith(f"{count} of {count} answers of the target were cut off at max_new_tokens = {limit}")
        assert "--max-new-tokens" in message and store.num_cut_off({2}) == count
        caplog.clear()
    pair[0].generation_config.eos_token_id = list(range(48))  # every answer ends with its first token
    label_samples(*pair, texts, task, samples, tmp_path / "whole")
    assert not any("cut off" in record.getMessage() for record in caplog.records)


def test_an_incomplete_file_counts_as_not_labelled(tmp_path):
    store = LabelStore(tmp_path, SETTINGS)
    for index in range(4):
        store.add(index, labelled(index))
    half = tmp_path / "prompts" / "00000001.parquet"
    half.write_bytes(half.read_bytes()[:100])
    (tmp_path / "prompts" / "00000003.parquet").write_bytes(b"")
    (tmp_path / "prompts" / ".00000009.77.tmp.parquet").write_bytes(b"PAR1")
    store = LabelStore(tmp_path, SETTINGS)
    assert store.done() == {0, 2}
    for index in (1, 3):
        store.add(index, labelled(index))
    assert store.labelled() == [labelled(i) for i in range(4)]


def as_earlier_version(folder):
    """Rewrite a store as versions wrote it that knew one outcome and no helpful mismatches."""
    for path in (folder / "prompts").glob("*.parquet"):
        (row,) = pq.read_table(path).to_pylist()
        row["mismatches"] = [
            {name: value for name, value in mismatch.items() if name != "helpful"} for mismatch in row["mismatches"]
        ]
        fields = {name: FEATURES["mismatches"].feature[name] for name in FEATURES["mismatches"].feature}
        del fields["helpful"]
        features = Features(FEATURES | {"mismatches": List(fields)})
        pq.write_table(Dataset.from_list([row], features=features).data.table, path)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["settings"].pop("outcome", None)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_store_of_an_earlier_version(tmp_path):
    settings = SETTINGS | {"method": "autojudge", "outcome": "same"}
    store = LabelStore(tmp_path, settings)
    for index in range(4):  # one with no mismatches
        store.add(index, labelled(index))
    as_earlier_version(tmp_path)
    assert b"helpful" not in (tmp_path / "prompts" / "00000002.parquet").read_bytes()
    assert LabelStore(tmp_path).settings == settings
    with pytest.raises(ValueError, match="outcome was 'same' and is now 'correct'"):
        LabelStore(tmp_path, settings | {"outcome": "correct"})
    store = LabelStore(tmp_path, settings)
    helpful = LabelledPrompt([1, 4], [Mismatch(0, 5, 6, False, 0.25, helpful=True)], [5], [6])
    store.add(4, helpful)
    assert store.done() == set(range(5)) and store.prompts()[2] == [1, 2]
    assert store.labelled() == [*map(labelled, range(4)), helpful]
    assert json.loads((tmp_path / "manifest.json").read_text())["settings"] == settings


def test_other_files_are_ignored(tmp_path):
    store = LabelStore(tmp_path, SETTINGS)
    store.add(0, labelled(0))
    whole = (tmp_path / "prompts" / "00000000.parquet").read_bytes()
    (tmp_path / "prompts" / "00000000 (copy).parquet").write_bytes(whole)
    pq.write_table(pa.table({"index": [1], "prompt": [[1, 2]]}), tmp_path / "prompts" / "00000001.parquet")
    assert store.done() == {0} and store.labelled() == [labelled(0)]


def test_other_settings_are_refused(tmp_path):
    LabelStore(tmp_path, SETTINGS)
    with pytest.raises(ValueError, match="max_new_tokens was 5 and is now 6"):
        LabelStore(tmp_path, SETTINGS | {"max_new_tokens": 6})


def test_reading_removes_nothing(tmp_path):
    """Another process may be writing its temporary file."""
    store = LabelStore(tmp_path, SETTINGS)
    store.add(0, labelled(0))
    beside = tmp_path / "prompts" / ".00000001.5.tmp.parquet"
    beside.write_bytes(b"PAR1")
    assert store.done() == {0} and len(store.load()) == 1 and beside.exists()


def make_task(samples, max_new_tokens):
    return Task(
        "t",
        lambda sample, _: sample["ids"],
        lambda sample, reference, answer: reference == answer,
        lambda split, max_samples: samples,
        max_new_tokens,
    )


def test_other_samples_are_refused(tmp_path, llama_pair):
    tokenizer = SimpleNamespace(decode=lambda ids, **_: str(ids))

    def run(samples):
        """Number of prompts labelled in this run."""
        done = []
        label_samples(*llama_pair, tokenizer, make_task(samples, 4), samples, tmp_path, on_prompt=done.append)
        return len(done)

    assert run([{"ids": [3, 4]}]) == 1
    assert run([{"ids": [3, 4]}]) == 0
    with pytest.raises(ValueError, match="differs from sample 0"):
        run([{"ids": [4, 3]}])


def test_empty_or_missing(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text('{"target": "a"}')
    with pytest.raises(ValueError, match="older version"):
        LabelStore(tmp_path / "other", SETTINGS)
    with pytest.raises(ValueError, match="not a label store"):
        LabelStore(tmp_path / "nothing")
    with pytest.raises(ValueError, match="no labels yet"):
        LabelStore(tmp_path, SETTINGS).load()


def test_manifest_keeps_settings_and_runs(tmp_path):
    LabelStore(tmp_path, SETTINGS, {"batch_size": 3})
    LabelStore(tmp_path)
    LabelStore(tmp_path, SETTINGS, {"batch_size": 5})
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["settings"] == SETTINGS
    assert [run["batch_size"] for run in manifest["runs"]] == [3, 5]
    assert (
        manifest["runs"][0]["argv"] == sys.argv and {"torch", "transformers"} <= manifest["runs"][0]["versions"].keys()
    )


def test_leftovers_of_dead_processes_are_removed(tmp_path):
    LabelStore(tmp_path, SETTINGS)
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    host = socket.gethostname()
    dead, living, elsewhere = (
        tmp_path / "prompts" / f".00000001.{name}.tmp.parquet"
        for name in (f"{host}-{child.pid}", f"{host}-{os.getpid()}", "another-1")
    )
    for path in (dead, living, elsewhere):
        path.write_bytes(b"PAR1")
    LabelStore(tmp_path)  # only reads
    assert dead.exists()
    LabelStore(tmp_path, SETTINGS)
    assert not dead.exists() and living.exists() and elsewhere.exists()


SAMPLES = [{"ids": [3 + i % 40, 4, 5 + i % 30]} for i in range(60)]


def label_all(folder, batch_size):
    """Runs in a forked process, which need not import anything."""
    tokenizer = SimpleNamespace(decode=lambda ids, **_: str(sum(ids) % 3))
    task = make_task(SAMPLES, 24)
    label_samples(*make_pair("llama", 3), tokenizer, task, SAMPLES, folder, batch_size=batch_size, progress=False)


@pytest.mark.slow
def test_killed_runs_resume(tmp_path):
    """A labelling run is killed twenty times at random moments and resumed, each time with another batch size. The
    store ends equal to that of an uninterrupted run, file by file."""
    context = multiprocessing.get_context("fork")

    def start(folder, batch_size):
        process = context.Process(target=label_all, args=(folder, batch_size))
        process.start()
        return process

    expected, killed = tmp_path / "expected", tmp_path / "killed"
    began = time.monotonic()
    process = start(expected, 16)
    process.join()
    assert process.exitcode == 0
    seconds = time.monotonic() - began
    generator = random.Random(0)
    done = []
    for _ in range(20):
        process = start(killed, generator.choice([1, 2, 3, 8]))
        # counting the files makes the number of kills independent of the machine's load
        files = (done[-1] if done else 0) + generator.choice([0, 1])
        while process.is_alive() and len(list(killed.glob("prompts/[0-9]*"))) < files:
            time.sleep(0.005)
        time.sleep(generator.uniform(0, 0.05 * seconds))
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            done.append(len(LabelStore(killed).done()) if (killed / "manifest.json").exists() else 0)
        process.join()
    start(killed, 7).join()
    assert len(done) >= 15 and sum(0 < n < len(SAMPLES) for n in done) >= 5  # most were killed in the middle
    assert done == sorted(done)  # nothing is lost
    assert LabelStore(killed).labelled() == LabelStore(expected).labelled()
    names = [sorted(path.name for path in (folder / "prompts").iterdir()) for folder in (killed, expected)]
    assert names[0] == names[1] and len(names[0]) == len(SAMPLES)
    for name in names[0]:
        assert (killed / "prompts" / name).read_bytes() == (expected / "prompts" / name).read_bytes()
