"""Labels survive being killed: nothing lost, nothing twice."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace

import pytest

from hf_autojudge.labeling import LabelledPrompt, LabelStore, Mismatch, Task, label

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


def test_a_half_written_file_counts_as_not_done(tmp_path):
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


def test_other_settings_are_refused(tmp_path):
    LabelStore(tmp_path, SETTINGS)
    with pytest.raises(ValueError, match="max_new_tokens was 5 and is now 6"):
        LabelStore(tmp_path, SETTINGS | {"max_new_tokens": 6})


def test_reading_removes_nothing(tmp_path):
    """Another process may be writing."""
    store = LabelStore(tmp_path, SETTINGS)
    store.add(0, labelled(0))
    beside = tmp_path / "prompts" / ".00000001.5.tmp.parquet"
    beside.write_bytes(b"PAR1")
    assert store.done() == {0} and len(store.load()) == 1 and beside.exists()


def test_other_rows_are_refused(tmp_path, llama_pair):
    def run(rows):
        task = Task("t", lambda row, _: row["ids"], lambda row, a, b: a == b, lambda split, limit: rows, 4)
        return list(label(*llama_pair, SimpleNamespace(decode=lambda ids, **_: str(ids)), task, rows, tmp_path))

    assert run([{"ids": [3, 4]}]) != [None]
    assert run([{"ids": [3, 4]}]) == [None]
    with pytest.raises(ValueError, match="another one than row 0"):
        run([{"ids": [4, 3]}])


def test_empty_or_missing(tmp_path):
    with pytest.raises(ValueError, match="not a label store"):
        LabelStore(tmp_path / "nothing")
    with pytest.raises(ValueError, match="no labels yet"):
        LabelStore(tmp_path, SETTINGS).load()


def test_killed_runs_resume(tmp_path):
    """A labelling process is killed several times, at any moment; the store ends equal to an uninterrupted one's."""
    script = textwrap.dedent(
        """
        import sys
        from hf_autojudge.labeling import LabelStore, find_important_tokens, label
        from hf_autojudge.labeling.tasks import Task
        from tests.conftest import make_pair

        class Tokenizer:
            def decode(self, ids, skip_special_tokens):
                return str(sum(ids) % 3)

        rows = [{"ids": [3 + i, 4, 5 + i]} for i in range(12)]
        task = Task("t", lambda row, _: row["ids"], lambda row, a, b: a == b, lambda split, n: rows, 16)
        for _ in label(*make_pair("llama", 3), Tokenizer(), task, rows, sys.argv[1]):
            print("done", flush=True)
        """
    )

    def start(folder):
        return subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True)

    whole = start(tmp_path / "whole")
    assert whole.communicate()[0].count("done") == 12 and whole.returncode == 0
    for kill_after in (1, 3, 6):
        process = start(tmp_path / "killed")
        for _ in range(kill_after):
            assert process.stdout.readline()
        time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    finished = start(tmp_path / "killed")
    finished.communicate()
    assert LabelStore(tmp_path / "killed").labelled() == LabelStore(tmp_path / "whole").labelled()
