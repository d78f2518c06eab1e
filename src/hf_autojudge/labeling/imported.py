"""Imports the labels that the AutoJudge authors' scripts mined into a [`LabelStore`].

Their `find_important_tokens*.py` save a list of dictionaries with `torch.save`. Such a file is a pickle, which can run
any code when it is opened, so it is not read here. If you trust the file, convert it to JSON once:

    import json, torch
    records = torch.load("important_tokens.pt", weights_only=False)
    keep = ("id", "global_id", "skip", "changed_token_indices")
    plain = [{name: r[name] for name in keep if name in r}
             | {"current_response": r["current_response"].flatten().tolist()} for r in records]
    json.dump(plain, open("important_tokens.json", "w"))

or to Arrow with `datasets.Dataset.from_list(plain).save_to_disk(folder)`. Concatenate the files of several processes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, load_from_disk

from hf_autojudge.labeling.records import LabelledPrompt, Mismatch
from hf_autojudge.labeling.store import LabelStore

PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin")


def import_labels(
    path: str | os.PathLike,
    folder: str | os.PathLike,
    target: str,
    draft: str,
    task: str = "gsm8k",
) -> LabelStore:
    """Write records in the format of the AutoJudge authors into a label store, ready for training.

    Fields of a record:

    - `changed_token_indices`: a list of `(position, important, target token, draft token)`. Positions count from the
      first token of the prompt.
    - `current_response`: the token ids of the prompt and the last accepted answer.
    - `id` or `global_id` (optional): the index of the prompt in the store. Defaults to the record's number.
    - `prompt_length` (optional): where the answer begins. Defaults to the first mismatch; features do not depend on
      it.
    - `skip` (optional): if true, the record is left out, as are records without mismatches (the authors'
      `calc_hiddens.py` does the same).

    Args:
        path (`str` or `Path`): A `.json` file (a list), a `.jsonl` file, a folder written by
            `datasets.Dataset.save_to_disk`, or an `.arrow` or `.parquet` file.
        folder (`str` or `Path`): Folder of the store.
        target (`str`): Repository or folder of the target the labels were made with.
        draft (`str`): Repository or folder of the draft.
        task (`str`, *optional*, defaults to `"gsm8k"`): Name of the task.

    Returns:
        [`LabelStore`]: The store with the imported labels.

    Raises:
        ValueError: For a pickle, a file that cannot be read, a record of another format, or two different records for
            one index. Nothing is written then.
    """
    imported: dict[int, LabelledPrompt] = {}
    for number, record in enumerate(_read_records(Path(path))):
        converted = _convert(number, record)
        if converted is None:
            continue
        index, labels = converted
        if imported.setdefault(index, labels) != labels:
            raise ValueError(f"{path} has two different records for index {index}; give each record its own id.")
    settings = {"method": "imported", "target": target, "draft": draft, "task": task}
    store = LabelStore(folder, settings, {"imported_from": os.fspath(path)})
    existing = dict(zip(sorted(store.done()), store.labelled(), strict=True)) if store.done() else {}
    if conflicts := [index for index in imported if existing.get(index, imported[index]) != imported[index]]:
        raise ValueError(
            f"{folder} already has other labels at the indices {conflicts[:5]} of {path}; import all records as one "
            "file, or into another folder."
        )
    for index, labels in imported.items():
        store.add(index, labels)
    return store


def _read_records(path: Path) -> Iterable[Mapping[str, Any]]:
    suffix = path.suffix
    if suffix in PICKLES:
        raise ValueError(
            f"{path} is a pickle, which can run code when it is opened; convert it to JSON first, as "
            "hf_autojudge.labeling.imported describes."
        )
    if not path.exists():
        raise ValueError(f"There is no file {path}.")
    try:
        if path.is_dir():
            return load_from_disk(str(path))
        if suffix == ".json":
            return json.loads(path.read_text(encoding="utf-8"))
        if suffix == ".jsonl":
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        if suffix == ".parquet":
            return Dataset.from_parquet(str(path), keep_in_memory=True)
        if suffix == ".arrow":
            return Dataset.from_file(str(path))
    except (json.JSONDecodeError, UnicodeDecodeError, pa.ArrowException, KeyError) as error:
        raise ValueError(f"{path} cannot be read as {suffix or 'an Arrow data set'} ({error}).") from error
    raise ValueError(f"{path} must be .json, .jsonl, .arrow, .parquet or a folder of save_to_disk.")


def _convert(number: int, record: Mapping[str, Any]) -> tuple[int, LabelledPrompt] | None:
    """The index and the labels of a record; `None` if it has no labels."""
    try:
        index = next((record[name] for name in ("id", "global_id") if record.get(name) is not None), number)
        changed = sorted(
            (int(position), bool(important), int(target), int(draft))
            for position, important, target, draft in record["changed_token_indices"]
        )
        sequence = record["current_response"]
        if len(sequence) == 1 and isinstance(sequence[0], list):  # a batch of one
            (sequence,) = sequence
        sequence = [int(token) for token in sequence]
        if not changed or record.get("skip"):
            return None
        index, prompt_length = int(index), int(record.get("prompt_length") or changed[0][0])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"Record {number} is not in AutoJudge's format ({type(error).__name__}: {error}): it needs "
            "changed_token_indices, a list with 4 values per mismatch, and current_response, a list of token ids; the "
            "id is a number."
        ) from error
    tokens = [*sequence, *(token for _, _, target, draft in changed for token in (target, draft))]
    if index < 0 or not 0 <= min(tokens) <= max(tokens) < 2**31:
        raise ValueError(
            f"Record {number} has the id {index} and token ids from {min(tokens)} to {max(tokens)}; all must be 0 or "
            "more, and token ids less than 2**31."
        )
    if not 0 < prompt_length <= changed[0][0] or changed[-1][0] >= len(sequence):
        raise ValueError(
            f"Record {number} has mismatches at {changed[0][0]} to {changed[-1][0]}, which do not lie in its "
            f"{len(sequence)} tokens after a prompt of {prompt_length}."
        )
    response = sequence[prompt_length:]
    mismatches = [
        Mismatch(position - prompt_length, target, draft, important) for position, important, target, draft in changed
    ]
    return index, LabelledPrompt(sequence[:prompt_length], mismatches, response, response)
