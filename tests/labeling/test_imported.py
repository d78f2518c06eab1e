"""Records in the format of the AutoJudge authors give the same store from every file type; pickles are not opened."""

import json

import pytest
from datasets import Dataset

from hf_autojudge.labeling import LabelledPrompt, Mismatch, import_labels

RECORDS = [
    {"id": 0, "changed_token_indices": [[3, True, 9, 4], [5, False, 8, 6]], "current_response": [1, 7, 7, 9, 5, 6, 2]},
    {"id": 1, "changed_token_indices": [], "current_response": [1, 7, 2]},
    {"id": 2, "changed_token_indices": [[2, False, 5, 3]], "current_response": [1, 7, 3, 2]},
]
EXPECTED = [
    LabelledPrompt([1, 7, 7], [Mismatch(0, 9, 4, True), Mismatch(2, 8, 6, False)], [9, 5, 6, 2], [9, 5, 6, 2]),
    LabelledPrompt([1, 7], [Mismatch(0, 5, 3, False)], [3, 2], [3, 2]),
]


def write(suffix, folder):
    path = folder / f"records{suffix}"
    if suffix == ".json":
        path.write_text(json.dumps([r | {"current_response": [r["current_response"]]} for r in RECORDS]))
    elif suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, RECORDS)) + "\n")
    else:
        plain = [
            r | {"changed_token_indices": [list(map(int, m)) for m in r["changed_token_indices"]]} for r in RECORDS
        ]
        data = Dataset.from_list(plain)
        if suffix == ".parquet":
            data.to_parquet(path)
        else:
            data.save_to_disk(path)
            if suffix == ".arrow":
                path = next(path.glob("*.arrow"))
    return path


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet", ".arrow", ""])
def test_every_file_type(suffix, tmp_path):
    store = import_labels(write(suffix, tmp_path), tmp_path / "labels", "org/target", "org/draft")
    assert store.labelled() == EXPECTED and store.done() == {0, 2}
    assert (store.settings["method"], store.settings["target"]) == ("imported", "org/target")


def test_prompt_length_and_skip(tmp_path):
    records = [RECORDS[0] | {"prompt_length": 2}, RECORDS[2] | {"skip": True}]
    path = tmp_path / "r.json"
    path.write_text(json.dumps(records))
    (found,) = import_labels(path, tmp_path / "labels", "t", "d").labelled()
    assert found.prompt == [1, 7] and [m.position for m in found.mismatches] == [1, 3]


def test_a_pickle_is_not_opened(tmp_path):
    path = tmp_path / "important_tokens.pt"
    path.write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR.")
    with pytest.raises(ValueError, match="is a pickle"):
        import_labels(path, tmp_path / "labels", "t", "d")
    assert not (tmp_path / "labels").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{not json", "cannot be read as .json"),
        ('[{"current_response": [1]}]', "Record 0 is not in AutoJudge's format"),
        ('[{"changed_token_indices": [[1, 2]], "current_response": [1]}]', "4 values per mismatch"),
        ('[{"changed_token_indices": [[9, true, 1, 2]], "current_response": [1, 2]}]', "do not lie in its 2 tokens"),
        ('{"a": 1}', "Record 0"),
        (
            '[{"id": "x-1", "changed_token_indices": [[1, true, 1, 2]], "current_response": [1, 2]}]',
            "id is a number",
        ),
        ('[{"id": -1, "changed_token_indices": [[1, true, 1, 2]], "current_response": [1, 2]}]', "id -1"),
        ('[{"changed_token_indices": [[1, true, 1, 9999999999]], "current_response": [1, 2]}]', "9999999999"),
    ],
)
def test_other_formats_are_refused(tmp_path, text, message):
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        import_labels(path, tmp_path / "labels", "t", "d")


def test_an_index_has_one_record(tmp_path):
    path, other = tmp_path / "a.json", tmp_path / "b.json"
    path.write_text(json.dumps([RECORDS[0], RECORDS[2] | {"id": 0}]))
    with pytest.raises(ValueError, match="two different records for index 0"):
        import_labels(path, tmp_path / "labels", "t", "d")
    assert not (tmp_path / "labels").exists()
    path.write_text(json.dumps([RECORDS[0]]))
    other.write_text(json.dumps([RECORDS[2] | {"id": None, "global_id": 0}]))
    for _ in range(2):  # importing the same labels again changes nothing
        assert import_labels(path, tmp_path / "labels", "t", "d").labelled() == EXPECTED[:1]
    with pytest.raises(ValueError, match=r"other labels at the indices \[0\]"):
        import_labels(other, tmp_path / "labels", "t", "d")


def test_missing_file_or_unknown_suffix(tmp_path):
    with pytest.raises(ValueError, match="There is no file"):
        import_labels(tmp_path / "x.json", tmp_path / "labels", "t", "d")
    for name in ("x.txt", "x.safetensors"):
        (tmp_path / name).touch()
        with pytest.raises(ValueError, match="must be .json"):
            import_labels(tmp_path / name, tmp_path / "labels", "t", "d")
