"""Marked answers become records of every token."""

import json

import pytest

from hf_autojudge.demo.embedded import load_pair
from hf_autojudge.labeling import Annotated, label_samples
from hf_autojudge.labeling.methods.annotated import marked_tokens
from hf_autojudge.tasks import annotated_answers_task
from tests.reference import run

ANSWER = "3 + 4 = 8 , so 8 apples"


@pytest.fixture(scope="module")
def pair():
    return load_pair()


def test_tokens_that_share_a_character_are_wrong(pair):
    tokenizer = pair[2]
    start = ANSWER.index("8")
    ids, flags = marked_tokens(tokenizer, ANSWER, [[start, start + 1]])
    offsets = tokenizer(ANSWER, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    assert flags == [a <= start < b for a, b in offsets] and sum(flags) == 1
    assert sum(marked_tokens(tokenizer, ANSWER, [])[1]) == 0
    assert all(marked_tokens(tokenizer, ANSWER, [[0, len(ANSWER)]])[1])


def test_every_token_is_a_row(pair, tmp_path):
    target, _, tokenizer = pair
    rows = [
        {"prompt": "Tom has 3 apples and gets 4.", "answer": ANSWER, "wrong": [[8, 9], [15, 16]]},
        {"prompt": "Tom has 3 apples.", "answer": "3 apples", "wrong": []},
    ]
    path = tmp_path / "answers.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    task = annotated_answers_task(str(path))
    loaded = task.load("train", None)
    method = Annotated(loaded, tokenizer)
    store = label_samples(target, None, tokenizer, task, loaded, tmp_path / "labels", method=method)
    assert store.settings["method"] == "annotated" and store.settings["draft"] is None
    for row, item in zip(rows, store.labelled(), strict=True):
        ids, flags = marked_tokens(tokenizer, row["answer"], row["wrong"])
        prompt = tokenizer(row["prompt"])["input_ids"]
        chosen = run(target, [*prompt, *ids])[0].argmax(-1).tolist()[len(prompt) - 1 : -1]
        assert (item.prompt, item.reference, item.response) == (prompt, ids, ids)
        assert [(m.position, m.target_token, m.draft_token, m.important) for m in item.mismatches] == list(
            zip(range(len(ids)), chosen, ids, flags, strict=True)
        )


@pytest.mark.parametrize(
    ("answer", "wrong", "message"),
    [
        ("abc", [[2, 4]], r"\[2, 4\] is not a \[start, end\] in it"),
        ("abc", [[1, 1]], "is not a"),
        ("abc", [0, 2], "span 0 is not a"),
        ("abc", [{"start": 0, "end": 2}], "is not a"),
        ("", [], "Answer 0 is empty"),
    ],
)
def test_bad_marks(pair, answer, wrong, message):
    with pytest.raises(ValueError, match=message):
        marked_tokens(pair[2], answer, wrong)


def test_corrected_marks_are_other_labels(pair, tmp_path):
    target, _, tokenizer = pair

    def run(wrong, length=100):
        rows = [{"prompt": "Tom has 3 apples.", "answer": ANSWER, "wrong": wrong}]
        task = annotated_answers_task("nowhere.jsonl", length)
        done = []
        method = Annotated(rows, tokenizer)
        label_samples(target, None, tokenizer, task, rows, tmp_path, method=method, on_prompt=done.append)
        return len(done)

    assert run(None) == 1 and run([]) == 0 and run([], length=200) == 0
    with pytest.raises(ValueError, match="answers was"):
        run([[0, 3]])


def test_every_row_is_for_training(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": "a", "answer": str(i), "wrong": []}) for i in range(25)))
    task = annotated_answers_task(str(path))
    assert len(task.load("train", None)) == 25 and not task.load("validation", None)


def test_an_answer_beyond_the_limit(pair, tmp_path):
    rows = [{"prompt": "a", "answer": ANSWER, "wrong": []}]
    task = annotated_answers_task("nowhere.jsonl", max_new_tokens=3)
    with pytest.raises(ValueError, match="raise max_new_tokens \\(currently 3\\)"):
        label_samples(pair[0], None, pair[2], task, rows, tmp_path, method=Annotated(rows, pair[2]))
